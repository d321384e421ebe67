"""The process between the job store and the daemon of a home: it looks, decides, does, and rests.

It keeps nothing that it could not read again: a claim stands in the store, what became of a run in
the memory of its home, a request in the inbox. So it may be killed between any two lines.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from state.inbox import REQUEST_MAX_BYTES
from state.jobs.database import StoreError
from state.jobs.records import LIVING, Ending, Job, Json, Page, Which
from state.jobs.store import JobStore, Now
from state.records import Asked, Memory, Rank, Retry
from state.requests import Request
from supervisor.config import Config
from supervisor.core import queue
from supervisor.core.calendar import BadCalendar
from supervisor.core.fairness import RANKS, Candidate
from supervisor.core.moments import Moment, stamp
from supervisor.core.schedule import Schedule
from supervisor.core.told import are_late
from supervisor.host.clock import Clock
from supervisor.host.home import Home
from supervisor.jobs.asked import RETRY, asked_of
from supervisor.jobs.at_home import AtHome
from supervisor.jobs.contract import JobRequest
from supervisor.jobs.errors import Busy, ConfigValidationError, JobError, Problem
from supervisor.jobs.following import (
    CONFIRM_S,
    FROM,
    ORIGIN,
    PRIORITY,
    THE_STORE,
    Act,
    Amend,
    Claim,
    Finish,
    Leave,
    Mirror,
    Mirrored,
    Renew,
    Submit,
    View,
    decide,
    foreign,
    room,
)
from supervisor.jobs.mirror import TRAINED_BEFORE, Found, refusal
from supervisor.jobs.reading import converted
from supervisor.jobs.remembered import HomeAway
from supervisor.jobs.settings import (
    GIB,
    UNMEASURED,
    Sizes,
    account_of,
    no_room,
    quotas_of,
    sizes_of,
    tenant_of,
)
from supervisor.programs import find_trainers_in

BY = "dispatcher"
"""who asks, as the log of the daemon tells it"""
LOOK_S = 1.0
"""between two looks, where nothing hinders"""
REST_MAX_S = 60.0
"""between two tries where something is away, or was refused"""
LOST_S = 5.0
"""a request that is neither in the inbox nor answered for so long is asked again"""
SCHEDULES_S = 5.0
"""between two looks at the schedules"""
HIGHER_S = 5.0
"""between two looks at what waits, while only a job of a higher class could be taken"""
SIZES_S = 10.0
"""between two looks at how long jobs are"""
MEASURED = 200
"""jobs that tell it, the newest that are done"""
WAITING_S = 60.0
"""between two looks at how long jobs have waited"""
FORSAKEN_S = 60.0
"""between two looks at jobs of other homes"""
PAGE = 200
TOLD_MAX = 1000
"""lines of which is remembered that they were told"""
CONFIRMED = 3.0
"""how often a job that runs is confirmed, at least, before it would be told to be stale"""
REQUEST_EXTRA_BYTES = 1024
"""of a request, beside what is asked"""


class OtherStore(StoreError):
    """The store is not the one that runs of this home are from.

    To let these go by itself would take all jobs out that train, for a mistake in the settings.
    """

    def __init__(self, shown: str) -> None:
        super().__init__(
            f"the job store {shown} is not the one that runs of this home are from; no job is "
            "handed over until database_url in [jobs] names that one again; if it shall be this "
            "one, `supervisor jobs withdraw` lets those runs go, saved"
        )


class _Awaited(msgspec.Struct):
    """What the daemon was asked about a job."""

    request: Request
    gone_s: float | None = None
    """CLOCK_MONOTONIC since when it is neither in the inbox nor answered"""


class _Refused(NamedTuple):
    """What was refused lately about a job: it is tried again, and not at once."""

    until_s: float
    """by CLOCK_MONOTONIC, which nobody sets back"""
    rest_s: float


class Dispatcher:
    """Serves one home.

    Args:
        home: which one.
        config: its settings and modes, as they are in force.
        here: the folder that relative paths of the settings begin at.
        open_store: opens the job store; it is asked again where that does not serve.
        clock: the clocks of this machine.
        say: tells a person something, in one line.
        beside: whether the API is beside it, which tells of settings that are refused.
    """

    def __init__(
        self,
        home: Home,
        config: Config,
        here: Path,
        *,
        open_store: Callable[[], JobStore],
        clock: Clock,
        say: Callable[[str], None],
        beside: bool = False,
    ) -> None:
        self._at_home = AtHome(home)
        self._config, self._here = config, here
        self._open_store = open_store
        self._store: JobStore | None = None
        self._clock, self._say, self._beside = clock, say, beside
        self._trouble: str | None = None
        """what is away, as it was told"""
        self._told: set[str] = set()
        """of schedules and refusals: what was told once"""
        self._rest_s = LOOK_S
        self._is_short = False
        """whether the disk has too little room, as it was told"""
        self._awaited: dict[str, _Awaited] = {}
        self._refused: dict[str, _Refused] = {}
        self._mirrored: dict[str, Mirrored] = {}
        self._epochs: tuple[str, str, int] | None = None
        self._schedules_at = self._forsaken_at = self._waiting_at = 0.0
        self._tells: Request | None = None
        """what the daemon was asked to tell last"""
        self._looked_s = -math.inf
        self._sizes: Sizes = UNMEASURED
        self._sized_s: float | None = None

    def run(self, stop: threading.Event) -> None:
        """Serve the home until somebody wants it to stop, or the home is gone.

        Raises:
            AlreadyDispatching: another dispatcher serves it.
            OSError: nothing can be written in the home.
        """
        lock = self._at_home.hold()
        try:
            while not stop.is_set() and lock.lasts():
                stop.wait(self.step())
            if not stop.is_set():
                self._say("the home was moved or removed: its dispatcher ends")
        finally:
            lock.release()
            self.close()

    def close(self) -> None:
        """Close the store, if it is open."""
        if self._store is not None:
            self._store.close()
            self._store = None

    def step(self) -> float:
        """Look, decide and do, once; after how many seconds it is time for the next."""
        try:
            self._turn()
        except (StoreError, HomeAway, OSError) as error:
            line = " ".join(str(error).split())
            if line != self._trouble:
                self._say(f"{line}; nothing is lost, and it is tried again")
            self._trouble, self._rest_s = line, min(REST_MAX_S, 2 * self._rest_s)
            if isinstance(error, StoreError):
                self.close()
            return self._rest_s
        if self._trouble is not None:
            self._say("what was away is there again: jobs go on")
        self._trouble, self._rest_s = None, LOOK_S
        return LOOK_S

    def _turn(self) -> None:
        if self._beside:
            self._config.refresh()
        else:
            self._config.heed(self._say)
        if self._store is None:
            self._store = self._open_store()
        store = self._store
        now = store.now()
        # In this order: who has read an answer finds in the memory what was answered.
        self._hear()
        memory = self._at_home.memory()
        if foreign(memory.runs, now.origin):
            raise OtherStore(store.shown)
        self._compare(now.epoch, memory)
        self._fire(store, now.at)
        self._tell_of_waiting(store, memory, now.at)
        view = self._look(store, memory, now)
        for act in decide(view):
            self._do(act, store, view)

    def _compare(self, epoch: str, memory: Memory) -> None:
        """Believe nothing of before where the store or the home is another one than it was.

        All claims are compared with runs and archive at each look; what is left out there is what
        was asked and mirrored a moment ago.
        """
        home = "" if memory.home is None else memory.home.id
        epochs = epoch, home, memory.epoch
        if self._epochs not in (None, epochs):
            self._say("the job store was restored, or the home reset: all its jobs are compared")
            self._awaited.clear()
            self._refused.clear()
            self._mirrored.clear()
        self._epochs = epochs

    # Looking.

    def _hear(self) -> None:
        """See which requests were answered."""
        inbox, now_s = self._at_home.inbox, self._clock.read().monotonic_s
        for job_id, asked in list(self._awaited.items()):
            if inbox.holds(asked.request):
                continue
            answer = inbox.answers.read(asked.request.id)
            if answer is None:
                # It is answered before it is taken away; perhaps that was long ago.
                asked.gone_s = now_s if asked.gone_s is None else asked.gone_s
                if now_s - asked.gone_s <= LOST_S:
                    continue
            del self._awaited[job_id]
            if answer is not None and answer.refused:
                self._put_off(job_id, answer.reason)
            else:
                self._refused.pop(job_id, None)

    def _put_off(self, job_id: str, reason: str) -> None:
        """Ask again, and each time later."""
        known = self._refused.get(job_id)
        rest_s = LOOK_S if known is None else min(REST_MAX_S, 2 * known.rest_s)
        now_s = self._clock.read().monotonic_s
        self._refused[job_id] = _Refused(now_s + rest_s, rest_s)
        self._note(f"job {job_id}: refused: {reason}; it is asked again")

    def _look(self, store: JobStore, memory: Memory, now: Now) -> View:
        moment, now_at = self._clock.read(), now.at
        home = "" if memory.home is None else memory.home.id
        settings = self._config.settings.jobs
        claimed = store.claimed(home)
        ids = {job.job_id for job in claimed}
        # What is remembered of jobs that others have by now, or nobody, is of no use.
        self._mirrored = {key: it for key, it in self._mirrored.items() if key in ids}
        known = ids | {run.id for run in memory.runs}
        self._refused = {key: it for key, it in self._refused.items() if key in known}
        awaited, up = self._awaiting(moment.monotonic_s), self._at_home.is_up
        view = View(
            now_at=now_at,
            home=home,
            origin=now.origin,
            claimed=claimed,
            found=self._found(ids, awaited, memory, moment, up=up),
            strays=tuple(
                run
                for run in memory.runs
                if run.id not in ids and run.asked.labels.get(FROM) == THE_STORE
            ),
            awaited=awaited,
            mirrored=self._mirrored,
            confirm_s=min(CONFIRM_S, settings.stale_s / CONFIRMED),
            max_wait_s=settings.max_wait_h * 3600,
            slots=self._slots(memory) if up else 0,
        )
        # To look at all that wait takes long, where one of a higher class alone could be taken.
        rests = not room(view) and moment.monotonic_s - self._looked_s < HIGHER_S
        if rests or not room(view, RANKS[0]):
            return view
        self._looked_s = moment.monotonic_s
        return self._with_candidates(view, store)

    def _awaiting(self, now_s: float) -> frozenset[str]:
        """Jobs about which the daemon is asked nothing now."""
        refused = {job_id for job_id, one in self._refused.items() if now_s < one.until_s}
        return frozenset(self._awaited.keys() | refused)

    def _found(
        self, ids: set[str], awaited: frozenset[str], memory: Memory, moment: Moment, *, up: bool
    ) -> dict[str, Found]:
        """What is known of the runs of these jobs."""
        here = {run.id: run for run in memory.runs if run.id in ids}
        gone = self._at_home.left(memory, ids - here.keys() - awaited)
        found = {
            run_id: self._at_home.found(one.run, memory, moment, up=up, has_left=True)
            for run_id, one in gone.items()
        }
        for run_id, run in here.items():
            found[run_id] = self._at_home.found(run, memory, moment, up=up, has_left=False)
        return found

    def _slots(self, memory: Memory) -> int:
        """How many runs train at once here; 0: none is to come now."""
        settings, goal = self._config.settings.jobs, memory.goal
        if not settings.enabled or not goal.trains:
            return 0
        free_gib = self._at_home.free_bytes / GIB
        if (free_gib < settings.min_free_gib) != self._is_short:
            self._is_short = not self._is_short
            rests = "jobs wait until there is more" if self._is_short else "jobs are taken again"
            self._say(f"{no_room(free_gib, settings.min_free_gib)}: {rests}")
        if self._is_short:
            return 0
        return next((mode.slots for mode in self._config.ladder if mode.name == goal.mode), 1)

    def _with_candidates(self, view: View, store: JobStore) -> View:
        """The same, with the jobs that this home could take."""
        settings = self._config.settings.jobs
        sizes = self._sizes_now(store)
        candidates = tuple(
            Candidate(
                job=one.job_id,
                tenant=one.tenant_id,
                rank=one.priority,
                submitted_at=one.created_at,
                number=one.number,
                size_s=sizes.of(one.tenant_id),
            )
            for one in store.candidates()
        )
        if candidates:
            accounts = {
                one.tenant_id: account_of(one, view.now_at, sizes) for one in store.tenants()
            }
            view = msgspec.structs.replace(
                view, candidates=candidates, accounts=accounts, quotas=quotas_of(settings)
            )
        return msgspec.structs.replace(view, forsaken=self._forsaken(store, view))

    def _sizes_now(self, store: JobStore) -> Sizes:
        """How long jobs are: what a tenant was given and has not used yet counts by that."""
        now_s = self._clock.read().monotonic_s
        if self._sized_s is None or now_s - self._sized_s >= SIZES_S:
            page = store.find(Which(status=("COMPLETED",)), limit=MEASURED)
            self._sizes = sizes_of(page.jobs if isinstance(page, Page) else ())
            self._sized_s = now_s
        return self._sizes

    def _forsaken(self, store: JobStore, view: View) -> tuple[Job, ...]:
        """Jobs of other homes of which nobody has heard for as long as the settings allow."""
        after_h = self._config.settings.jobs.take_over_after_h
        if after_h is None or 0 <= view.now_at - self._forsaken_at < FORSAKEN_S:
            return ()
        self._forsaken_at = view.now_at
        found: list[Job] = []
        after: str | None = None
        while True:
            page = store.find(Which(status=LIVING), limit=PAGE, after=after)
            if not isinstance(page, Page):
                return tuple(found)  # the last one that was seen is gone
            for job in page.jobs:
                if job.claim is None or job.claim.home == view.home:
                    continue
                heard_at = max(job.became.as_of or 0.0, job.claim.claimed_at)
                if view.now_at - heard_at > after_h * 3600:
                    found.append(job)
            after = page.next
            if after is None:
                return tuple(found)

    # Doing.

    def _do(self, act: Act, store: JobStore, view: View) -> None:
        match act:
            case Claim():
                job = store.claim(act.job_id, view.home)
                if job is not None:  # no other home was quicker
                    self._submit(job, act.rank, store, view)
            case Submit():
                self._submit(act.job, act.rank or act.job.asked.priority, store, view)
            case Renew():
                self._renew(act.job, store, view)
            case Amend():
                self._ask(act.asked.id, "amend", asked=act.asked, on_behalf=act.asked.tenant)
            case Leave():
                kind = "cancel" if act.ends else "withdraw"
                self._ask(act.run.id, kind, run=act.run.id, token=act.run.asked.token)
            case Mirror():
                token = _token(act.job)
                looked_at = view.now_at
                if store.mirror(act.job.job_id, token, act.seen, looked_at=looked_at) is not None:
                    self._mirrored[act.job.job_id] = Mirrored(seen=act.seen, at=looked_at)
            case Finish():
                self._finish(act.job, act.ending, store)

    def _renew(self, job: Job, store: JobStore, view: View) -> None:
        if store.take_over(job.job_id, _token(job), view.home) is not None:
            self._mirrored.pop(job.job_id, None)

    def _finish(self, job: Job, ending: Ending, store: JobStore) -> None:
        store.finish(job.job_id, _token(job), ending)
        for known in (self._mirrored, self._refused, self._awaited):
            known.pop(job.job_id, None)

    def _submit(self, job: Job, rank: Rank, store: JobStore, view: View) -> None:
        try:
            asked = self._asked(job, rank, view.origin)
        except Busy as error:
            self._put_off(job.job_id, str(error))
            return
        except JobError as error:
            body: Json = msgspec.to_builtins(error.body)
            self._finish(job, Ending(status="FAILED", error=body), store)
            return
        size_bytes = len(msgspec.json.encode(asked)) + REQUEST_EXTRA_BYTES
        if size_bytes > REQUEST_MAX_BYTES:
            large = refusal(
                "ResourceError",
                "The job is too large to be handed over",
                size_bytes=size_bytes,
                most_bytes=REQUEST_MAX_BYTES,
            )
            self._finish(job, Ending(status="FAILED", error=large), store)
            return
        self._ask(job.job_id, "submit", asked=asked, on_behalf=asked.tenant)

    def _asked(self, job: Job, rank: Rank, origin: str) -> Asked:
        """What the daemon is asked for.

        Raises:
            JobError: it can never work here.
        """
        settings, home = self._config.settings.jobs, self._at_home.home.path
        find_trainers_in(self._config.trainers_dir)
        tenant = tenant_of(settings, job.asked.tenant_id, home, self._here)
        body = {**job.asked.config, "tenant_id": job.asked.tenant_id}
        request = converted(body, JobRequest)
        now_at = self._clock.read().wall
        asked = asked_of(request, job_id=job.job_id, tenant=tenant, now_at=now_at).asked
        labels = {
            FROM: THE_STORE,
            ORIGIN: origin,
            PRIORITY: job.asked.priority,
            TRAINED_BEFORE: f"{self._at_home.trained_s(job.job_id):.3f}",
        }
        asked = msgspec.structs.replace(
            asked,
            rank=rank,
            suspended=job.asked.paused,
            token=_token(job),
            retry=Retry(
                retries=max(0, job.asked.max_attempts - 1),
                first_s=RETRY.first_s,
                factor=RETRY.factor,
            ),
            labels={**asked.labels, **labels},
        )
        trouble = queue.refusal(asked, self._config.ladder)
        if trouble is not None:
            raise ConfigValidationError([Problem("config", trouble)])
        return asked

    def _ask(self, job_id: str, kind: str, **fields: Any) -> None:
        """Leave a request for the daemon, durably."""
        wall = self._clock.read().wall
        request = self._at_home.inbox.put(kind, by=BY, at=wall, **fields)
        self._awaited[job_id] = _Awaited(request)

    def _fire(self, store: JobStore, now_at: float) -> None:
        """Take in the jobs of schedules that are due, each once, whoever else looks."""
        if 0 <= now_at - self._schedules_at < SCHEDULES_S:
            return
        self._schedules_at = now_at
        for job, fired_at in store.schedules():
            asked = job.asked.schedule
            if asked is None:
                continue
            try:
                schedule = Schedule(
                    cron=asked.cron,
                    zone=asked.timezone,
                    catch_up=asked.catch_up,
                    overlap=asked.overlap,
                )
            except BadCalendar as error:
                self._note(f"schedule {job.job_id}: {error}")
                continue
            since_at = max(asked.since_at, fired_at or 0)
            # Whether the firing before has ended is for the store to say, which alone knows it.
            for firing in schedule.look(since_at, now_at, unfinished=False).firings:
                missed = firing.became == "missed"
                store.fire(
                    job.job_id, int(firing.at), cannot=_missed(firing.at) if missed else None
                )

    def _tell_of_waiting(self, store: JobStore, memory: Memory, now_at: float) -> None:
        """Have the daemon tell once that jobs wait for too long, and once that they do no more."""
        if 0 <= now_at - self._waiting_at < WAITING_S:
            return
        self._waiting_at = now_at
        settings, inbox = self._config.settings.jobs, self._at_home.inbox
        waiting = store.candidates(1) if settings.enabled else ()
        first = min(waiting, key=attrgetter("created_at"), default=None)
        waited_s = 0.0 if first is None else max(0.0, now_at - first.created_at)
        before = memory.told.jobs_late
        if are_late(waited_s, 3600 * settings.max_wait_h, before=before) == before:
            return
        if self._tells is None or not inbox.holds(self._tells):
            job, wall = None if first is None else first.job_id, self._clock.read().wall
            self._tells = inbox.put("jobs_wait", by=BY, at=wall, waited_s=waited_s, job=job)

    def _note(self, line: str) -> None:
        """Say something once."""
        if line not in self._told:
            if len(self._told) >= TOLD_MAX:
                self._told.clear()
            self._told.add(line)
            self._say(line)


def _token(job: Job) -> str:
    if job.claim is None:
        raise AssertionError("what is done to a job is done under a claim")
    return job.claim.token


def _missed(at: float) -> Json:
    """Why a firing has not started for which nobody was there."""
    return refusal("Conflict", "Nobody was there to start it when it was due", due=stamp(at))
