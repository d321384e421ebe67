"""Redraw the diagrams of ARCHITECTURE.md from the tables of the state machines.

    python docs/diagrams.py

A diagram stands between two marker comments; what lies between them is replaced.
"""

from __future__ import annotations

import re
from pathlib import Path

from modes import load_ladder
from supervisor.core.machine import RUN_LIFE, StateMachine, ladder_moves

PAGE = Path(__file__).parent / "ARCHITECTURE.md"


def diagrams() -> dict[str, str]:
    """Every diagram by the name in its marker, as Mermaid text."""
    names = load_ladder().names
    return {
        "ladder": StateMachine(ladder_moves(names), names).mermaid(),
        "run": RUN_LIFE.mermaid(),
    }


def redrawn(page: str) -> str:
    """The page with every diagram made anew.

    Raises:
        ValueError: a diagram has no place, or more than one.
    """
    for name, text in diagrams().items():
        begin, end = f"<!-- diagram: {name} -->", f"<!-- end: {name} -->"
        block = f"{begin}\n```mermaid\n{text}\n```\n{end}"
        place = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
        page, found = place.subn(lambda _, block=block: block, page)
        if found != 1:
            raise ValueError(f"the page has {found} places for the diagram {name!r}, not one")
    return page


if __name__ == "__main__":
    PAGE.write_text(redrawn(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
