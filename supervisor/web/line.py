"""The line of jobs that wait: where each stands, until when, and why.

All of it is made from one look at the store that serves for some seconds, since each look counts
all that wait.
"""

from __future__ import annotations

import shutil
import threading
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Mapping
from datetime import UTC, datetime
from operator import itemgetter
from typing import NamedTuple

from state.jobs.records import Job, Page, Which
from supervisor.core import fairness
from supervisor.core.eta import Eta, Kind, Measured, until_start
from supervisor.core.fairness import Candidate, Plan, Why
from supervisor.jobs.contract import Queue
from supervisor.jobs.settings import GIB, account_of, no_room
from supervisor.jobs.telling import next_at
from supervisor.web.answers import Reason
from supervisor.web.service import Service

LOOK_S = 2.0
"""how long one look serves, or longer:"""
SERVES = 30.0
"""so many times as long as it took, so that all looks together take a thirtieth of the time"""
EACH = 50
"""of one tenant in one class are looked at so many"""
MEASURED = 200
"""jobs from whose times others are told, the newest"""
STEP = 2.0
"""from one place in the line whose time is computed to the next; between, times grow evenly"""
RUNNING_MAX = 500
ANY = Kind("", 0)
"""a job of which nobody here knows the trainer: all that were measured count"""
MESSAGES = {
    "paused": "Somebody wants it to wait",
    "retry": "Its next attempt is not due yet",
    "concurrent": "The tenant has {value:g} of {bound:g} jobs at once",
    "cpu_hours": "The tenant has used {value:.1f} of the {bound:g} processor hours of this day",
    "room": "The supervisors have {value:g} jobs, and take no more for now",
    "rank": "{value:g} jobs of a higher priority go before it",
    "own": "{value:g} jobs of the same tenant go before it",
    "share": "Of what was used of late its tenant has had {value:.0%}, and its due is {bound:.0%}",
}


class _Looked(NamedTuple):
    """What one look has found."""

    at: float
    until_at: float
    """how long it serves"""
    plan: Plan
    places: Mapping[str, int]
    reasons: Mapping[str, tuple[Why, ...]]
    handed: int
    """jobs that supervisors have, and have not begun"""
    etas: tuple[tuple[int, Eta | None], ...]
    """some places of the line, and when the jobs there start"""


