"""What the page knows of jobs, and may ask of them; whoever takes jobs in tells it.

The page itself knows no job store, so it costs nothing where no jobs are taken in.
"""

from __future__ import annotations

from typing import Any, Protocol

import msgspec

from state.records import Rank

SHOWN_MAX = 100
"""jobs of the queue that are told one by one"""


class QueuedJob(msgspec.Struct, frozen=True, kw_only=True):
    """A job that has not ended."""

    id: str
    tenant: str
    name: str
    priority: str
    status: str
    submitted_at: float
    """wall time"""
    waits: tuple[str, ...]
    """why it waits, in sentences; none: it does not"""
    position: int | None
    """its place among those that wait, from 1"""
    eta_s: float | None
    """until it starts, as likely earlier as later; None: nobody knows"""
    eta_p90_s: float | None
    """the same, in nine of ten cases"""


class Share(msgspec.Struct, frozen=True, kw_only=True):
    """What a tenant has of the queue, and had of the machine."""

    tenant: str
    running: int
    waiting: int
    cpu_hours_today: float
    """on this day of UTC"""


class Queue(msgspec.Struct, frozen=True, kw_only=True):
    """The queue of jobs at one moment."""

    counts: dict[str, int]
    """status: how many jobs"""
    running: int
    waiting: int
    oldest_waiting_since: float | None
    """wall time"""
    shares: tuple[Share, ...]
    jobs: tuple[QueuedJob, ...]
    """`SHOWN_MAX` at most: those that run first, then in the order in which they are to start"""


class JobReport(msgspec.Struct, frozen=True, kw_only=True):
    """One job with what became of it."""

    id: str
    run: str
    """the run of this home that trains it"""
    here: bool
    """whether this home trains it, or has"""
    tenant: str
    name: str
    trainer: str
    priority: str
    status: str
    ended: bool
    progress: float | None
    """0 to 1"""
    submitted_at: float
    started_at: float | None
    finished_at: float | None
    waits: tuple[str, ...]
    metrics: dict[str, Any]
    error: str | None
    """why it failed"""
    attempts: tuple[tuple[str, str], ...]
    """of each: which, and what became of it, in a sentence"""


class Jobs(Protocol):
    """Whoever takes jobs in; its methods may block."""

    def queue(self) -> Queue | None:
        """The queue now; None: the store does not answer."""
        ...

    def job(self, job_id: str) -> JobReport | None:
        """One job; None: there is none, or nobody can tell."""
        ...

    def cancel(self, job_id: str) -> str:
        """Have it cancelled; what became of that, in a sentence.

        Raises:
            SupervisorError: it is not to be had.
        """
        ...

    def prioritise(self, job_id: str, priority: Rank) -> str:
        """Put it into another class; what became of that, in a sentence.

        Raises:
            SupervisorError: it is not to be had.
        """
        ...
