"""The line of jobs that wait: where each stands, until when, and why.

All of it is made from one look at the store that serves for some seconds, since each look counts
all that wait.
"""

from __future__ import annotations

import contextlib
import shutil
import threading
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from operator import itemgetter
from typing import NamedTuple

from state import windows
from state.jobs.database import StoreError
from state.jobs.records import LIVING, Foretold, Job, Page, Which
from state.jobs.store import JobStore
from state.records import Memory
from supervisor.core import fairness, pauses, quiet_hours
from supervisor.core.eta import LATENESS_MAX, Eta, Kind, Measured, until_start
from supervisor.core.fairness import Candidate, Plan, Why
from supervisor.core.moments import Moment, stamp, when
from supervisor.core.settings import Settings
from supervisor.host.clock import Clock
from supervisor.jobs.contract import Queue, Reason, Waiting
from supervisor.jobs.remembered import Remembered
from supervisor.jobs.settings import GIB, account_of, no_room, quotas_of, sizes_of
from supervisor.jobs.telling import asked, next_at

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
    "aged": "Its tenant has got nothing for long: it has risen by {value:g} classes",
    "share": "Of what was used of late its tenant has had {value:.0%}, and its due is {bound:.0%}",
}


class _Looked(NamedTuple):
    """What one look has found."""

    at: float
    """by the clock of the store"""
    begun_s: float
    """CLOCK_MONOTONIC then"""
    until_s: float
    """by the same clock: how long it serves"""
    plan: Plan
    places: Mapping[str, int]
    reasons: Mapping[str, tuple[Why, ...]]
    handed: int
    """jobs that supervisors have, and have not begun"""
    etas: tuple[tuple[int, Eta | None], ...]
    """some places of the line, and when the jobs there start"""
    untold: frozenset[str]
    """jobs of which it is not written down yet when they are told to start"""

    def serves(self, moment: Moment) -> bool:
        """Whether it is young enough."""
        return self.begun_s <= moment.monotonic_s < self.until_s


