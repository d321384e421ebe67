"""Made-up days of tenants that share a machine, by the real plans of whose job is next.

The daemon is the short part of the story: so many slots, given to what was submitted class by
class, first come first served within each; a higher class takes the slot of a lower one, whose work
is saved. Nothing of it is random but what the tenants send, from one seed.
"""

import itertools
from dataclasses import dataclass, field

from supervisor.core.eta import Eta, Kind, Measured, until_start
from supervisor.core.fairness import RANKS, Account, Candidate, between, plan

HOUR_S, DAY_S = 3_600.0, 86_400.0
TICK_S = 300.0
FORETOLD_AT_ONCE = 20
"""of a flood"""
BEGIN_AT = 1_800_000_000.0


@dataclass
class Sent:
    """A job that somebody submits."""

    at: float
    tenant: str
    rank: str
    lasts_s: float
    job: str = ""
    left_s: float = 0.0
    started_at: float | None = None
    done_at: float | None = None
    as_rank: str = ""
    turn: int = 0
    trains: bool = False
    foretold: Eta | None = None
    """when it starts, as it was told when it came"""


@dataclass
class Day:
    """What became of it."""

    jobs: list[Sent]
    slot_s: dict[str, float] = field(default_factory=dict)
    """of tenants, from `measured_from` on"""
    longest_wait_s: dict[str, float] = field(default_factory=dict)
    """for how long a tenant had jobs that waited, and none that trained"""
    most_at_once: dict[str, int] = field(default_factory=dict)
    """jobs of tenants at the daemon"""

    @property
    def shares(self):
        total = sum(self.slot_s.values())
        return {tenant: used / total for tenant, used in self.slot_s.items()}


def steady(rng, tenant, *, each_s, lasts_s, until_s=DAY_S, rank="normal", begin_s=0.0):
    """Jobs that come one by one, `each_s` apart on average; none lasts like another."""
    now, found = begin_s, []
    while True:
        now += rng.expovariate(1 / each_s)
        if now >= until_s:
            return found
        found.append(Sent(BEGIN_AT + now, tenant, rank, lasts(rng, lasts_s)))


def flood(rng, tenant, count, *, lasts_s, at_s=0.0, rank="normal"):
    """So many at once."""
    return [Sent(BEGIN_AT + at_s, tenant, rank, lasts(rng, lasts_s)) for _ in range(count)]


def lasts(rng, mean_s, sigma=0.6):
    return mean_s * rng.lognormvariate(-sigma * sigma / 2, sigma)


def live(sent, **how):
    """Live through it; what is waiting at the end stays. See `Machine`."""
    return Machine(sent, **how).lived()


