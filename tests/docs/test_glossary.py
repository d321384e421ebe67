"""One word for one thing: the glossary is that of the code, and old words are gone from it."""

from __future__ import annotations

import argparse
import ast
import importlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import msgspec
import pytest

from state.records import Asked, Attempt, Faults, Goal, Memory, Progress, Run, RunStatus
from supervisor.commands import build_parser
from supervisor.core.events import Event
from supervisor.core.goodput import Goodput, RunGoodput
from supervisor.core.settings import Settings
from supervisor.report import Report, RunReport

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/ARCHITECTURE.md").read_text(encoding="utf-8")
TABLE = PAGE.partition("## Glossary")[2].partition("\n## ")[0]
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in TABLE.splitlines()
    if line.startswith("| ")
][2:]
OLD_WORDS = {word for row in ROWS for word in row[3].split()}
VALUES = (Memory, Run, Asked, Attempt, Progress, Faults, Goal, Settings, Report, RunReport)
OLD_FORMS = {"held_after", "held_s"}
"""keys of the settings that are still read"""


def names() -> Iterator[tuple[str, str]]:
    """What has a name that others see: where it is, and the name."""
    yield from (("an event", event) for event in Event)
    yield from (("a status of runs", status) for status in get_args(RunStatus))
    for kind in (*VALUES, Goodput, RunGoodput):
        yield from ((f"a field of {kind.__name__}", name) for name in kind.__struct_fields__)
    for table in msgspec.structs.fields(Settings):
        if isinstance(table.default, msgspec.Struct):
            for name in type(table.default).__struct_fields__:
                yield f"a key of [{table.name}]", name
    yield from commands(build_parser())
    for package in ("modes", "state", "supervisor", "trainers"):
        for path in (ROOT / package).rglob("*.py"):
            # Simulated machines have lives; so have games.
            if "simulation" in path.parts or path.stem in ("counterfactual", "game"):
                continue
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.ClassDef):
                    yield f"a class of {path.relative_to(ROOT)}", node.name


def commands(parser: argparse.ArgumentParser) -> Iterator[tuple[str, str]]:
    """The commands, and the options of each."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, sub in action.choices.items():
                yield "a command", name
                yield from commands(sub)
        yield from ((f"an option of {parser.prog}", word) for word in action.option_strings)


def words(name: str) -> set[str]:
    """The words of a name, however they are joined."""
    name = name.replace("half_life", "")  # which is nobody's life
    return {word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", name)}


def test_no_name_has_a_word_that_the_glossary_has_replaced() -> None:
    """`--lives` of `simulate` counts lives of machines, which is what they are."""
    allowed = OLD_FORMS | {"--lives"}
    found = [
        f"{where}: {name}"
        for where, name in names()
        if name not in allowed and words(name) & OLD_WORDS
    ]
    assert found == []


def test_the_old_words_are_those_that_were_renamed() -> None:
    """A table whose last column is empty would let everything pass."""
    assert {"wanted", "life", "hold", "held", "wish"} == OLD_WORDS
    assert words("run.held") == {"run", "held"}
    assert words("a_wish") & OLD_WORDS


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_each_word_is_something_in_the_code(row: list[str]) -> None:
    """The place is one that can be imported, and has a meaning beside it."""
    word, meaning, places, _ = row
    assert meaning
    for place in re.findall(r"`([\w.]+)`", places):
        parts = place.split(".")
        for length in range(len(parts), 0, -1):
            try:
                found = importlib.import_module(".".join(parts[:length]))
            except ModuleNotFoundError:
                continue
            break
        for part in parts[length:]:
            found = getattr(found, part)
    assert re.findall(r"`([\w.]+)`", places), word


def test_the_glossary_is_in_the_order_of_the_alphabet() -> None:
    """So a word is found."""
    assert [row[0] for row in ROWS] == sorted(row[0] for row in ROWS)
    assert len(ROWS) >= 30
