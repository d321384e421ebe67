"""What a dispatcher does next, from what it sees of the store and of its home; pure.

A job that this home has is in one of these places, whatever was killed between any two of them:

* claimed, and no run of that token is known: it is submitted, once more where it was before;
* a run of that token is in the queue: what became of it is mirrored, what is asked passed on;
* that run has ended: the job ends, and once, whoever says so again;
* that run has left without an end: it is claimed anew, and goes on from what it has saved;
* a run of another token is in the queue: it leaves first.

A run of the dispatcher's that no claim of this home is for belongs to nobody, and is withdrawn.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import msgspec

from state.jobs.records import Ending, Job, Seen
from state.records import Asked, Rank, Run
from supervisor.core.fairness import RANKS, Account, Candidate, Quota, plan
from supervisor.core.queue import ENDED
from supervisor.jobs.mirror import Found, ending_of, last_of, seen_of

FROM, THE_STORE = "from", "job store"
"""label of the runs that a dispatcher has submitted"""
PRIORITY = "priority"
"""label of a run: what was asked for when its rank was chosen"""
SPARE = 2
"""jobs that the daemon has beyond its slots, so that none of these stands empty"""
AT_HOME_MAX = 400
"""jobs that a home has at once; the daemon takes no more than 500 submitted runs"""
MIRROR_S = 2.0
"""the least time between two looks that are mirrored, where only the progress is another"""
CONFIRM_S = 10.0
"""after so long the same is mirrored again, which says that it is still so"""
RESTING = ("waiting", "quarantined")
"""states of runs that want no slot"""


class Submit(msgspec.Struct, frozen=True, kw_only=True):
    """The job is handed to the daemon."""

    job: Job
    rank: Rank | None = None
    """in which class; None: in that which was asked for"""


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """The job is claimed for this home, and submitted in that class."""

    job_id: str
    rank: Rank


class Renew(msgspec.Struct, frozen=True, kw_only=True):
    """The job is claimed anew, from this home or from another one."""

    job: Job


class Amend(msgspec.Struct, frozen=True, kw_only=True):
    """The daemon is told what is asked by now."""

    asked: Asked


class Leave(msgspec.Struct, frozen=True, kw_only=True):
    """The daemon is asked to have a run end, or leave without an end."""

    run: Run
    ends: bool


class Mirror(msgspec.Struct, frozen=True, kw_only=True):
    """What was seen of the job is written down."""

    job: Job
    seen: Seen


class Finish(msgspec.Struct, frozen=True, kw_only=True):
    """The job ends."""

    job: Job
    ending: Ending


Act = Submit | Claim | Renew | Amend | Leave | Mirror | Finish


class Mirrored(msgspec.Struct, frozen=True, kw_only=True):
    """What was written down last of a job."""

    seen: Seen
    at: float


class View(msgspec.Struct, frozen=True, kw_only=True):
    """What a dispatcher sees at one moment."""

    now_at: float
    """by the clock of the store"""
    home: str
    """the id of this home"""
    claimed: tuple[Job, ...] = ()
    """jobs that it has and that have not ended"""
    found: Mapping[str, Found] = {}
    """runs of theirs, by id, in the queue or as they have left it"""
    strays: tuple[Run, ...] = ()
    """runs of the queue that a dispatcher has submitted, and that no claim of this home is for"""
    awaited: frozenset[str] = frozenset()
    """ids of jobs about which the daemon has been asked and has not answered"""
    mirrored: Mapping[str, Mirrored] = {}
    confirm_s: float = CONFIRM_S
    max_wait_s: float = 86_400.0
    slots: int = 0
    """of the mode; 0: this home takes no job now"""
    candidates: tuple[Candidate, ...] = ()
    accounts: Mapping[str, Account] = {}
    quotas: Mapping[str, Quota] = {}
    forsaken: tuple[Job, ...] = ()
    """jobs of other homes of which nobody has heard for too long"""


def decide(view: View) -> tuple[Act, ...]:
    """What is to be done, in this order."""
    acts: list[Act] = []
    for run in view.strays:
        acts += _sent_away(run, view)
    for job in view.claimed:
        acts += follow(job, view)
    return (*acts, *_taken(view))


def room(view: View) -> int:
    """How many more jobs the daemon is given."""
    if not view.slots:
        return 0
    busy = 0
    for job in view.claimed:
        found = view.found.get(job.job_id)
        rests = found is not None and found.run.status in RESTING
        busy += not job.asked.paused and not rests
    return max(0, min(view.slots + SPARE - busy, AT_HOME_MAX - len(view.claimed)))


def follow(job: Job, view: View) -> Iterable[Act]:
    """What is to be done about a job that this home has."""
    found, token = view.found.get(job.job_id), job.claim and job.claim.token
    if found is None:
        return _begun(job, view)
    if found.run.asked.token != token:
        # Of an earlier claim: what is over of it keeps nobody from going on with what it has saved.
        over = found.has_left or found.run.status in ENDED
        return _begun(job, view) if over else _sent_away(found.run, view)
    if found.run.withdrawn:
        return _withdrawn(job, found)
    return _trained(job, found, view)


def _begun(job: Job, view: View) -> Iterator[Act]:
    """Nothing is there that is of its claim."""
    if job.asked.cancel_wanted:
        # Should the daemon have been asked already, what it begins is a stray, and leaves.
        yield Finish(job=job, ending=Ending(status="CANCELLED"))
    elif job.job_id not in view.awaited:
        yield Submit(job=job)


def _sent_away(run: Run, view: View) -> Iterator[Act]:
    """It is of no claim that lasts."""
    if run.id not in view.awaited and not _is_leaving(run):
        yield Leave(run=run, ends=False)


def _withdrawn(job: Job, found: Found) -> Iterator[Act]:
    """Somebody has taken it out, and the daemon would not have it again by that claim."""
    if found.has_left and job.asked.cancel_wanted:
        yield Finish(job=job, ending=Ending(status="CANCELLED"))
    elif found.has_left:
        yield Renew(job=job)


def _trained(job: Job, found: Found, view: View) -> Iterator[Act]:
    """It is in the queue, or has come to its end."""
    run, ending = found.run, ending_of(job, found)
    if ending is not None:
        last = last_of(job, found)
        if last is not None:
            yield Mirror(job=job, seen=last)
        yield Finish(job=job, ending=ending)
        return
    seen = seen_of(job, found)
    if _is_worth_it(job, seen, view):
        yield Mirror(job=job, seen=seen)
    if job.job_id in view.awaited or run.ending is not None:
        return
    if job.asked.cancel_wanted:
        yield Leave(run=run, ends=True)
        return
    asked = wanted(job, run, view)
    if asked != run.asked:
        yield Amend(asked=msgspec.structs.replace(asked, revision=run.asked.revision + 1))


def wanted(job: Job, run: Run, view: View) -> Asked:
    """What is asked of a run by now: whether it waits, and in which class it stands.

    A job that has never got a slot rises by one class after each third of the longest wait, as its
    tenant did before it was submitted.
    """
    asked = run.asked
    rank, priority = asked.rank, job.asked.priority
    if asked.labels.get(PRIORITY) != priority:
        rank = priority
    if run.attempt.number == 0 and job.claim is not None and not job.asked.paused:
        waited_s = max(0.0, view.now_at - job.claim.claimed_at)
        risen = int(waited_s // (view.max_wait_s / (len(RANKS) - 1)))
        rank = RANKS[min(RANKS.index(rank), max(0, RANKS.index(priority) - risen))]
    return msgspec.structs.replace(
        asked,
        rank=rank,
        suspended=job.asked.paused,
        labels={**asked.labels, PRIORITY: priority},
    )


def _taken(view: View) -> Sequence[Act]:
    """Jobs that this home takes now."""
    free = room(view)
    if not free:
        return ()
    renewed = [Renew(job=job) for job in view.forsaken[:free]]
    planned = plan(
        view.candidates,
        view.accounts,
        view.quotas,
        room=free - len(renewed),
        now_at=view.now_at,
        max_wait_s=view.max_wait_s,
    )
    claims = [Claim(job_id=one.job, rank=one.rank) for one in planned.submissions]
    return (*renewed, *claims)


def _is_leaving(run: Run) -> bool:
    return run.withdrawn or run.ending is not None or run.status in ENDED


def _is_worth_it(job: Job, seen: Seen, view: View) -> bool:
    """Whether what was seen is to be written down."""
    last = view.mirrored.get(job.job_id)
    if last is None:
        return True
    age_s = view.now_at - last.at
    if age_s >= view.confirm_s or age_s < 0:
        return True
    same = _but_for_progress(last.seen) == _but_for_progress(seen)
    return not same or (age_s >= MIRROR_S and last.seen.progress != seen.progress)


def _but_for_progress(seen: Seen) -> Seen:
    return msgspec.structs.replace(
        seen,
        age_s=0.0,
        next_attempt_in_s=None if seen.next_attempt_in_s is None else 0.0,
        progress=0.0,
        metrics=None,
        history=(),
        used_s=0.0,
        kept_bytes=0,
    )
