"""A job of the store in the words of the API, for whoever asks by whatever way."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, cast

import msgspec

from state.jobs import records
from supervisor.core.calendar import BadCalendar
from supervisor.core.schedule import Schedule
from supervisor.jobs.contract import Job, JobRequest, Model, ModelType, ModelVersion, Step
from supervisor.jobs.errors import Refusal

UNTOLD = "Unknown"
"""the name of an error that was stored without one"""


def asked(job: records.Job) -> JobRequest | None:
    """The body by which a job was submitted; None: it is none of this version."""
    try:
        return msgspec.convert(job.asked.config, JobRequest)
    except msgspec.ValidationError:
        return None


def told(job: records.Job, *, stale_s: float) -> Job:
    """What is told of a job.

    Args:
        job: as the store has it.
        stale_s: after so long without news a job that runs is told to be stale.
    """
    body, became, schedule = asked(job), job.became, job.asked.schedule
    return Job(
        job_id=job.job_id,
        status=became.status,
        created_at=_moment(job.created_at),
        tenant_id=job.asked.tenant_id,
        model_type=cast("ModelType | None", job.asked.model_type),
        progress=int(became.progress),
        current_step=cast("Step | None", became.current_step),
        metrics=became.metrics,
        priority=job.asked.priority,
        config=None if body is None else body.config,
        trainer=job.asked.trainer or "",
        options={} if body is None else body.options,
        metadata=job.asked.metadata,
        attempt=became.attempt,
        max_attempts=job.asked.max_attempts,
        next_attempt_at=_perhaps(became.next_attempt_at),
        started_at=_perhaps(became.started_at),
        finished_at=_perhaps(became.finished_at),
        updated_at=_moment(job.updated_at),
        as_of=_moment(job.updated_at if became.as_of is None else became.as_of),
        stale=is_stale(job, stale_s),
        paused_reason="a person" if job.asked.paused else became.paused_reason,
        error=None if became.error is None else _error(became.error),
        model=None
        if job.model is None
        else Model(version=job.model.version, sha256=job.model.sha256),
        kept_bytes=became.kept_bytes,
        parent_id=job.parent_id,
        schedule=None if schedule is None else schedule.cron,
        schedule_timezone=None if schedule is None else schedule.timezone,
        version=job.version,
    )


def told_of_model(one: records.ModelVersion) -> ModelVersion:
    """What is told of a model that a job has left."""
    fields = {name: getattr(one, name) for name in ModelVersion.__struct_fields__}
    return ModelVersion(**fields | {"created_at": _moment(one.created_at)})


def is_stale(job: records.Job, stale_s: float) -> bool:
    """Whether nobody has confirmed for long that a job still runs."""
    if job.became.status != "RUNNING":
        return False
    return job.became.as_of is None or job.read_at - job.became.as_of > stale_s


def next_at(job: records.Job, now_at: float) -> float | None:
    """When a schedule comes next; None: never, or it is none."""
    schedule = job.asked.schedule
    if schedule is None or job.ended:
        return None
    try:
        return Schedule(cron=schedule.cron, zone=schedule.timezone).next_after(now_at)
    except BadCalendar:  # of a zone that this machine does not know
        return None


def _error(said: records.Json) -> Refusal:
    """An error of a job, whoever has written it."""
    try:
        return msgspec.convert(said, Refusal)
    except msgspec.ValidationError:
        return Refusal(error=UNTOLD, message=str(said)[:1000])


def _moment(at: float) -> datetime:
    return datetime.fromtimestamp(at, UTC)


def _perhaps(at: Any) -> datetime | None:
    return None if at is None else _moment(at)
