"""Homes of the version before, and the version before in a home of this one.

`tests/data/schema-1` has state files that its daemon left behind, and its wheel.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import msgspec
import pytest

from state.migrations import MIGRATIONS
from state.records import SCHEMA_VERSION, Memory
from state.store import Store
from supervisor.core.replay import replay
from testkit.machine import Machine

DATA = Path(__file__).parents[1] / "data/schema-1"
STATES = sorted(DATA.glob("*.json"))
PATIENCE_S = 120.0
PARTS = ("asked", "attempt", "progress", "faults")


def raw(path: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The memory and the runs as they stand in a file, read by nothing of ours."""
    tables = json.loads(path.read_bytes())
    (memory,) = tables["memory"].values()
    return memory, list(tables["runs"].values())


@pytest.mark.parametrize("path", STATES, ids=lambda path: path.stem)
def test_nothing_of_an_older_home_is_lost(path: Path, tmp_path: Path) -> None:
    """Each value of each run is found again, under the name that it had."""
    shutil.copy(path, tmp_path / "state.json")
    memory, trouble = Store(tmp_path / "state.json").load()
    assert memory is not None
    assert trouble == ()
    assert memory.schema == SCHEMA_VERSION
    old, runs = raw(path)
    assert len(memory.runs) == len(runs)
    for run, before in zip(memory.runs, runs, strict=True):
        now = msgspec.to_builtins(run)
        found = {
            **now,
            **{key: value for part in PARTS for key, value in now.get(part, {}).items()},
        }
        target = before.pop("target_steps")
        assert found["target"] == {"unit": "steps", "count": target}
        assert {key: found[key] for key in before} == before
    goal = old["goal"]
    assert memory.goal.pauses == (("person",) if goal["paused"] else ())
    assert (memory.goal.mode, memory.goal.pinned) == (goal["mode"], goal["pinned"])
    assert msgspec.to_builtins(memory.ledger)["modes"] == old["ledger"]["modes"]
    # What was saved is read again as it is.
    Store(tmp_path / "state.json").save(memory)
    assert Store(tmp_path / "state.json").load() == (memory, ())


def test_an_answer_that_was_not_delivered_yet_is() -> None:
    """Whoever asked the older version hears of it from this one."""
    old, runs = raw(DATA / "young.json")
    line = {"seq": 9, "wish": "w", "event": "wish.refused", "reason": "no", "new": "light"}
    row = MIGRATIONS[1]({**old, "runs": runs, "boots": [], "outbox": [line, {"seq": 10}]})
    (answer,) = msgspec.convert(MIGRATIONS[2](row), Memory).answers
    assert (answer.request, answer.refused, answer.reason, answer.line) == ("w", True, "no", 9)


def test_a_line_of_an_older_log_is_decided_again() -> None:
    """Its goal tells a pause in another word; nothing else about the decision has changed."""
    facts: dict[str, Any] = {
        "now_s": 9.0, "at": 0.0, "boot_id": "b", "ladder": ["light"], "stable_s": 0.0,
        "goal": {"mode": "light", "paused": True}, "crashes_s": [], "cool_downs": {},
        "limits": {"name": "fixed"}, "work_left": True,
    }  # fmt: skip
    goal = {"mode": "light", "pinned": False, "paused": True, "forbidden": None}
    line = {
        "version": 1, "seq": 1, "event": "goal.changed", "rule": "paused", "facts": facts,
        "decision": {"goal": {**goal, "idle_until_s": None}},
    }  # fmt: skip
    replayed = replay([line])
    assert (replayed.decisions, replayed.first) == (1, None)


@pytest.mark.parametrize("words", [("run", "--plain"), ("show-state",), ("reset", "--yes")])
def test_the_version_before_leaves_a_newer_home_alone(
    machine: Machine, tmp_path: Path, words: tuple[str, ...]
) -> None:
    """One line that says what to do, and not a byte is changed."""
    (wheel,) = DATA.glob("*.whl")
    with ZipFile(wheel) as files:
        files.extractall(tmp_path / "older")
    home = machine.home
    machine.configure(
        "[policy]\ntick_s = 300\n"
    )  # with keys that the older one does not know it would not even look
    shutil.copy(DATA / "training.json", home / "state.json")
    memory, _ = Store(home / "state.json").load()
    assert memory is not None
    Store(home / "state.json").save(memory)
    before = (home / "state.json").read_bytes()
    older = str(tmp_path / "older/training_supervisor.py")
    asked = subprocess.run(
        [sys.executable, older, "supervisor.cli", "--home", str(home), *words],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert asked.returncode == 78, asked.stderr
    assert "has schema 5, this version knows up to 1" in asked.stderr
    assert len(asked.stderr.splitlines()) == 1
    assert (home / "state.json").read_bytes() == before
