"""A request that was judged becomes a job of the store, if its tenant may have one more."""

from __future__ import annotations

import msgspec

from state.jobs.records import NewJob, Schedule, TenantUsage
from supervisor.core.fairness import Quota, over
from supervisor.jobs.asked import RETRY, Prepared
from supervisor.jobs.contract import JobRequest
from supervisor.jobs.errors import QuotaExceeded


def new_job(request: JobRequest, prepared: Prepared) -> NewJob:
    """A request that can work, as the store takes it in: with its whole body."""
    return NewJob(
        tenant_id=request.tenant_id,
        config=msgspec.to_builtins(request),
        model_type=request.kind,
        trainer=prepared.asked.trainer,
        priority=request.priority,
        metadata=request.metadata,
        max_attempts=RETRY.retries + 1,
        schedule=schedule_of(request),
        model_name=prepared.asked.name,
    )


def schedule_of(request: JobRequest) -> Schedule | None:
    """When a request comes again, as the store keeps it; None: it comes once."""
    recurring = request.scheduled
    if recurring is None:
        return None
    return Schedule(
        cron=recurring.cron,
        timezone=recurring.zone,
        overlap=recurring.overlap,
        catch_up=recurring.catch_up,
    )


def see_quota(
    usage: TenantUsage, quota: Quota, *, now_at: float, next_start_at: float | None
) -> None:
    """See that a tenant may have one more job.

    Args:
        usage: what it has.
        quota: what it may have.
        now_at: wall time.
        next_start_at: when the first of its jobs that wait will have started; None: nobody knows.

    Raises:
        QuotaExceeded: it may not.
    """
    living = usage.jobs.get("PENDING", 0) + usage.jobs.get("RUNNING", 0)
    found = over(
        quota,
        queued=living - usage.claimed,
        stored_bytes=usage.kept_bytes,
        now_at=now_at,
        next_start_at=next_start_at,
    )
    if found is not None:
        raise QuotaExceeded(found.quota, found.used, found.bound, found.retry_after_s)
