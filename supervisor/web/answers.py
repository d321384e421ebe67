"""What is answered beside the jobs themselves, which are in `supervisor.jobs.contract`."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec

from supervisor.jobs.contract import Status


class _Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What goes to a caller; fields may be added, and none is taken away."""


class Point(_Answer, frozen=True, kw_only=True):
    """What was measured at a step."""

    attempt: int
    step: int
    at: datetime
    metrics: dict[str, Any]


class History(_Answer, frozen=True, kw_only=True):
    """What was measured on the way."""

    job_id: str
    points: tuple[Point, ...]


class Artifact(_Answer, frozen=True, kw_only=True):
    """A file that a finished job has left."""

    name: str
    size_bytes: int
    sha256: str
    url: str


class Artifacts(_Answer, frozen=True, kw_only=True):
    """All that a finished job has left."""

    job_id: str
    artifacts: tuple[Artifact, ...]


class ModelVersion(_Answer, frozen=True, kw_only=True):
    """A model that a job has left."""

    tenant_id: str
    name: str
    version: int
    job_id: str
    sha256: str
    size_bytes: int
    metrics: dict[str, Any] | None
    created_at: datetime
    served_by: str | None
    """who serves it; None: nobody"""
    kept: bool
    """whether its files are there still"""


class Models(_Answer, frozen=True, kw_only=True):
    """Models, of each name the newest first."""

    models: tuple[ModelVersion, ...]


class Usage(_Answer, frozen=True, kw_only=True):
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


class EtaScore(_Answer, frozen=True, kw_only=True):
    """How what was foretold has come true, of the newest jobs that had to wait and have started."""

    jobs: int
    """how many, 100 at most"""
    p90_coverage: float | None
    """the part that had started by their `eta_p90_s`: 0.9, if all is well; null: of no job"""
    median_coverage: float | None
    """the same by `eta_s`: 0.5, if all is well"""


class Stats(_Answer, frozen=True, kw_only=True):
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
