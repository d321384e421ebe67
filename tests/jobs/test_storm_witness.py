"""Who judges a storm says what is wrong, and has nothing against what is right."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from testkit.storm_witness import Rows, Witness

STALE_S = 10.0


class Story:
    """What a witness is told of one job, which was stopped and went on, and is COMPLETED."""

    def __init__(self) -> None:
        self.lines = [
            "10 begins j home-0 0 0", "11 steps j home-0 1 0", "12 begins j home-0 1 1",
            "13 steps j home-0 2 1", "14 ends j home-0 2 1",
        ]  # fmt: skip
        self.answers = [told("RUNNING", as_of=11.0, at=13.0), told("COMPLETED", at=15.0)]
        self.jobs = [("j", '{"number": 0}', "COMPLETED", 1, "t")]
        self.told = ["PENDING", "RUNNING", "COMPLETED"]
        self.attempts = [("j", "t", 1, "COMPLETED")]
        self.dark = (20.0, 30.0)

    def judged(self, ledger: Path) -> list[str]:
        """What a witness says of it."""
        witness = Witness(ledger, STALE_S)
        (ledger / "lines").write_text("".join(f"{line}\n" for line in self.lines))
        for at, job in self.answers:
            witness.answered(at, at, job)
        witness.was_over("j", 15.0, math.inf)
        witness.was_dark("home-0", *self.dark)
        events = [("j", json.dumps({"status": status})) for status in self.told]
        return witness.judge({0: ("j", "goes well")}, Rows(self.jobs, events, self.attempts))


def told(status: str, *, at: float, as_of: float | None = None, **fields: Any) -> Any:
    """When the API has answered, and what."""
    seen = datetime.fromtimestamp(at if as_of is None else as_of, UTC)
    progress = 100 if status == "COMPLETED" else 50
    answer = {"job_id": "j", "status": status, "progress": progress, "stale": False}
    return at, {**answer, "as_of": seen.isoformat(), **fields}


def test_a_witness_has_nothing_against_what_went_well(tmp_path: Path) -> None:
    """A kill that cost nothing is none of its business."""
    assert Story().judged(tmp_path) == []


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda it: it.jobs.append(("k", '{"number": 0}', "COMPLETED", 1, "t")), "instead of"),
        (lambda it: it.jobs.clear(), "instead of"),
        (lambda it: it.told.append("COMPLETED"), "has ended as"),
        (lambda it: it.told.append("FAILED"), "has ended as"),
        (lambda it: it.attempts.append(("j", "u", 1, "COMPLETED")), "attempts count"),
        (lambda it: it.attempts.clear(), "attempts count"),
        (lambda it: it.jobs.__setitem__(0, (*it.jobs[0][:3], 2, "t")), "has used 2 attempts"),
        (lambda it: it.lines.append("12 twin j home-0 1 1"), "two programs"),
        (lambda it: it.lines.append("14 begins j home-0 0 0"), "a program began at 0"),
        (lambda it: it.lines.append("14 begins j home-0 1 2"), "a program began at 1"),
        (lambda it: it.lines.pop(), "no program of it has come to its end"),
        (lambda it: it.lines.append("16 steps j home-0 2 1"), "after its end was told"),
        (lambda it: it.lines.append("9 begins k home-0 0 0"), "nobody knows it"),
        (lambda it: it.answers.append(told("RUNNING", at=16.0)), "COMPLETED, and then"),
        (lambda it: it.answers.insert(0, told("RUNNING", as_of=1.0, at=12.0)), "not stale 11.0 s"),
        (lambda it: it.answers.insert(0, told("RUNNING", at=9.0, stale=True)), "stale 0.0 s"),
        (lambda it: it.answers.insert(0, told("RUNNING", at=9.0, progress=100)), "progress 100"),
        (lambda it: setattr(it, "dark", (10.5, 30.0)), "was seen to run where nothing lived"),
    ],
)
def test_a_witness_notices(tmp_path: Path, spoil: Any, said: str) -> None:
    """Each thing that must not be, it says by name."""
    story = Story()
    spoil(story)
    assert any(said in line for line in story.judged(tmp_path)), story.judged(tmp_path)
