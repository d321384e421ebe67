"""A request that was judged becomes a job of the store, if its tenant may have one more."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec

from state.jobs.records import Job, NewJob, Once, Refusal, Replayed, Schedule
from state.jobs.store import JobStore
from supervisor.core.fairness import Quota, over
from supervisor.jobs.asked import RETRY, Prepared
from supervisor.jobs.contract import JobRequest
from supervisor.jobs.errors import QuotaExceeded
from trainers.contract import Name

RETRIED = ("FAILED", "CANCELLED")
"""how a job must have ended to be tried again"""


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


class Taking:
    """Has jobs wait in a store, each one more of a tenant that may have one more.

    Args:
        store: the job store.
        quotas: tells what tenants may have, as it is in force; who is not named has no bounds.
        next_start_at: tells when the first of a tenant's jobs that wait will have started; None:
            nobody knows.
    """

    def __init__(
        self,
        store: JobStore,
        quotas: Callable[[], Mapping[Name, Quota]],
        next_start_at: Callable[[Name], float | None] = lambda _: None,
    ) -> None:
        self._store, self._quotas, self._next_start_at = store, quotas, next_start_at

    def create(
        self,
        new: NewJob,
        *,
        now_at: float,
        once: Once | None = None,
        answer: Callable[[Job], str] | None = None,
    ) -> Job | Replayed | Refusal:
        """As `JobStore.create`.

        Raises:
            QuotaExceeded: the tenant has as much as it may have.
        """
        self._see_quota(new.tenant_id, now_at)
        return self._store.create(new, once=once, answer=answer)

    def retry(
        self,
        job: Job,
        *,
        now_at: float,
        once: Once | None = None,
        answer: Callable[[Job], str] | None = None,
    ) -> Job | Replayed | Refusal:
        """As `JobStore.retry`.

        Raises:
            QuotaExceeded: its tenant has as much as it may have.
        """
        if job.became.status in RETRIED:  # any other is refused, and none more waits
            self._see_quota(job.asked.tenant_id, now_at)
        return self._store.retry(job.job_id, once=once, answer=answer)

    def _see_quota(self, tenant: Name, now_at: float) -> None:
        """See that a tenant may have one more job.

        Raises:
            QuotaExceeded: it may not.
        """
        quota = self._quotas().get(tenant)
        if quota is None:
            return
        for usage in self._store.tenants(tenant):
            living = usage.jobs.get("PENDING", 0) + usage.jobs.get("RUNNING", 0)
            found = over(
                quota,
                queued=living - usage.claimed,
                stored_bytes=usage.kept_bytes,
                now_at=now_at,
                next_start_at=self._next_start_at(tenant),
            )
            if found is not None:
                raise QuotaExceeded(found.quota, found.used, found.bound, found.retry_after_s)
