"""The pictures of the policy show what the policy does."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

DOCS = Path(__file__).parents[2] / "docs"
SCRIPT = DOCS / "policy_pictures.py"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("policy_pictures", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


NAMES = re.findall(r"\]\(pictures/([\w-]+)\.svg\)", (DOCS / "policy.md").read_text("utf-8"))


@pytest.mark.parametrize("name", NAMES)
def test_each_picture_is_what_the_policy_does_now(name, script):
    """Redrawing changes nothing; if this fails, run `python docs/policy_pictures.py`."""
    drawn = script.PICTURES[name]()
    assert (DOCS / f"pictures/{name}.svg").read_text(encoding="utf-8") == drawn
    ET.fromstring(drawn)  # noqa: S314 - our own


def test_each_picture_has_its_place_on_the_page(script):
    """None is drawn that nobody sees, and none is missing."""
    assert sorted(NAMES) == sorted(script.PICTURES)
    assert sorted(NAMES) == sorted(path.stem for path in (DOCS / "pictures").glob("*.svg"))