class Machine:
    """A machine with some slots, a store of jobs that wait, and a dispatcher between.

    Args:
        sent: jobs of all tenants.
        slots: runs side by side.
        extra: jobs that the daemon has beyond these.
        quotas: of tenants.
        until_s: how long it is looked at.
        measured_from_s: from when on shares count.
        max_wait_s: as for a plan.
        foretell: whether jobs are told when they will start.
    """

    def __init__(
        self,
        sent,
        *,
        slots=4,
        extra=2,
        quotas=None,
        until_s=DAY_S,
        measured_from_s=0.0,
        max_wait_s=DAY_S,
        foretell=False,
    ):
        self.sent = sorted(sent, key=lambda one: (one.at, one.tenant))
        for number, one in enumerate(self.sent):
            one.job, one.left_s = f"{one.tenant}-{number:05}", one.lasts_s
        tenants = sorted({one.tenant for one in self.sent})
        self.slots, self.room, self.quotas = slots, slots + extra, quotas or {}
        self.end, self.measured_from = BEGIN_AT + until_s, BEGIN_AT + measured_from_s
        self.max_wait_s, self.foretell = max_wait_s, foretell
        self.accounts = {tenant: Account(used_at=BEGIN_AT) for tenant in tenants}
        self.day = Day(self.sent, dict.fromkeys(tenants, 0.0), dict.fromkeys(tenants, 0.0))
        self.day.most_at_once = dict.fromkeys(tenants, 0)
        self.hungry_since = dict.fromkeys(tenants)
        self.coming, self.waiting, self.at_daemon = list(reversed(self.sent)), {}, []
        self.lateness = []
        self.took_s, self.turns, self.now = [], itertools.count(), BEGIN_AT

    def lived(self):
        while self.now < self.end:
            came = self._take_in()
            self._keep_accounts()
            line = self._dispatch(came)
            self._deal()
            if self.foretell:
                self._foretell(came, line)
            self._pass()
        return self.day

    def _take_in(self):
        came = []
        while self.coming and self.coming[-1].at <= self.now:
            one = self.coming.pop()
            self.waiting[one.job] = one
            came.append(one)
        return came

    def _keep_accounts(self):
        wanted = {one.tenant for one in self.waiting.values()}
        for tenant, account in self.accounts.items():
            here = [one for one in self.at_daemon if one.tenant == tenant]
            busy = any(one.trains for one in here)
            self.accounts[tenant] = Account(
                used_s=account.used_s,
                used_at=account.used_at,
                running=len(here),
                committed_s=sum(one.left_s for one in here),
                given_at=self.now if busy else account.given_at,
            )
            most = self.day.most_at_once
            most[tenant] = max(most[tenant], len(here))
            if busy or not (here or tenant in wanted):
                self.hungry_since[tenant] = None
            elif self.hungry_since[tenant] is None:
                self.hungry_since[tenant] = self.now
            else:
                waited_s = self.now - self.hungry_since[tenant]
                longest = self.day.longest_wait_s
                longest[tenant] = max(longest[tenant], waited_s)

    def _dispatch(self, came):
        room = self.room - len(self.at_daemon)
        if not room and not (self.foretell and came):
            return ()
        size_s = sum(self.took_s) / len(self.took_s) if self.took_s else 600.0
        found = plan(
            [
                Candidate(
                    job=one.job,
                    tenant=one.tenant,
                    rank=one.rank,
                    submitted_at=one.at,
                    size_s=size_s,
                )
                for one in self.waiting.values()
            ],
            self.accounts,
            self.quotas,
            room=room,
            now_at=self.now,
            max_wait_s=self.max_wait_s,
        )
        for one in found.submissions:
            job = self.waiting.pop(one.job)
            job.as_rank, job.turn = one.rank, next(self.turns)
            self.at_daemon.append(job)
        return found.line

    def _deal(self):
        """Slots go class by class; whoever trains keeps its slot within its class."""
        for place, one in enumerate(sorted(self.at_daemon, key=_order)):
            one.trains = place < self.slots
            if one.trains and one.started_at is None:
                one.started_at = self.now
                if one.foretold is not None and one.foretold.plain_p90_s > 0:
                    self.lateness.append((self.now - one.at) / one.foretold.plain_p90_s)

    def _foretell(self, came, line):
        """Say of those that have just come when they will start."""
        kind = Kind(trainer="tabular", size=0)
        known = Measured({kind: tuple(self.took_s)})
        running = [(kind, one.lasts_s - one.left_s) for one in self.at_daemon if one.trains]
        queued = len(self.at_daemon) - len(running)
        places = {one.job: place for place, one in enumerate(line)}
        for one in came[:FORETOLD_AT_ONCE]:
            if one.job not in places:
                continue
            place = places[one.job]
            others = between(line, place, self.accounts, self.quotas, now_at=self.now)
            one.foretold = until_start(
                [kind] * (queued + place),
                running,
                self.slots,
                known,
                between=others,
                lateness=self.lateness,
            )

    def _pass(self):
        """Up to whatever comes next."""
        ends = [self.now + one.left_s for one in self.at_daemon if one.trains]
        comes = [self.coming[-1].at] if self.coming else []
        until = max(min([self.end, self.now + TICK_S, *ends, *comes]), self.now + 1e-6)
        used_s = until - self.now
        for one in [one for one in self.at_daemon if one.trains]:
            one.left_s -= used_s
            self.accounts[one.tenant] = self.accounts[one.tenant].charged(used_s, until)
            if self.now >= self.measured_from:
                self.day.slot_s[one.tenant] += used_s
            if one.left_s <= 1e-6:
                one.done_at = until
                self.took_s.append(one.lasts_s)
                self.at_daemon.remove(one)
        self.now = until


def _order(one):
    return RANKS.index(one.as_rank), not one.trains, one.turn