class Line:
    """The line; its methods may block.

    Args:
        store: the job store.
        settings: tells those of the home, as they are in force.
        remembered: what the home here does, whose supervisor may be what a job waits for.
        clock: of this machine, by which a look grows old; all times are those of the store.
    """

    def __init__(
        self,
        store: JobStore,
        settings: Callable[[], Settings],
        remembered: Remembered,
        clock: Clock,
    ) -> None:
        self._store, self._settings, self._clock = store, settings, clock
        self._remembered, self._home = remembered, remembered.home
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
        return _queue(looked, place)

    def next_start_at(self, tenant: str) -> float | None:
        """When the first of a tenant's jobs that wait will have started; None: nobody knows."""
        looked = self._look()
        first = next((i for i, one in enumerate(looked.plan.line) if one.tenant == tenant), None)
        if first is None:
            return None
        eta = _foretold(looked, first)
        return None if eta is None else looked.at + eta.eta_p90_s

    def waiting(self, job: Job) -> Waiting:
        """Why a job waits, and where; without a reason it does not."""
        return Waiting(
            job_id=job.job_id,
            status=job.became.status,
            reasons=() if job.ended else tuple(self._reasons(job)),
            queue=self.place(job),
        )

    def _reasons(self, job: Job) -> list[Reason]:
        found = [*self._silent(job)]
        if job.asked.cancel_wanted:
            message = "It is to be cancelled: its home saves it first"
            found.append(Reason(cause="cancelling", message=message))
        if job.became.status == "RUNNING":
            return found
        memory = self._remembered.memory_if_known()
        if job.asked.schedule is not None:
            return [*found, *self._of_a_schedule(job)]
        own = "" if memory is None or memory.home is None else memory.home.id
        here = job.claim is None or job.claim.home == own
        of_home = [*self._of_home(memory)] if here else []
        of_itself = [*_of_itself(job)]
        found += [*of_home, *of_itself]
        if job.claim is None and not of_itself:
            why = self._look().reasons.get(job.job_id, ())
            # Whatever room there is, a home that takes none fills it with nothing.
            found += [_told(one) for one in why if one.cause != "room" or not of_home]
        if not found:
            message = "It has just come, or others are before it"
            found = [Reason(cause="room", message=message)]
        ends_at = _ends_at(job)
        if ends_at is not None:
            message = "It is given up at its deadline, wherever it is then"
            found.append(Reason(cause="deadline", message=message, until_at=ends_at))
        return found

    def _silent(self, job: Job) -> Iterator[Reason]:
        """That nobody tells of a job which a home has."""
        jobs, silent_s = self._settings().jobs, job.silent_s
        if job.claim is None or silent_s <= jobs.stale_s:
            return
        since_at, after_h = job.read_at - silent_s, jobs.take_over_after_h
        yield Reason(
            cause="silent",
            message=f"Its home {job.claim.home} has told nothing of it since "
            f"{when(stamp(since_at))}: start `supervisor serve` or `supervisor dispatch` there; "
            f"where it is gone for good, `supervisor jobs take-over {job.job_id}` elsewhere",
            value=silent_s,
            bound=jobs.stale_s,
            until_at=_moment(None if after_h is None else since_at + after_h * 3600),
        )

    def _of_home(self, memory: Memory | None) -> Iterator[Reason]:
        """What keeps the home here from training, or from taking jobs."""
        jobs, home = self._settings().jobs, self._home
        if home.holder() is None:
            message = f"No supervisor is running here: supervisor --home {home.path} run"
            yield Reason(cause="no_supervisor", message=message)
        if not jobs.enabled:
            message = "No jobs are wanted here: `enabled = false` in [jobs]"
            yield Reason(cause="disabled", message=message)
        free_gib = shutil.disk_usage(home.path).free / GIB
        if free_gib < jobs.min_free_gib:
            more = "; supervisor jobs prune --dry-run tells what may go"
            message = f"{no_room(free_gib, jobs.min_free_gib)}{more}"
            yield Reason(cause="disk", message=message, value=free_gib, bound=jobs.min_free_gib)
        if memory is None:
            return
        for owner in pauses.holding(memory.goal):
            until_at = self._opens_at() if owner == "quiet_hours" else None
            yield Reason(
                cause=f"paused_by_{owner}",
                message=f"Nothing trains here, paused by {pauses.who((owner,))}: "
                f"{pauses.lifted((owner,))}",
                until_at=_moment(until_at),
            )
        idle_until_s, line = memory.goal.idle_until_s, memory.timeline
        if idle_until_s is not None:
            message = "The machine dies as soon as it trains, and is left idle"
            until_at = line.seen_at + idle_until_s - line.now_s
            yield Reason(cause="idle", message=message, until_at=_moment(until_at))

    def _opens_at(self) -> float | None:
        """When the quiet hours let training go on; None: nobody knows."""
        asked = self._settings().quiet_hours
        known, trouble = windows.known(self._home.windows)
        return quiet_hours.quiet(asked, known, self._clock.read().wall, trouble=trouble).opens_at

    def _of_a_schedule(self, job: Job) -> Iterator[Reason]:
        """Why a schedule begins no job now."""
        if job.asked.paused:
            yield _told(Why(cause="paused"))
            return
        at = next_at(job, job.read_at)
        message = "It is a schedule: a job of its own begins each time that it comes"
        yield Reason(cause="schedule", message=message, until_at=_moment(at))
        living = self._jobs(Which(parent_id=job.job_id, status=LIVING), 1)
        if living and job.asked.schedule is not None and job.asked.schedule.overlap == "forbid":
            message = f"The job of its last firing, {living[0].job_id}, has not ended: until then "
            message += "a firing is skipped"
            yield Reason(cause="overlap", message=message)

    def _look(self) -> _Looked:
        known = self._looked
        if known is not None and known.serves(self._clock.read()):
            return known
        # While one thread looks the others make do with what was seen before.
        if not self._lock.acquire(blocking=known is None):
            return self._looked or self._look()
        try:
            moment, known = self._clock.read(), self._looked
            if known is None or not known.serves(moment):
                known = self._looked = self._look_now(moment)
                self._write_down(known)
            return known
        finally:
            self._lock.release()

    def _write_down(self, looked: _Looked) -> None:
        """Keep when jobs start that are told so for the first time: by that it is scored.

        A job that nothing hinders from starting at once waits for nothing that could be scored.
        """
        etas = (
            (one, _foretold(looked, place))
            for place, one in enumerate(looked.plan.line)
            if one.job in looked.untold
        )
        told = [
            Foretold(
                job_id=one.job,
                tenant_id=one.tenant,
                at=looked.at,
                eta_s=eta.eta_s,
                eta_p90_s=eta.eta_p90_s,
                plain_p90_s=eta.plain_p90_s,
            )
            for one, eta in etas
            if eta is not None and eta.plain_p90_s > 0
        ]
        # Whoever asks is answered all the same, and the next look writes it down.
        with contextlib.suppress(StoreError):
            self._store.foretell(told)

    def _look_now(self, moment: Moment) -> _Looked:
        store, quotas = self._store, quotas_of(self._settings().jobs)
        now_at = store.now().at
        waiting = store.candidates(EACH)
        done = self._jobs(Which(status=("COMPLETED",)), MEASURED)
        sizes = sizes_of(done)
        candidates = [
            Candidate(
                job=one.job_id,
                tenant=one.tenant_id,
                rank=one.priority,
                submitted_at=one.created_at,
                number=one.number,
                size_s=sizes.of(one.tenant_id),
            )
            for one in waiting
        ]
        usages = store.tenants()
        accounts = {one.tenant_id: account_of(one, now_at, sizes) for one in usages}
        max_wait_s = self._settings().jobs.max_wait_h * 3600
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
        for job in reversed(done):
            if job.became.started_at is not None and job.became.finished_at is not None:
                took_s[_kind(job)].append(job.became.finished_at - job.became.started_at)
        kinds = {one.job_id: Kind(one.trainer or "", 0) for one in waiting}
        handed = max(0, sum(one.claimed for one in usages) - len(running))
        ahead = [ANY] * handed + [kinds[one.job] for one in plan.line]
        slots, measured = max(1, len(running)), Measured(took_s)
        newest = reversed(store.foretold(LATENESS_MAX))
        lateness = [one.waited_s / one.plain_p90_s for one in newest]
        others = {
            place: fairness.between(plan.line, place, accounts, quotas, now_at=now_at)
            for place in _some_places(len(plan.line))
        }
        etas = tuple(
            (
                place,
                until_start(
                    ahead[: handed + place],
                    running,
                    slots,
                    measured,
                    between=come,
                    lateness=lateness,
                ),
            )
            for place, come in others.items()
        )
        begun_s = moment.monotonic_s
        looked_s = self._clock.read().monotonic_s - begun_s
        return _Looked(
            at=now_at,
            begun_s=begun_s,
            until_s=begun_s + max(LOOK_S, SERVES * looked_s),
            plan=plan,
            places={one.job: place for place, one in enumerate(plan.line)},
            reasons=why,
            handed=handed,
            etas=etas,
            untold=frozenset(one.job_id for one in waiting if not one.foretold),
        )

    def _jobs(self, which: Which, limit: int) -> tuple[Job, ...]:
        found = self._store.find(which, limit=limit)
        return found.jobs if isinstance(found, Page) else ()