class Line:
    """The line; its methods may block.

    Args:
        service: whose store it is.
    """

    def __init__(self, service: Service) -> None:
        self._service = service
        self._lock = threading.Lock()
        self._looked: _Looked | None = None

    def place(self, job: Job) -> Queue | None:
        """Where a job stands; None: it waits for no supervisor, or so many are before it."""
        if job.became.status != "PENDING" or job.claim is not None:
            return None
        looked = self._look()
        place = looked.places.get(job.job_id)
        if place is None:
            waits = job.asked.schedule is None and not job.asked.paused
            # One that has come since the look is behind all others, as far as anybody knows.
            last = looked.handed + len(looked.plan.line) + 1
            return Queue(position=last) if waits and job.updated_at >= looked.at else None
        return _foretold(looked, place)

    def next_start_at(self, tenant: str) -> float | None:
        """When the first of a tenant's jobs that wait will have started; None: nobody knows."""
        looked = self._look()
        first = next((i for i, one in enumerate(looked.plan.line) if one.tenant == tenant), None)
        if first is None:
            return None
        p90_s = _foretold(looked, first).eta_p90_s
        return None if p90_s is None else looked.at + p90_s

    def why(self, job: Job) -> tuple[Reason, ...]:
        """Why a job waits; none: it does not."""
        if job.ended or job.became.status == "RUNNING":
            return ()
        found = [*self._without_a_supervisor(), *self._of_itself(job)]
        if job.claim is None and job.asked.schedule is None:
            found += self._without_room()
        if job.claim is None and job.asked.schedule is None and not found:
            found = [_told(one) for one in self._look().reasons.get(job.job_id, ())]
        if not found:
            found = [Reason(cause="room", message="It has just come, or others are before it")]
        return tuple(found)

    def _without_a_supervisor(self) -> list[Reason]:
        home = self._service.home
        if home.holder() is not None:
            return []
        command = f"supervisor --home {home.path} run"
        message = f"No supervisor is running here: {command}"
        return [Reason(cause="no_supervisor", message=message)]

    def _without_room(self) -> list[Reason]:
        home, least_gib = self._service.home, self._service.settings.min_free_gib
        free_gib = shutil.disk_usage(home.path).free / GIB
        if free_gib >= least_gib:
            return []
        more = "; supervisor jobs prune --dry-run tells what may go"
        message = f"{no_room(free_gib, least_gib)}{more}"
        return [Reason(cause="disk", message=message, value=free_gib, bound=least_gib)]

    def _of_itself(self, job: Job) -> list[Reason]:
        """What is so of this job alone, whatever others there are."""
        now_at, became = self._service.now_at, job.became
        if job.asked.paused:
            return [_told(Why(cause="paused"))]
        if became.next_attempt_at is not None and became.next_attempt_at > now_at:
            return [_told(Why(cause="retry", until_at=became.next_attempt_at))]
        if job.asked.schedule is not None:
            at = next_at(job, now_at)
            message = "It is a schedule: a job of its own begins each time that it comes"
            return [Reason(cause="schedule", message=message, until_at=_moment(at))]
        if job.claim is not None:
            why = (
                ""
                if became.paused_reason is None
                else f", which has it wait: {became.paused_reason}"
            )
            message = f"The supervisor of {job.claim.home} has it in its own line{why}"
            return [Reason(cause="handed_over", message=message)]
        return []

    def _look(self) -> _Looked:
        known = self._looked
        if known is not None and known.at <= self._service.now_at < known.until_at:
            return known
        # While one thread looks the others make do with what was seen before.
        if not self._lock.acquire(blocking=known is None):
            return self._looked or self._look()
        try:
            now_at = self._service.now_at
            known = self._looked
            if known is None or not known.at <= now_at < known.until_at:
                known = self._looked = self._look_now(now_at)
            return known
        finally:
            self._lock.release()

    def _look_now(self, now_at: float) -> _Looked:
        store, quotas = self._service.store, self._service.quotas
        waiting = store.candidates(EACH)
        candidates = [
            Candidate(
                job=one.job_id, tenant=one.tenant_id, rank=one.priority, submitted_at=one.created_at
            )
            for one in waiting
        ]
        usages = store.tenants()
        accounts = {one.tenant_id: account_of(one, now_at) for one in usages}
        max_wait_s = self._service.settings.max_wait_h * 3600
        plan = fairness.plan(
            candidates, accounts, quotas, room=0, now_at=now_at, max_wait_s=max_wait_s
        )
        why = fairness.reasons(
            candidates, accounts, quotas, room=0, now_at=now_at, max_wait_s=max_wait_s
        )
        running = [
            (_kind(job), max(0.0, now_at - (job.became.started_at or now_at)))
            for job in self._jobs(Which(status=("RUNNING",)), RUNNING_MAX)
        ]
        took_s: defaultdict[Kind, list[float]] = defaultdict(list)
        for job in reversed(self._jobs(Which(status=("COMPLETED",)), MEASURED)):
            if job.became.started_at is not None and job.became.finished_at is not None:
                took_s[_kind(job)].append(job.became.finished_at - job.became.started_at)
        kinds = {one.job_id: Kind(one.trainer or "", 0) for one in waiting}
        handed = max(0, sum(one.claimed for one in usages) - len(running))
        ahead = [ANY] * handed + [kinds[one.job] for one in plan.line]
        slots, measured = max(1, len(running)), Measured(took_s)
        others = {
            place: fairness.between(plan.line, place, accounts, quotas, now_at=now_at)
            for place in _some_places(len(plan.line))
        }
        etas = tuple(
            (place, until_start(ahead[: handed + place], running, slots, measured, between=come))
            for place, come in others.items()
        )
        looked_s = self._service.now_at - now_at
        return _Looked(
            at=now_at,
            until_at=now_at + max(LOOK_S, SERVES * looked_s),
            plan=plan,
            places={one.job: place for place, one in enumerate(plan.line)},
            reasons=why,
            handed=handed,
            etas=etas,
        )

    def _jobs(self, which: Which, limit: int) -> tuple[Job, ...]:
        found = self._service.store.find(which, limit=limit)
        return found.jobs if isinstance(found, Page) else ()


def _foretold(looked: _Looked, place: int) -> Queue:
    """When the job at a place starts, from those before and behind it whose times are known."""
    position = looked.handed + place + 1
    behind = bisect_left(looked.etas, place, key=itemgetter(0))
    high, last = looked.etas[behind]
    low, first = looked.etas[max(0, behind - 1)] if high > place else (high, last)
    if first is None or last is None:
        return Queue(position=position)
    part = (place - low) / max(1, high - low)
    return Queue(
        position=position,
        eta_s=first.eta_s + part * (last.eta_s - first.eta_s),
        eta_p90_s=first.eta_p90_s + part * (last.eta_p90_s - first.eta_p90_s),
    )


def _some_places(count: int) -> list[int]:
    """Places of a line of so many, the first and the last with them, ever farther apart."""
    found, place = [], 0
    while place < count - 1:
        found.append(place)
        place = max(place + 1, int(place * STEP))
    return [*found, count - 1] if count else []


def _kind(job: Job) -> Kind:
    return Kind(job.asked.trainer or "", 0)


def _told(why: Why) -> Reason:
    known = why.bound is not None or why.value
    return Reason(
        cause=why.cause,
        message=MESSAGES[why.cause].format(value=why.value, bound=why.bound or 0.0),
        value=why.value if known else None,
        bound=why.bound,
        until_at=_moment(why.until_at),
    )


def _moment(at: float | None) -> datetime | None:
    return None if at is None else datetime.fromtimestamp(at, UTC)
