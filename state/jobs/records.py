"""What the job store holds, all frozen, in the words of the API.

A field `..._at` is wall time in seconds since 1970, told by the store's own clock: that of the
database, which is one for all machines that share it.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from state.records import Rank

Status = Literal["PENDING", "RUNNING", "COMPLETED", "FAILED", "CANCELLED"]
"""between two attempts a job is PENDING; FAILED says that no attempt is left"""
LIVING: tuple[Status, ...] = ("PENDING", "RUNNING")
"""of jobs that have not ended"""
ENDED: tuple[Status, ...] = ("COMPLETED", "FAILED", "CANCELLED")
"""of jobs that have ended, once and for all but for a retry"""
EventKind = Literal["state", "step", "metric", "asked"]

Json = dict[str, Any]


class Schedule(msgspec.Struct, frozen=True, kw_only=True):
    """When a job is to be trained again and again."""

    cron: str
    timezone: str = "UTC"
    overlap: Literal["forbid", "allow"] = "forbid"
    """whether a firing may begin before the one before it has ended"""
    catch_up: Literal["none", "once", "all"] = "once"
    """which of the firings are made up for that nobody was there to make"""
    since_at: float = 0.0
    """firings before it are not this schedule's; the store says when it was asked for"""


class NewJob(msgspec.Struct, frozen=True, kw_only=True):
    """A job as it is submitted, validated by whoever calls."""

    tenant_id: str
    config: Json
    """what is to be trained, whole: the store reads nothing of it"""
    model_type: str | None = None
    trainer: str | None = None
    """by whose measured rates its time is told beforehand"""
    priority: Rank = "normal"
    metadata: Json = {}
    max_attempts: int = 4
    schedule: Schedule | None = None
    """not to be trained itself, but to bear children"""
    model_name: str | None = None
    """under which its model is kept, version by version; None: it leaves none"""


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody asked for: written by the API alone, and raised in `revision` each time."""

    tenant_id: str
    model_type: str | None
    trainer: str | None
    model_name: str | None
    config: Json
    metadata: Json
    priority: Rank
    max_attempts: int
    schedule: Schedule | None
    paused: bool
    cancel_wanted: bool
    revision: int


class Became(msgspec.Struct, frozen=True, kw_only=True):
    """What became of it: written by whoever holds the claim."""

    status: Status
    attempt: int
    """0: there was none yet"""
    next_attempt_at: float | None
    progress: float
    """in percent: it grows within an attempt, and is 100 only where the job is COMPLETED"""
    current_step: str | None
    metrics: Json | None
    error: Json | None
    paused_reason: str | None
    """why it does not go on, where that is not what was asked"""
    used_s: float
    """processor seconds that were used for it under its claim"""
    kept_bytes: int
    """what it takes on disks; 0 of a job that has ended: nothing is there, or not any more"""
    started_at: float | None
    finished_at: float | None
    as_of: float | None
    """when whoever holds the claim last saw that all of this is so"""
    changes: int
    """how often any of it has changed"""


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """That one home trains a job. It does not expire."""

    token: str
    home: str
    claimed_at: float


class ModelVersion(msgspec.Struct, frozen=True, kw_only=True):
    """A model that a job has left."""

    tenant_id: str
    name: str
    version: int
    job_id: str
    sha256: str
    size_bytes: int
    metrics: Json | None
    created_at: float
    served_by: str | None
    """who serves it; the folder of such a job is never cleared away"""
    kept: bool
    """whether its files are there still; what is known of it stays for good"""


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """A job: what was asked, what became of it, and who trains it."""

    job_id: str
    number: int
    """its place in the order of arrival"""
    parent_id: str | None
    """of a firing: its schedule"""
    created_at: float
    updated_at: float
    asked: Asked
    became: Became
    claim: Claim | None
    """of an ended job: by which it has ended"""
    model: ModelVersion | None
    read_at: float
    """when all this was so: by the clock of the store, as all its times"""

    def __eq__(self, other: object) -> bool:
        """Whether it stands as the other does, whenever each was read."""
        if not isinstance(other, Job):
            return NotImplemented
        return msgspec.structs.astuple(self)[:-1] == msgspec.structs.astuple(other)[:-1]

    __hash__ = None  # type: ignore[assignment]  # it holds what a person has written, as JSON

    @property
    def version(self) -> int:
        """Another one after each change of whatever is told of it."""
        return self.asked.revision + self.became.changes

    @property
    def ended(self) -> bool:
        """Whether it has come to its end."""
        return self.became.status in ENDED

    @property
    def silent_s(self) -> float:
        """How long its home has told nothing of it; 0: no home has it."""
        if self.claim is None:
            return 0.0
        return max(0.0, self.read_at - max(self.became.as_of or 0.0, self.claim.claimed_at))


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """As much of a job that waits for a home as its place in the line follows from."""

    job_id: str
    number: int
    tenant_id: str
    priority: Rank
    trainer: str | None
    created_at: float
    foretold: bool
    """whether it is written down when it was told to start"""


class Foretold(msgspec.Struct, frozen=True, kw_only=True):
    """When a job that waits was told to start, and when it has.

    All that made it wait since counts, a home that was paused or away, too. A job that somebody
    asks for otherwise before it starts is told anew; one that never starts is not scored.
    """

    job_id: str
    tenant_id: str
    at: float
    """when it was told"""
    eta_s: float
    """from then on, as likely sooner as later"""
    eta_p90_s: float
    """in nine of ten cases it has started by then"""
    plain_p90_s: float
    """the same before what became of others was learnt from"""
    started_at: float | None = None
    """when its first attempt has begun; None: it has not"""

    @property
    def waited_s(self) -> float:
        """How long it has waited from then on until it started; 0: it has not."""
        return max(0.0, (self.started_at or self.at) - self.at)


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """What a dispatcher has seen of a job in its home."""

    status: Literal["PENDING", "RUNNING"]
    attempt: int
    age_s: float = 0.0
    """how long before the look it was so: clocks of two machines are never compared"""
    next_attempt_in_s: float | None = None
    progress: float = 0.0
    current_step: str | None = None
    metrics: Json | None = None
    """None: none that are newer"""
    history: tuple[tuple[int, Json], ...] = ()
    """the trainer's steps and what was measured there, newer ones than before"""
    error: Json | None = None
    paused_reason: str | None = None
    used_s: float = 0.0
    """so far, under this claim"""
    kept_bytes: int = 0


