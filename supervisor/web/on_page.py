"""Jobs as the page tells of them, of all tenants: whoever looks there is the operator."""

from __future__ import annotations

from state.jobs.database import StoreError
from state.jobs.records import LIVING, AttemptRow, Job, Page, Patch, Refusal, Which
from state.records import Rank
from supervisor.core.moments import span, stamp, when
from supervisor.errors import SupervisorError
from supervisor.jobs.settings import account_of
from supervisor.page.queue import SHOWN_MAX, JobReport, Queue, QueuedJob, Share
from supervisor.web.service import Service


class NotDone(SupervisorError):
    """What a button asked of a job does not go together with what became of it."""

    exit_code = 2

    def __init__(self, what: str) -> None:
        super().__init__(what)


class JobsOnPage:
    """The jobs of a store.

    Args:
        service: which has it, and the line of those that wait.
    """

    def __init__(self, service: Service) -> None:
        self._service = service

    def queue(self) -> Queue | None:
        """The queue now; None: the store does not answer."""
        store, now_at = self._service.store, self._service.now_at
        try:
            usages = store.tenants()
            jobs = [
                *self._found(Which(status=("RUNNING",))),
                *reversed(self._found(Which(status=("PENDING",)))),
            ]
            told = [self._queued(job) for job in jobs if job.asked.schedule is None]
        except StoreError:
            return None
        told.sort(key=lambda one: (one.status != "RUNNING", one.position or SHOWN_MAX * 10))
        counts: dict[str, int] = {}
        for usage in usages:
            for status, count in usage.jobs.items():
                counts[status] = counts.get(status, 0) + count
        since = [one.waiting_since_at for one in usages if one.waiting_since_at is not None]
        shares = tuple(
            Share(
                tenant=one.tenant_id,
                # Of those that a supervisor has taken over, some wait there.
                running=one.jobs.get("RUNNING", 0),
                waiting=sum(one.jobs.get(each, 0) for each in LIVING if each != "RUNNING"),
                cpu_hours_today=account_of(one, now_at).cpu_s_today / 3600,
            )
            for one in usages
        )
        return Queue(
            counts=counts,
            running=sum(share.running for share in shares),
            waiting=sum(share.waiting for share in shares),
            oldest_waiting_since=min(since, default=None),
            shares=shares,
            jobs=tuple(told[:SHOWN_MAX]),
        )

    def job(self, job_id: str) -> JobReport | None:
        """One job; None: there is none, or nobody can tell."""
        try:
            job = self._service.store.get(job_id)
            if job is None:
                return None
            attempts = self._service.store.attempts(job_id)
            queued = self._queued(job)
        except StoreError:
            return None
        became, error = job.became, job.became.error
        return JobReport(
            id=job.job_id,
            run=job.job_id,
            here=self._service.home.run(job.job_id).path.exists(),
            tenant=job.asked.tenant_id,
            name=queued.name,
            trainer=job.asked.trainer or "",
            priority=job.asked.priority,
            status=became.status,
            ended=job.ended,
            progress=became.progress / 100,
            submitted_at=job.created_at,
            started_at=became.started_at,
            finished_at=became.finished_at,
            waits=queued.waits,
            metrics=became.metrics or {},
            error=None if error is None else str(error.get("message", error))[:1000],
            attempts=tuple((str(one.number), _attempt(one)) for one in attempts[-20:]),
        )

    def cancel(self, job_id: str) -> str:
        """Have it cancelled; what became of that, in a sentence."""
        became = self._service.store.cancel(job_id)
        if isinstance(became, Refusal):
            raise NotDone(_refused(became, "cancelled"))
        if became.ended:
            return "it is cancelled"
        return "it is to be cancelled: its home saves it first"

    def prioritise(self, job_id: str, priority: Rank) -> str:
        """Put it into another class; what became of that, in a sentence."""
        became = self._service.store.patch(job_id, Patch(priority=priority))
        if isinstance(became, Refusal):
            raise NotDone(_refused(became, "put in another class"))
        return f"its priority is {became.asked.priority}"

    def _found(self, which: Which) -> tuple[Job, ...]:
        found = self._service.store.find(which, limit=SHOWN_MAX)
        return found.jobs if isinstance(found, Page) else ()

    def _queued(self, job: Job) -> QueuedJob:
        waiting = self._service.line.waiting(job)
        place = waiting.queue
        return QueuedJob(
            id=job.job_id,
            tenant=job.asked.tenant_id,
            name=job.asked.model_name or job.asked.trainer or "",
            priority=job.asked.priority,
            status=job.became.status,
            submitted_at=job.created_at,
            waits=tuple(reason.message for reason in waiting.reasons),
            position=None if place is None else place.position,
            eta_s=None if place is None else place.eta_s,
            eta_p90_s=None if place is None else place.eta_p90_s,
        )


def _refused(why: Refusal, act: str) -> str:
    if why.job is None:
        return "there is no such job"
    return f"it is {why.job.became.status}, and cannot be {act}"


def _attempt(one: AttemptRow) -> str:
    began = f"began {when(stamp(one.started_at))}"
    if one.ended_at is None:
        return f"{began}, and is at it"
    return f"{began}: {one.outcome or 'ended'} after {span(one.ended_at - one.started_at)}"
