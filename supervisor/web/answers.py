"""What is answered beside jobs and models, which are in `supervisor.jobs.contract`."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from supervisor.jobs.contract import Answer, Status


class Point(Answer, frozen=True, kw_only=True):
    """What was measured at a step."""

    attempt: int
    step: int
    at: datetime
    metrics: dict[str, Any]


class History(Answer, frozen=True, kw_only=True):
    """What was measured on the way."""

    job_id: str
    points: tuple[Point, ...]


class Artifact(Answer, frozen=True, kw_only=True):
    """A file that a finished job has left."""

    name: str
    size_bytes: int
    sha256: str
    url: str


class Artifacts(Answer, frozen=True, kw_only=True):
    """All that a finished job has left."""

    job_id: str
    artifacts: tuple[Artifact, ...]


class Usage(Answer, frozen=True, kw_only=True):
    """What a tenant has, has had, and may have; null: without a bound."""

    tenant_id: str
    jobs: dict[Status, int]
    running: int
    """jobs that a supervisor has"""
    waiting: int
    """jobs that none has yet"""
    kept_bytes: int
    cpu_hours_today: float
    """on this day of UTC"""
    weight: float
    concurrent_max: int | None
    waiting_max: int | None
    kept_bytes_max: int | None
    cpu_hours_a_day_max: float | None


class EtaScore(Answer, frozen=True, kw_only=True):
    """How what was foretold has come true, of the newest jobs that had to wait and have started."""

    jobs: int
    """how many, 100 at most"""
    p90_coverage: float | None
    """the part that had started by their `eta_p90_s`: 0.9, if all is well; null: of no job"""
    median_coverage: float | None
    """the same by `eta_s`: 0.5, if all is well"""


class Stats(Answer, frozen=True, kw_only=True):
    """How many jobs there are, and how they stand."""

    tenants: int
    jobs: dict[Status, int]
    running: int
    """jobs that a supervisor has"""
    waiting: int
    """jobs that none has yet"""
    oldest_waiting_since: datetime | None
    kept_bytes: int
    cpu_hours_today: float
    eta: EtaScore
