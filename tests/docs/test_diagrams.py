"""The diagrams of the architecture are those of the state machines."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "docs" / "diagrams.py"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("diagrams", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_shows_the_tables_as_they_are(script):
    """Redrawing changes nothing; if this fails, run `python docs/diagrams.py`."""
    page = script.PAGE.read_text(encoding="utf-8")
    assert script.redrawn(page) == page


def test_a_page_that_lost_a_marker_is_refused(script):
    """A diagram without a place is a mistake, not nothing to do."""
    with pytest.raises(ValueError, match="0 places"):
        script.redrawn("# nothing here\n")
