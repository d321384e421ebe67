"""Whose job goes to the daemon next: shares within a class, quotas, and an end to waiting; pure.

Jobs wait in the store, and only a few more than there are slots are in the daemon's queue, so that
this is decided late. Classes go before each other. Within one, the tenant is next that has had the
least for its weight: what it has had fades by half in a day, and what it was given and has not used
yet counts, too.

Who has got nothing for long ages: a tenant's next job rises by one class after each third of the
longest wait, and is submitted in the class that it has risen to. It is the *tenant's* wait that
counts, not the job's: by their own age the jobs of a flood would overtake everybody.
"""

from __future__ import annotations

import heapq
import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

import msgspec

from state.records import Rank
from trainers.contract import Name

HALF_LIFE_S = 86_400.0
MAX_WAIT_S = 86_400.0
RANKS: tuple[Rank, ...] = ("critical", "high", "normal", "low")
"""the highest first"""
DAY_S = 86_400
SIZE_S = 600.0
"""what a job is taken for where nothing like it has been measured"""

Amount = Annotated[float, msgspec.Meta(ge=0)]


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """A job that waits in the store."""

    job: str
    tenant: Name
    rank: Rank
    """that was asked for"""
    submitted_at: float
    number: int = 0
    """by which jobs follow each other that came in the same moment"""
    size_s: Amount = SIZE_S
    """how long it will hold a slot, as far as is known"""
    not_before_at: float | None = None
    """when its next attempt may begin"""
    paused: bool = False


class Quota(msgspec.Struct, frozen=True, kw_only=True):
    """What a tenant may have."""

    weight: Annotated[float, msgspec.Meta(gt=0)] = 1.0
    """of what there is it has so many parts, where others want theirs"""
    concurrent: Annotated[int, msgspec.Meta(ge=0)] | None = None
    """jobs at the daemon at once"""
    cpu_hours_per_day: Amount | None = None
    """by the calendar of UTC"""
    queued: Annotated[int, msgspec.Meta(ge=0)] | None = None
    """jobs that wait; a further one is refused"""
    stored_bytes: Annotated[int, msgspec.Meta(ge=0)] | None = None
    """of models and folders; above that a further job is refused"""


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """What a tenant has had."""

    used_s: Amount = 0.0
    """seconds of slots, as they had faded at `used_at`"""
    used_at: float = 0.0
    running: int = 0
    """jobs at the daemon"""
    committed_s: Amount = 0.0
    """what these will still use, as far as is known"""
    given_at: float | None = None
    """when it last had a job at the daemon; None: never"""
    cpu_s_today: Amount = 0.0

    def used_by(self, now_at: float) -> float:
        """What is left of its use by now."""
        return self.used_s * math.exp2(-max(0.0, now_at - self.used_at) / HALF_LIFE_S)

    def charged(self, slot_s: float, now_at: float) -> Account:
        """With so many seconds of slots used up to now."""
        used_at = max(now_at, self.used_at)
        return msgspec.structs.replace(self, used_s=self.used_by(now_at) + slot_s, used_at=used_at)


Cause = Literal[
    "paused", "retry", "concurrent", "cpu_hours", "room", "rank", "own", "share", "aged"
]


