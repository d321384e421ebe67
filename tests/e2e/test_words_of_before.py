"""What the version before has written in other words is read as if it had been written in these.

`tests/data/version-2` is from a home of it: a run was quarantined (`held` then), requests (then
`wishes`) were granted and refused, modes pinned and forbidden, training paused.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import msgspec
import pytest

from state.answers import Answers
from state.archive import Archive
from state.records import LOG_VERSION, SCHEMA_VERSION
from state.renames import RENAMES, in_words_of_today
from state.store import Store
from supervisor.config import Config, InForce
from supervisor.core import policy
from supervisor.core.events import Event
from supervisor.core.goodput import measure
from supervisor.core.machine import LIFE
from supervisor.core.replay import decisions, replay
from supervisor.core.settings import Settings
from supervisor.journal import read
from testkit.machine import Machine

DATA = Path(__file__).parents[1] / "data/version-2"
LOG = DATA / "decisions.jsonl"


def raw() -> list[dict[str, Any]]:
    """The lines as they stand in the file, read by nothing of ours."""
    return [json.loads(line) for line in LOG.read_text().splitlines()]


def test_the_old_log_holds_every_old_word() -> None:
    """So the others can fail."""
    lines = raw()
    assert {line["version"] for line in lines} == {2}
    events = {line["event"] for line in lines}
    assert {"hold.changed", "run.held", "wish.refused"} <= events
    assert {"wish"} <= {line["rule"] for line in lines}
    assert any("wish" in line for line in lines)
    assert any(line["facts"]["wish"] for line in lines if "facts" in line)


def test_each_line_has_the_events_and_rules_of_today() -> None:
    """Nothing else of it is another."""
    lines = list(read(LOG))
    assert len(lines) == len(raw())
    assert {line["event"] for line in lines} <= set(Event)
    rules = {rule.__name__ for of_one in policy.RULES.values() for rule in of_one}
    assert {line["rule"] for line in lines if "facts" in line} <= {
        *rules,
        "pinned",
        "paused",
        "stay",
    }
    for line, before in zip(lines, raw(), strict=True):
        same = ("seq", "time", "boot", "now_s", "reason", "version", "old", "new", "run", "runs")
        assert [line.get(key) for key in same] == [before.get(key) for key in same]


def test_old_decisions_are_decided_again() -> None:
    """To the last bit of the ledger, with the request that each of them answered."""
    replayed = replay(read(LOG))
    assert (replayed.decisions, replayed.differences, replayed.unreadable) == (8, 0, 0)
    asked = [one.facts.request for one in decisions(read(LOG)) if one.facts.request]
    assert [one.kind for one in asked] == [
        line["evidence"]["kind"] for line in raw() if "wish" in line
    ]


def test_the_goodput_of_an_old_log_is_what_it_was() -> None:
    """Every second is where the version before had it."""
    then = json.loads((DATA / "goodput.json").read_text())
    now = msgspec.to_builtins(measure(read(LOG)))
    assert now["goodput"] == then["goodput"]
    assert now["spent_s"] == then["spent_s"]
    del now["not_demanded_s"]["stop"], then["unwanted_s"]["stop"]  # which goes on until now
    assert now["not_demanded_s"] == {"guard": 0.0, "quiet_hours": 0.0, **then["unwanted_s"]}
    assert [run["deaths"] for run in now["runs"]] == [run["deaths"] for run in then["runs"]]


def test_an_old_state_goes_on(tmp_path: Path) -> None:
    """The run that was held is quarantined, and what was wanted is demanded."""
    shutil.copy(DATA / "state.json", tmp_path / "state.json")
    memory, trouble = Store(tmp_path / "state.json").load()
    assert memory is not None
    assert (memory.schema, trouble) == (SCHEMA_VERSION, ())
    assert [(run.name, run.status) for run in memory.runs] == [("A", "quarantined")]
    (before,) = json.loads((DATA / "state.json").read_bytes())["memory"].values()
    assert list(memory.requests_done) == before["wishes_done"]
    assert list(memory.demanded) == before["wanted"]


def test_a_run_that_had_left_while_it_was_held_is_known(tmp_path: Path) -> None:
    """The archive is read line by line, of either version."""
    line = {"version": 1, "at": 1.0, "epoch": 1}
    line["run"] = {
        "asked": {"id": "a", "trainer": "drill", "name": "a", "seed": 1},
        "status": "held",
    }
    (tmp_path / "archive.jsonl").write_text(f"{json.dumps(line)}\n")
    archive = Archive(tmp_path / "archive.jsonl")
    (left,) = archive.find().values()
    assert left.run.status == "quarantined"
    archive.add(left)
    assert archive.find() == {"a": left}
    assert json.loads(msgspec.json.encode(left))["version"] == 2


def test_an_answer_of_the_version_before_is_found(tmp_path: Path) -> None:
    """Whoever asked it, and asks for the answer after the upgrade, has it."""
    answer = {"wish": "a-1", "refused": True, "reason": "no"}
    (tmp_path / "a-1.json").write_text(json.dumps(answer))
    found = Answers(tmp_path).read("a-1")
    assert found is not None
    assert (found.request, found.refused) == ("a-1", True)


def test_settings_that_were_kept_in_old_words_hold(tmp_path: Path) -> None:
    """Also where a power cut has taken the file itself."""
    kept = msgspec.json.decode((DATA / "settings.last.json").read_bytes(), type=InForce)
    limits = kept.settings.recovery
    assert (limits.quarantine_after, limits.quarantine_s) == (2, 600.0)
    again = msgspec.json.decode(msgspec.json.encode(kept), type=InForce)
    assert again.settings.recovery.quarantine_after == 2


def test_old_words_in_the_settings_are_told_with_the_new_ones(tmp_path: Path) -> None:
    """One notice each; they mean what they meant."""
    path = tmp_path / "supervisor.toml"
    path.write_text('[recovery]\nheld_after = 3\n[notify]\nevents = ["run.held", "run.died"]\n')
    config = Config(path)
    assert config.settings.recovery.quarantine_after == 3
    assert config.settings.notify.chosen == {"run.quarantined", "run.died"}
    key, event = config.dated
    assert key.endswith(
        "held_after in [recovery] is the old form of quarantine_after: write quarantine_after = 3"
    )
    assert event == f"{path}: 'run.held' in notify.events is the old name of 'run.quarantined'"
    with pytest.raises(msgspec.ValidationError, match="old form"):
        msgspec.convert({"recovery": {"held_s": 1.0, "quarantine_s": 2.0}}, Settings)


def test_the_commands_read_an_old_log(machine: Machine) -> None:
    """`decisions`, `why`, `replay` and `goodput`, by the words of either version."""
    shutil.copy(LOG, machine.home / "decisions.jsonl")
    held = machine("decisions", "--event", "run.held")
    assert held.returncode == 0
    assert held.stdout == machine("decisions", "--event", "run.quarantined").stdout != ""
    assert "run.quarantined" in held.stdout
    numbers = [line["seq"] for line in raw() if "wish" in line and "facts" in line]
    why = machine("why", str(numbers[0]))
    assert why.returncode == 0
    assert "request" in why.stdout
    assert machine("replay").returncode == 0
    assert machine("goodput").returncode == 0


def test_every_new_word_is_one_that_is_used() -> None:
    """A row of the table that leads nowhere would hide what it renames."""
    assert set(RENAMES["event"].values()) <= set(Event)
    assert set(RENAMES["status"].values()) <= {move.source for move in LIFE}
    fields = {*RENAMES["field"].values()}
    assert fields == {"demanded", "memory_awaited_s", "request", "requests_done"}
    line = {"version": LOG_VERSION, "event": "run.died", "run": "a", "runs": ["wish"]}
    assert in_words_of_today(line) == line