class Model(msgspec.Struct, frozen=True, kw_only=True):
    """A model that is durable where it lies."""

    sha256: str
    size_bytes: int = 0


class Ending(msgspec.Struct, frozen=True, kw_only=True):
    """How a job has ended."""

    status: Literal["COMPLETED", "FAILED", "CANCELLED"]
    attempt: int = 0
    """in which attempt, which nobody may have seen begin; 0: in none, or the last that was seen"""
    trained_s: float = 0.0
    """how long it has trained under this claim"""
    metrics: Json | None = None
    error: Json | None = None
    model: Model | None = None
    used_s: float = 0.0
    kept_bytes: int | None = None
    """None: nobody has measured it, and it is as before"""


class AttemptRow(msgspec.Struct, frozen=True, kw_only=True):
    """One attempt at a job, in one home."""

    number: int
    home: str
    started_at: float
    ended_at: float | None
    outcome: str | None
    """the status that the job ended with, or `failed`, `released`, `taken over`"""
    error: Json | None


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """Something that happened to a job."""

    sequence: int
    """without gaps, and in the order in which they can be seen: who has seen one has seen all
    before it"""
    job_id: str
    tenant_id: str
    kind: EventKind
    at: float
    content: Json


class Point(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured at a step."""

    attempt: int
    step: int
    at: float
    metrics: Json


class Patch(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is to be asked otherwise from now on; UNSET: as before."""

    priority: Rank | msgspec.UnsetType = msgspec.UNSET
    metadata: Json | msgspec.UnsetType = msgspec.UNSET
    paused: bool | msgspec.UnsetType = msgspec.UNSET
    schedule: Schedule | msgspec.UnsetType | None = msgspec.UNSET
    """None: it comes no more, which ends the schedule"""


class Once(msgspec.Struct, frozen=True, kw_only=True):
    """A request that is done once, however often it is sent: an Idempotency-Key."""

    tenant_id: str
    route: str
    key: str
    body_sha256: str


class Replayed(msgspec.Struct, frozen=True, kw_only=True):
    """The answer that such a request was given the first time."""

    answer: str


class Which(msgspec.Struct, frozen=True, kw_only=True):
    """Which jobs are to be listed; an empty or absent part lets all pass."""

    tenant_id: str | None = None
    status: tuple[Status, ...] = ()
    model_type: str | None = None
    priority: tuple[Rank, ...] = ()
    parent_id: str | None = None
    created_after: float | None = None
    created_before: float | None = None


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """Some of the jobs, newest first."""

    jobs: tuple[Job, ...]
    total: int
    next: str | None
    """the `after` of the next ones; None: these were the last"""


class TenantUsage(msgspec.Struct, frozen=True, kw_only=True):
    """What a tenant has, and has had: facts alone, of which fairness is computed."""

    tenant_id: str
    jobs: dict[Status, int]
    """how many of each; schedules are no jobs here"""
    claimed: int
    """living ones that a home has"""
    kept_bytes: int
    claimed_at: float | None
    """when a home last took a job of theirs"""
    waiting_since_at: float | None
    """since when the oldest of its jobs waits that could start"""
    hours: tuple[tuple[float, float], ...]
    """beginnings of hours, and the processor seconds that were used in each"""


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """Why something that was asked for was not done; nothing has changed."""

    why: Literal[
        "not_found",
        "has_ended",
        "has_not_ended",
        "no_schedule",
        "changed_meanwhile",
        "key_of_another",
        "in_flight",
    ]
    job: Job | None = None
    """as it is"""