def _foretold(looked: _Looked, place: int) -> Eta | None:
    """When the job at a place starts, from those before and behind it whose times are known."""
    behind = bisect_left(looked.etas, place, key=itemgetter(0))
    high, last = looked.etas[behind]
    low, first = looked.etas[max(0, behind - 1)] if high > place else (high, last)
    if first is None or last is None:
        return None
    part = (place - low) / max(1, high - low)
    times = (early + part * (late - early) for early, late in zip(first[1:], last[1:], strict=True))
    return Eta(looked.handed + place + 1, *times)


def _queue(looked: _Looked, place: int) -> Queue:
    """The same in the words of the API."""
    eta = _foretold(looked, place)
    if eta is None:
        return Queue(position=looked.handed + place + 1)
    return Queue(position=eta.position, eta_s=eta.eta_s, eta_p90_s=eta.eta_p90_s)


def _some_places(count: int) -> list[int]:
    """Places of a line of so many, the first and the last with them, ever farther apart."""
    found, place = [], 0
    while place < count - 1:
        found.append(place)
        place = max(place + 1, int(place * STEP))
    return [*found, count - 1] if count else []


def _kind(job: Job) -> Kind:
    return Kind(job.asked.trainer or "", 0)


def _of_itself(job: Job) -> Iterator[Reason]:
    """What is so of this job alone, whatever others there are."""
    became = job.became
    if job.asked.paused:
        yield _told(Why(cause="paused"))
    elif became.next_attempt_at is not None and became.next_attempt_at > job.read_at:
        yield _told(Why(cause="retry", until_at=became.next_attempt_at))
    elif job.claim is not None:
        waits = f", which has it wait: {became.paused_reason}" if became.paused_reason else ""
        message = f"The supervisor of {job.claim.home} has it in its own line{waits}"
        yield Reason(cause="handed_over", message=message)


def _ends_at(job: Job) -> datetime | None:
    body = asked(job)
    return None if body is None else body.ends_at


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
