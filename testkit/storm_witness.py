"""Who judges a storm: from what the programs wrote, what the API answered, and the rows at the end.

Nothing here is shared with what is judged: the ledger is that of `testkit.counted`, answers are as
JSON came, and the rows are read by the drivers of the databases.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
import threading
from collections import Counter, defaultdict
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import psycopg

ENDS = ("COMPLETED", "FAILED", "CANCELLED")
ENDS_OF = {
    "goes well": (["COMPLETED"],),
    "dies once": (["COMPLETED"],),
    "never": (["FAILED", "COMPLETED"],),
    "is cancelled": (["CANCELLED"], ["COMPLETED"]),
}
"""what becomes of a job: how it may end; one that is cancelled may be quicker, and one that could
never work is tried again once that is mended"""
LINES = "lines"
"""the file of the ledger"""
ATTEMPTS = Counter({"dies once": 1})
"""by how many more than one attempt a job may have: by its own failures"""


class Line(NamedTuple):
    """What one program did."""

    at: float
    what: str
    job: str
    home: str
    step: int
    newest: int


class Rows(NamedTuple):
    """What stands in the store at the end."""

    jobs: Sequence[tuple[str, str, str, int, str]]
    """id, metadata, status, attempt, token"""
    told: Sequence[tuple[str, str]]
    """id and content of the events that tell of a status, in their order"""
    attempts: Sequence[tuple[str, str, int, str]]
    """id, token, number, outcome"""

    @classmethod
    def of(cls, address: str) -> Rows:
        """Read them, of the file of a home or of a PostgreSQL."""
        there: Any = psycopg if address.startswith("postgresql:") else sqlite3
        with contextlib.closing(there.connect(address)) as store:
            return cls(
                *(
                    store.execute(f"SELECT {asked}").fetchall()
                    for asked in (
                        "job_id, metadata, status, attempt, token FROM jobs",
                        "job_id, content FROM events WHERE kind = 'state' ORDER BY sequence",
                        "job_id, token, number, outcome FROM attempts",
                    )
                )
            )


class Witness:
    """Remembers what is answered, and says at the end what was wrong.

    Args:
        ledger: the folder that the programs write into.
        stale_s: as the settings have it.
    """

    def __init__(self, ledger: Path, stale_s: float) -> None:
        self._ledger, self._stale_s = ledger, stale_s
        self._lock = threading.Lock()
        self._last: dict[str, dict[str, Any]] = {}
        self._over: list[tuple[str, float, float]] = []
        """jobs, from when to when they were told to be over"""
        self._dark: list[tuple[str, float, float]] = []
        """homes, and from when to when nothing lived there that trains"""
        self._late: dict[str, str] = {}
        """jobs that were taken over, and the homes that had them"""
        self._ran: list[tuple[str, float, float]] = []
        """jobs that were told to run: asked when, and seen when at last"""
        self.wrong: list[str] = []
        self.counted: Counter[str] = Counter()

    @property
    def size_bytes(self) -> int:
        """How much the programs have written."""
        with contextlib.suppress(FileNotFoundError):
            return (self._ledger / LINES).stat().st_size
        return 0

    def lines(self) -> list[Line]:
        """What the programs wrote."""
        with contextlib.suppress(FileNotFoundError):
            words = [line.split() for line in (self._ledger / LINES).read_text().splitlines()]
            return [
                Line(float(at), what, job, home, int(step), int(newest))
                for at, what, job, home, step, newest in words
            ]
        return []

    def at_home(self) -> dict[str, str]:
        """The home in which something was done last, of each job."""
        return {line.job: line.home for line in self.lines()}

    def answered(self, asked_at: float, came_at: float, job: dict[str, Any]) -> None:
        """What the API told of a job."""
        with self._lock:
            self.counted["answers"] += 1
            before = self._last.get(job["job_id"], job)
            self._last[job["job_id"]] = job
        as_of, status = seconds(job["as_of"]), job["status"]
        if (job["progress"] == 100) != (status == "COMPLETED"):
            self._say(f"progress {job['progress']} of a job that is {status}", job["job_id"])
        if before["status"] == "COMPLETED" and status != "COMPLETED":
            self._say(f"COMPLETED, and then {status}", job["job_id"])
        if status != "RUNNING":
            if job["stale"]:
                self._say(f"stale, though it is {status}", job["job_id"])
            return
        # The server has looked at its clock between the two.
        if asked_at - as_of > self._stale_s and not job["stale"]:
            self._say(f"not stale {asked_at - as_of:.1f} s after its last sign", job["job_id"])
        if came_at - as_of <= self._stale_s and job["stale"]:
            self._say(f"stale {came_at - as_of:.1f} s after its last sign", job["job_id"])
        with self._lock:
            self.counted["stale answers"] += job["stale"]
            self._ran.append((job["job_id"], asked_at, as_of))

    def was_over(self, job_id: str, from_at: float, until_at: float) -> None:
        """From then until then a job was told to have ended."""
        with self._lock:
            self._over.append((job_id, from_at, until_at))

    def was_dark(self, home: str, from_at: float, until_at: float) -> None:
        """From then until then nothing lived in a home that trains."""
        self._dark.append((home, from_at, until_at))

    def was_taken_over(self, job_id: str, home: str) -> None:
        """What a home still does of a job counts no more."""
        self._late[job_id] = home

    def judge(self, wanted: dict[int, tuple[str, str]], rows: Rows) -> list[str]:
        """All that was wrong.

        Args:
            wanted: jobs by number: the id that was answered, and what was to become of it.
            rows: what stands in the store.
        """
        numbers = Counter(json.loads(metadata)["number"] for _, metadata, *_ in rows.jobs)
        if numbers != Counter(wanted.keys()):
            self._say(f"jobs are {numbers} instead of {sorted(wanted)}")
        kinds = dict(wanted.values())
        if {row[0] for row in rows.jobs} != kinds.keys():
            self._say("the ids in the store are others than those that were answered")
        self._judge_ends(kinds, rows)
        self._judge_programs(kinds)
        return self.wrong

    def _judge_ends(self, kinds: dict[str, str], rows: Rows) -> None:
        told: dict[str, list[str]] = defaultdict(list)
        for job, content in rows.told:
            status = json.loads(content).get("status")
            told[job] += [status] if status in ENDS else []
        done = [(job, token) for job, token, _, outcome in rows.attempts if outcome == "COMPLETED"]
        for job, _, status, attempt, token in rows.jobs:
            kind = kinds.get(job, "goes well")
            if told[job] not in ENDS_OF[kind] or told[job][-1] != status:
                self._say(f"it {kind}, has ended as {told[job]}, and is {status}", job)
            last = self._last.get(job, {}).get("status")
            if last != status:
                self._say(f"the API told {last} at last, and it is {status}", job)
            if attempt > 1 + ATTEMPTS[kind]:
                self._say(f"it {kind}, and has used {attempt} attempts", job)
            counting = [one for one in done if one[0] == job]
            if counting != [(job, token)] * (status == "COMPLETED"):
                self._say(f"{len(counting)} attempts count, under {token}", job)
            self.counted[status] += 1

    def _judge_programs(self, kinds: dict[str, str]) -> None:
        by_job: dict[str, list[Line]] = defaultdict(list)
        for line in self.lines():
            by_job[line.job].append(line)
            self.counted[line.what] += 1
            if line.what == "twin":
                self._say("two programs of it lived at once in one home", line.job)
        for job in by_job.keys() - kinds.keys():
            self._say("was trained, and nobody knows it", job)
        for job, own in by_job.items():
            self._judge_begins(job, [line for line in own if line.what == "begins"])
        for job, known in self._last.items():
            ended = {line.home for line in by_job[job] if line.what == "ends"}
            if known["status"] == "COMPLETED" and not ended - {self._late.get(job)}:
                self._say("COMPLETED, and no program of it has come to its end", job)
        for job, from_at, until_at in self._over:
            lived = [line for line in by_job[job] if from_at < line.at < until_at]
            if any(line.home != self._late.get(job) for line in lived):
                self._say("something of it lived after its end was told", job)
        self._judge_the_dark({job: {line.home for line in own} for job, own in by_job.items()})

    def _judge_begins(self, job: str, begins: Sequence[Line]) -> None:
        """Each program goes on from the newest checkpoint, and none from an earlier one."""
        reached: Counter[str] = Counter()
        for line in begins:
            if line.step < max(line.newest, reached[line.home]):
                had = f"{line.newest} kept, and {reached[line.home]} handed back before"
                self._say(f"a program began at {line.step}, with {had}", job)
            reached[line.home] = line.step

    def _judge_the_dark(self, homes: dict[str, set[str]]) -> None:
        for home, from_at, until_at in self._dark:
            for job, asked_at, as_of in self._ran:
                if homes.get(job) == {home} and from_at < asked_at < until_at and as_of > from_at:
                    self._say("was seen to run where nothing lived", job)

    def _say(self, what: str, job: str = "") -> None:
        with self._lock:
            self.wrong.append(f"{job}: {what}" if job else what)


def seconds(moment: str) -> float:
    """A moment as the API tells it, in seconds since 1970."""
    return datetime.fromisoformat(moment).timestamp()