class Why(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One reason for which a job waits, with its number.

    * `paused`: somebody wants it to wait.
    * `retry`: its next attempt is not due before `until_at`.
    * `concurrent`: the tenant has `value` of `bound` jobs at the daemon.
    * `cpu_hours`: it has used `value` of the `bound` of this day, which ends at `until_at`.
    * `room`: the daemon has `value` jobs, and is given `bound` at once.
    * `rank`: `value` jobs of a higher class go before.
    * `own`: so do `value` jobs of the tenant itself.
    * `share`: of all that was used of late the tenant has had the part `value`, and its due among
      those that wait is `bound`.
    * `aged`: it has risen by `value` classes, since the tenant has got nothing for long.
    """

    cause: Cause
    value: float = 0.0
    bound: float | None = None
    until_at: float | None = None


class Submission(msgspec.Struct, frozen=True, kw_only=True):
    """A job that goes to the daemon now."""

    job: str
    tenant: Name
    rank: Rank
    """in which it is submitted: what was asked for, or what it has aged to"""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be done with all that wait."""

    submissions: tuple[Submission, ...]
    line: tuple[Candidate, ...]
    """those that may go and stay, in the order in which they follow if nobody comes between"""


class Over(msgspec.Struct, frozen=True, kw_only=True):
    """A quota that another job would exceed."""

    quota: Literal["queued", "stored_bytes"]
    used: float
    bound: float
    retry_after_s: float | None
    """after which there is room again; None: nobody knows"""


def plan(
    candidates: Sequence[Candidate],
    accounts: Mapping[Name, Account],
    quotas: Mapping[Name, Quota],
    *,
    room: int,
    now_at: float,
    max_wait_s: float = MAX_WAIT_S,
) -> Plan:
    """Which jobs go to the daemon now, and in which order the others follow.

    Args:
        candidates: all that wait.
        accounts: of tenants; one that has none has had nothing.
        quotas: of tenants; one that has none has a weight of 1 and no bounds.
        room: how many more jobs the daemon is given.
        now_at: of the clock that has written all other times.
        max_wait_s: after which a tenant that has got nothing is served before everybody.
    """
    desks = _desks(candidates, accounts, quotas, now_at, max_wait_s)
    submissions, line = _queued(desks, room)
    return Plan(submissions=submissions, line=tuple(one for one, _ in line))


def reasons(
    candidates: Sequence[Candidate],
    accounts: Mapping[Name, Account],
    quotas: Mapping[Name, Quota],
    *,
    room: int,
    now_at: float,
    max_wait_s: float = MAX_WAIT_S,
) -> dict[str, tuple[Why, ...]]:
    """Why each job waits that the same plan does not send to the daemon."""
    desks = _desks(candidates, accounts, quotas, now_at, max_wait_s)
    submissions, line = _queued(desks, room)
    at_daemon = sum(account.running for account in accounts.values())
    full = Why(
        cause="room", value=float(at_daemon + len(submissions)), bound=float(at_daemon + room)
    )
    found = _reasons(line, desks, full)
    for one in candidates:
        if _rests(one, now_at):
            retry = Why(cause="retry", until_at=one.not_before_at)
            found[one.job] = (Why(cause="paused") if one.paused else retry,)
    return found


def between(
    line: Sequence[Candidate],
    place: int,
    accounts: Mapping[Name, Account],
    quotas: Mapping[Name, Quota],
    *,
    now_at: float,
) -> float:
    """How many jobs may yet come before one of a line, if all go on that have trained of late.

    Args:
        line: of a plan.
        place: of the job in it.
        accounts: of tenants.
        quotas: of tenants.
        now_at: as for the plan.
    """
    tenant = line[place].tenant
    before = Counter(one.tenant for one in line[:place])
    own, weight = before[tenant] + 1, quotas.get(tenant, Quota()).weight
    return sum(
        max(0.0, own * quotas.get(other, Quota()).weight / weight - before[other])
        for other, account in accounts.items()
        if other != tenant and account.used_by(now_at) > 0
    )


def _queued(
    desks: Sequence[_Desk], room: int
) -> tuple[tuple[Submission, ...], list[tuple[Candidate, int]]]:
    """What goes, and what stays, each with the class that it has aged to."""
    line: list[tuple[Candidate, int]] = []
    submissions: list[Submission] = []
    turns = [(*desk.turn, place) for place, desk in enumerate(desks) if desk.ready]
    heapq.heapify(turns)
    while turns:
        *_, place = heapq.heappop(turns)
        desk = desks[place]
        rank = desk.rank
        one = desk.take()
        if len(submissions) < room and not desk.bounds():
            desk.running += 1
            submissions.append(Submission(job=one.job, tenant=one.tenant, rank=RANKS[rank]))
        else:
            line.append((one, rank))
        if desk.ready:
            heapq.heappush(turns, (*desk.turn, place))
    # Those that a quota holds stand behind those for which there is no room alone.
    held = {desk.tenant for desk in desks if desk.bounds()}
    line.sort(key=lambda it: it[0].tenant in held)
    return tuple(submissions), line


def over(
    quota: Quota, *, queued: int, stored_bytes: int, now_at: float, next_start_at: float | None
) -> Over | None:
    """The quota that forbids another job; None: it may come.

    Args:
        quota: of the tenant.
        queued: its jobs that wait.
        stored_bytes: what it has on disk.
        now_at: wall time.
        next_start_at: when one of those that wait will have started; None: nobody knows.
    """
    if quota.stored_bytes is not None and stored_bytes >= quota.stored_bytes:
        # When that is cleared away is up to people.
        used, bound = float(stored_bytes), float(quota.stored_bytes)
        return Over(quota="stored_bytes", used=used, bound=bound, retry_after_s=None)
    if quota.queued is not None and queued >= quota.queued:
        # One that starts makes room for one: beyond the quota others have to start first.
        known = next_start_at is not None and queued == quota.queued and quota.queued > 0
        after_s = max(1.0, next_start_at - now_at) if known and next_start_at else None
        return Over(
            quota="queued", used=float(queued), bound=float(quota.queued), retry_after_s=after_s
        )
    return None


def day_end(now_at: float) -> float:
    """When the day of UTC ends, and with it what was used of hours of the day."""
    return (math.floor(now_at / DAY_S) + 1) * float(DAY_S)


def jain(shares: Sequence[float]) -> float:
    """Jain's index of fairness: 1 where all have the same, 1/n where one has all."""
    total, squares = sum(shares), sum(share * share for share in shares)
    return 1.0 if squares == 0 else total * total / (len(shares) * squares)


class _Desk:
    """What of a tenant changes while a plan is made."""

    def __init__(
        self,
        tenant: Name,
        jobs: list[Candidate],
        account: Account,
        quota: Quota,
        now_at: float,
        max_wait_s: float,
    ) -> None:
        self.tenant = tenant
        self.quota = quota
        self.running = account.running
        self.used_s = account.used_by(now_at)
        self._account = account
        self._now_at = now_at
        self._had_s = self.used_s + account.committed_s
        self._jobs = sorted(jobs, key=_order, reverse=True)
        since_at = min((job.submitted_at for job in jobs), default=now_at)
        if account.given_at is not None:
            since_at = max(since_at, account.given_at)
        waited_s = 0.0 if account.running else max(0.0, now_at - since_at)
        self._risen = int(waited_s // (max_wait_s / (len(RANKS) - 1)))

    @property
    def ready(self) -> bool:
        """Whether a job of it may go."""
        return bool(self._jobs)

    @property
    def rank(self) -> int:
        """The class of its next job, as a place in `RANKS`."""
        return max(0, RANKS.index(self._jobs[-1].rank) - self._risen)

    @property
    def turn(self) -> tuple[int, float, float, Name]:
        """By which tenants follow each other."""
        return self.rank, self._had_s / self.quota.weight, self._jobs[-1].submitted_at, self.tenant

    def take(self) -> Candidate:
        """Its next job."""
        one = self._jobs.pop()
        self._had_s += one.size_s
        self._risen = 0
        return one

    def bounds(self) -> tuple[Why, ...]:
        """The quotas that keep its next job here."""
        found = []
        quota = self.quota
        if quota.concurrent is not None and self.running >= quota.concurrent:
            found.append(
                Why(cause="concurrent", value=float(self.running), bound=float(quota.concurrent))
            )
        hours = self._account.cpu_s_today / 3600
        if quota.cpu_hours_per_day is not None and hours >= quota.cpu_hours_per_day:
            found.append(
                Why(
                    cause="cpu_hours",
                    value=hours,
                    bound=quota.cpu_hours_per_day,
                    until_at=day_end(self._now_at),
                )
            )
        return tuple(found)


def _desks(
    candidates: Sequence[Candidate],
    accounts: Mapping[Name, Account],
    quotas: Mapping[Name, Quota],
    now_at: float,
    max_wait_s: float,
) -> list[_Desk]:
    ready: dict[Name, list[Candidate]] = defaultdict(list)
    for one in candidates:
        if not _rests(one, now_at):
            ready[one.tenant].append(one)
    return [
        _Desk(
            tenant,
            ready.get(tenant, []),
            accounts.get(tenant, Account()),
            quotas.get(tenant, Quota()),
            now_at,
            max_wait_s,
        )
        for tenant in sorted({*ready, *accounts})
    ]


def _rests(one: Candidate, now_at: float) -> bool:
    return one.paused or (one.not_before_at is not None and one.not_before_at > now_at)


def _order(one: Candidate) -> tuple[int, float, int, str]:
    """By which the jobs of one tenant follow each other."""
    return RANKS.index(one.rank), one.submitted_at, one.number, one.job


def _reasons(
    line: Sequence[tuple[Candidate, int]], desks: Sequence[_Desk], full: Why
) -> dict[str, tuple[Why, ...]]:
    """Why each of a line waits."""
    of = {desk.tenant: desk for desk in desks}
    waits = {one.tenant for one, _ in line}
    used_s = sum(desk.used_s for desk in desks)
    weights = sum(of[tenant].quota.weight for tenant in waits)
    ranks, own = [0] * len(RANKS), dict.fromkeys(waits, 0)
    found: dict[str, tuple[Why, ...]] = {}
    for one, rank in line:
        desk = of[one.tenant]
        why = list(desk.bounds()) or [full]
        higher = sum(ranks[:rank])
        if higher:
            why.append(Why(cause="rank", value=float(higher)))
        if own[one.tenant]:
            why.append(Why(cause="own", value=float(own[one.tenant])))
        if used_s > 0:
            due = desk.quota.weight / weights
            why.append(Why(cause="share", value=desk.used_s / used_s, bound=due))
        risen = RANKS.index(one.rank) - rank
        if risen:
            why.append(Why(cause="aged", value=float(risen)))
        found[one.job] = tuple(why)
        ranks[rank] += 1
        own[one.tenant] += 1
    return found
