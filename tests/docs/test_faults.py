"""The page about faults names tests that exist, and every test of a fault."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/faults.md").read_text(encoding="utf-8")
NAMED = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGE)
OF_THE_LABS = {"test_worlds.py", "test_chaos.py", "test_chaos_beside.py"}
"""tests of how the faults are made, not of what is done about them"""


@pytest.mark.parametrize(("path", "name"), NAMED)
def test_every_named_test_exists(path: str, name: str) -> None:
    """A test that was renamed is renamed here, too."""
    assert re.search(rf"^def {name}\(", (ROOT / path).read_text(encoding="utf-8"), re.MULTILINE)


def test_every_test_of_a_fault_is_named() -> None:
    """A fault that is newly tested has its place in the table."""
    tests = {
        (f"tests/faults/{path.name}", name)
        for path in (ROOT / "tests/faults").glob("test_*.py")
        if path.name not in OF_THE_LABS
        for name in re.findall(r"^def (test_\w+)\(", path.read_text(encoding="utf-8"), re.MULTILINE)
    }
    assert tests <= {*NAMED}


def test_every_fault_has_a_proof() -> None:
    """Each row of the table says what happens, what is done, and which tests show it."""
    table = PAGE.partition("| --- | --- | --- |\n")[2].partition("\n\n")[0].splitlines()
    assert len(table) >= 25
    for row in table:
        happens, done, proof = row.strip("| ").split(" | ")
        assert happens
        assert done
        assert re.fullmatch(r"(`tests/[\w/]+\.py::\w+`(, )?)+", proof)
