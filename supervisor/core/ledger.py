"""What the machine has taught the policy `ledger`: entries, and the numbers that follow.

The ledger is a small record (`state.records.Ledger`). It changes by two things alone: an
entry (`booked`), which carries every number that it needs, and a decision (`after`), which
depends on the facts alone. The log has both, so `supervisor replay` comes to the same
ledger bit for bit, whatever the settings are by then.

Units: hours of running time and crashes per such hour. Work has the unit of its kind of run
(steps of one trainer are no steps of another), so it is compared within one kind and never
added; how fast a mode is, is steps per hour of *training*. What a start-up takes and what a
crash destroys stand in the price of a crash, once.

Sources: Gamma-Poisson conjugacy with Jeffreys' shape 1/2 for the rate of crashes (Gelman et
al., Bayesian Data Analysis, 2.6); Wilson & Hilferty 1931 for its quantiles; Page 1954 for the
budget, which is a CUSUM; Nygard, Release It!, for probation, which is a half-open circuit
breaker; Young 1974 and Daly 2006 for the interval of checkpoints.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable, Mapping
from itertools import accumulate
from typing import NamedTuple

import msgspec

from state.records import Booking, Exposure, Goal, Kept, Ledger, ModeLedger, Stretch, Visit
from supervisor.core import hazard
from supervisor.core.facts import Decision, Facts, StabilityLimits, Terms

RATE_SHAPE = 0.5
RATE_HOURS = 0.25
"""the prior of every crash rate: Gamma(shape, hours)"""
SPEED_HOURS = 0.25
"""hours of training that the promised speed of a mode weighs as much as"""
HOURS_FOR_ONE = 10.0
"""as many hours of a mode are comparable with one of the mode below"""
KINDS_MAX = 32
"""kinds of runs of the campaign whose speed is known, and as many of jobs; more teach none"""
JOB_KIND = "job:"
"""how the name of a kind begins of which runs are submitted"""
FAIR_CRASHES = 0.05
FAIR_HOURS = 1.0
"""the prior of the rate of the mode below, of which the mode above may have its share"""
VISIT_HOURS = 0.25
VISIT_HOURS_MIN = 0.03
SHORT_VISIT_HOURS = 4.0
"""what a failed visit is taken to cost, counted as one; its least; longer ones say nothing"""
BAD_HOURS = 6.0
BAD_RECOVERIES = 0.2
"""the prior of how long a bad spell lasts"""
COSTS_KEPT = 30
COST_MAX_H = 2.0
"""no crash is priced higher: that a machine hung until the morning says nothing of the next one"""
SHAKEN_S = 3600.0
"""soon after a crash: running time in which another one is an aftershock"""
LONE_KNOWN = 1.5
"""crashes and running hours that were not soon after a crash, from which their rate is known"""
LONG_TRIAL_EACH = 3
"""after so many failures in a row one trial may cost more, and after as many times as many again"""
SHAKEN_KNOWN_H = 2.0
"""running hours soon after a crash from which their rate is the rate, where there are no others"""
BURST_FACTOR = 2.0
"""crashes come in bursts if they are surely this many times as frequent soon after another one"""
RATIO_MIN, RATIO_MAX = 0.01, 100.0
NORMAL_80, NORMAL_10 = 0.8416212335729143, -1.2815515655446004
"""quantiles of the normal distribution"""
MODE_PART = "mode "
"""how the part of a fingerprint begins that says what a mode is; its name follows"""
FORGOTTEN_HOURS = 1e-6
"""work of a kind that has faded to less is dropped"""
NOTHING = ModeLedger()


class Rate(NamedTuple):
    """What is believed of crashes per running hour: Gamma(shape, hours)."""

    shape: float
    hours: float

    @property
    def mean_per_h(self) -> float:
        """What is to be expected."""
        return self.shape / self.hours

    @property
    def low_per_h(self) -> float:
        """One in ten that it is lower."""
        return _gamma_quantile(self.shape, NORMAL_10) / self.hours

    @property
    def high_per_h(self) -> float:
        """One in five that it is higher."""
        return _gamma_quantile(self.shape, NORMAL_80) / self.hours


class Saving(NamedTuple):
    """What one checkpoint costs."""

    stall_s: float
    """for how long training stands still for it"""
    write_s: float
    """for how long the disk is at it, beside the training"""
    size_bytes: float


# Entries


def entry(
    ledger: Ledger,
    terms: Terms,
    *,
    goal: Goal,
    at_s: float,
    stretch: Stretch,
    visit: Visit,
    crashes: int = 0,
    charge: float = 0.0,
    cost_s: float | None = None,
    fingerprint: dict[str, str] | None = None,
) -> Booking:
    """The entry for `stretch`, and for what ended it.

    Args:
        ledger: as it stands.
        terms: the ladder and the limits.
        goal: that of the stretch; while a person pins the mode, crashes cost no budget.
        at_s: its end on the timeline.
        stretch: what happened since the last entry.
        visit: the stay in that mode, up to its end.
        crashes: of the machine at its end.
        charge: what the death of a trainer has cost, in crashes.
        cost_s: what an earlier crash has cost, if that became known.
        fingerprint: what the machine is from now on, if that has changed.
    """
    limits, mode = terms.limits, goal.mode
    gone_h = max(0.0, at_s - ledger.booked_s) / 3600
    crash_keep, crash_mean = _fading(gone_h, limits.crash_half_life_h)
    rung = terms.ladder.index(mode) if mode in terms.ladder else 0
    running_h = stretch.running_s / 3600
    refill, spent = 0.0, 0.0
    if rung:  # nothing is staked in the lowest mode: there is nowhere to fall
        spent = 0.0 if goal.pinned else crashes + charge
        if running_h:
            worth_per_h = break_even_per_h(ledger, terms, rung)
            refill = running_h * min(
                max(worth_per_h, limits.refill_min_per_h), limits.refill_max_per_h
            )
    return Booking(
        at_s=max(at_s, ledger.booked_s),
        mode=mode,
        hours=running_h * crash_mean,
        aftershock_hours=stretch.shaken_s / 3600 * crash_mean,
        aftershocks=crashes if visit.crashes_s and visit.stable_s < SHAKEN_S else 0,
        work=stretch.work,
        crash_keep=crash_keep,
        work_hours_max=limits.work_hours_max,
        budget_max=budget_cap(ledger, terms, mode, visit.running_s),
        refill=refill,
        spent=spent,
        crashes=crashes,
        exposure=_exposure(ledger, mode, stretch, gone_h),
        cost_s=None if cost_s is None else min(cost_s, COST_MAX_H * 3600),
        fingerprint=fingerprint,
        redefined=tuple(
            part.removeprefix(MODE_PART)
            for part in changed(ledger.fingerprint, fingerprint or {})
            if part.startswith(MODE_PART)
        ),
    )


def _exposure(ledger: Ledger, mode: str, stretch: Stretch, gone_h: float) -> Exposure | None:
    """What the stretch adds to the hazard of its mode; None: no crash was ever seen before it."""
    nothing = not stretch.aged_s and stretch.crash_age_s is None
    if nothing and not any(known.hazard.hours for known in ledger.modes.values()):
        return None
    known = ledger.modes.get(mode, NOTHING)
    return hazard.exposure(known.hazard, stretch, gone_h)


def booked(ledger: Ledger, booking: Booking) -> Ledger:
    """The ledger with one more entry. Nothing but sums and products: the same everywhere."""
    modes = {name: _faded(known, booking.crash_keep) for name, known in ledger.modes.items()}
    if booking.hours or booking.crashes:
        known = modes.get(booking.mode, NOTHING)
        modes[booking.mode] = msgspec.structs.replace(
            known,
            crashes=known.crashes + booking.crashes,
            hours=known.hours + booking.hours,
            aftershocks=known.aftershocks + booking.aftershocks,
            aftershock_hours=known.aftershock_hours + booking.aftershock_hours,
        )
    for name, runs in booking.work.items():
        known = modes.get(name, NOTHING)
        work = dict(known.work)
        for kind, kept in runs.items():
            before = work.get(kind, Kept())
            work[kind] = Kept(steps=before.steps + kept.steps, hours=before.hours + kept.hours)
        modes[name] = _renewed(msgspec.structs.replace(known, work=work), booking.work_hours_max)
    if booking.exposure is not None:
        modes.setdefault(booking.mode, NOTHING)
        modes = {
            name: msgspec.structs.replace(
                known,
                hazard=hazard.exposed(known.hazard, booking.exposure, here=name == booking.mode),
            )
            for name, known in modes.items()
        }
    budget = booking.budget_max if ledger.budget is None else ledger.budget
    costs_s, fingerprint = ledger.costs_s, ledger.fingerprint
    if booking.cost_s is not None:
        costs_s = (*costs_s, booking.cost_s)[-COSTS_KEPT:]
    if booking.fingerprint is not None:
        fingerprint = booking.fingerprint
    if changed(ledger.fingerprint, fingerprint):
        modes = {
            name: msgspec.structs.replace(known, level=0, in_row=0, bad_since_s=None)
            for name, known in modes.items()
        }
    for name in booking.redefined:
        if name in modes:
            modes[name] = msgspec.structs.replace(modes[name], work={})
    return Ledger(
        version=ledger.version,
        booked_s=booking.at_s,
        budget=min(booking.budget_max, budget + booking.refill) - booking.spent,
        costs_s=costs_s,
        modes=modes,
        fingerprint=fingerprint,
    )


def changed(known: Mapping[str, str], seen: Mapping[str, str]) -> list[str]:
    """The parts of a fingerprint that are another; one that was unknown before is not."""
    return [part for part, value in seen.items() if known.get(part, value) != value]


def after(facts: Facts, decision: Decision) -> Ledger:
    """The ledger once `decision` is enacted: what a visit that ends, or lasts, has taught."""
    ledger, old, new = facts.ledger, facts.goal.mode, decision.goal.mode
    modes = dict(ledger.modes)
    if decision.outcome == "proved":
        modes[old] = _proved(modes.get(old, NOTHING), facts.entered_s)
    if new == old and not (facts.goal.pinned and not decision.goal.pinned):
        return msgspec.structs.replace(ledger, modes=modes)
    if new != old:
        left = msgspec.structs.replace(
            modes.get(old, NOTHING),
            last_crashes=facts.crashes,
            last_hours=facts.running_s / 3600,
        )
        modes[old] = _failed(left, facts) if decision.outcome == "failed" else left
        entered = modes.get(new, NOTHING)
        if decision.outcome == "exonerated":
            entered = msgspec.structs.replace(entered, level=max(0, entered.level - 1))
        modes[new] = entered
    after_that = msgspec.structs.replace(ledger, modes=modes)
    if decision.outcome in ("breather", "breather_over"):
        return after_that  # the visit that it interrupts goes on, and so does its budget
    # A mode that is entered, or set free, begins on full credit.
    full = budget_cap(after_that, facts.terms, new, 0.0)
    return msgspec.structs.replace(after_that, budget=full)


# What follows


def price_h(ledger: Ledger, limits: StabilityLimits) -> float:
    """What a crash costs in hours of work: what is expected counts as one that was measured."""
    known_s = sum(ledger.costs_s) + limits.crash_price_min * 60
    mean_h = known_s / (1 + len(ledger.costs_s)) / 3600
    return max(mean_h, limits.crash_price_floor_min / 60)


def compared(ledger: Ledger, terms: Terms, rung: int) -> tuple[tuple[float, float], ...]:
    """How fast the mode of `rung` was beside the one below, kind by kind: (hours, ratio).

    A kind says something where it was trained in both. It weighs as much as its hours in the
    mode of `rung`, but no more than a few times those below: a pace of seconds is no measure.
    """
    below, here = (ledger.modes.get(terms.ladder[one], NOTHING).work for one in (rung - 1, rung))
    found = []
    for kind, kept in here.items():
        other = below.get(kind, Kept())
        hours = min(kept.hours, HOURS_FOR_ONE * other.hours)
        if hours > 0 and kept.steps > 0 and other.steps > 0:
            faster = (kept.steps / kept.hours) / (other.steps / other.hours)
            found.append((hours, _bounded(faster)))
    return tuple(found)


def compared_h(ledger: Ledger, terms: Terms, rung: int) -> float:
    """Hours of training in which the mode of `rung` was compared with the one below; 0: never."""
    return math.fsum(hours for hours, _ in compared(ledger, terms, rung))


def ratio(ledger: Ledger, terms: Terms, rung: int) -> float:
    """How many times as fast the mode of `rung` trains as the one below.

    The mean of the kinds of runs that were trained in both, and of what the mode promises,
    which weighs as much as `SPEED_HOURS` and stands alone where no kind is common.
    """
    promised = terms.speeds[rung] / terms.speeds[rung - 1]
    known = ((SPEED_HOURS, promised), *compared(ledger, terms, rung))
    hours = math.fsum(each_h for each_h, _ in known)
    return _bounded(math.fsum(each_h * faster for each_h, faster in known) / hours)


def speeds(ledger: Ledger, terms: Terms) -> tuple[float, ...]:
    """How fast each mode trains; the lightest is 1."""
    ratios = (ratio(ledger, terms, rung) for rung in range(1, len(terms.ladder)))
    return tuple(accumulate(ratios, operator.mul, initial=1.0))


def kinds(works: Iterable[Mapping[str, Kept]]) -> set[str]:
    """All kinds of runs of which these hold work."""
    return {kind for work in works for kind in work}


def has_room(known: Iterable[str], kind: str) -> bool:
    """Whether one more kind like this one can be known beside `known`."""
    return sum(_is_of_jobs(one) == _is_of_jobs(kind) for one in known) < KINDS_MAX


def _is_of_jobs(kind: str) -> bool:
    return kind.startswith(JOB_KIND)


def break_even_per_h(ledger: Ledger, terms: Terms, rung: int) -> float:
    """Crashes per running hour at which the mode of `rung` brings no more than the one below.

    With speeds in units of the mode below, work over wall time is `ratio / (1 + rate * price)`
    above and `1 / (1 + rate_below * price)` below; equal at the rate that is returned.
    """
    below = ledger.modes.get(terms.ladder[rung - 1], NOTHING)
    faster = ratio(ledger, terms, rung)
    fair_per_h = (FAIR_CRASHES + below.crashes) / (FAIR_HOURS + below.hours)
    return (faster - 1) / price_h(ledger, terms.limits) + faster * fair_per_h


def rate(known: ModeLedger) -> Rate:
    """The rate of crashes of a mode."""
    return Rate(RATE_SHAPE + known.crashes, RATE_HOURS + known.hours)


def aftershock_rate(known: ModeLedger) -> Rate:
    """The same soon after a crash."""
    return Rate(RATE_SHAPE + known.aftershocks, RATE_HOURS + known.aftershock_hours)


def crashes_evenly(known: ModeLedger) -> bool:
    """Whether crashes are known to come by themselves, and not one upon the other.

    Where each draws others after it, a storm ends by leaving the mode, so that the mode may be
    worth more crashes than it has and its storms are not worth sitting out. Where nearly all
    running lies soon after a crash there is nothing to compare with, nor any need: after a
    while that rate is the rate.
    """
    if _lone(known) is None:
        return known.aftershock_hours >= SHAKEN_KNOWN_H
    return not bursts(known)


def bursts(known: ModeLedger) -> bool:
    """Whether crashes are known to draw others after them."""
    lone = _lone(known)
    return lone is not None and aftershock_rate(known).low_per_h > BURST_FACTOR * lone.mean_per_h


def _lone(known: ModeLedger) -> Rate | None:
    """The rate of crashes that are no aftershocks; None while it is unknown."""
    crashes = max(0.0, known.crashes - known.aftershocks)
    hours = max(0.0, known.hours - known.aftershock_hours)
    if crashes + hours < LONE_KNOWN:
        return None
    return Rate(RATE_SHAPE + crashes, RATE_HOURS + hours)


def breather_h(facts: Facts) -> float:
    """How long the goal's mode had better leave the work to the one below after a crash."""
    below = facts.ledger.modes.get(facts.ladder[facts.rung - 1], NOTHING)
    return hazard.breather_h(
        facts.known.hazard,
        below.hazard,
        faster=ratio(facts.ledger, facts.terms, facts.rung),
        cost_h=price_h(facts.ledger, facts.limits),
    )


def budget_cap(ledger: Ledger, terms: Terms, mode: str, running_s: float) -> float:
    """What the budget can hold: little while a mode that has failed is on probation.

    It may then cost some hours of work, which are the fewer crashes, the dearer these are, but
    one at least. A run of failures confirms itself where each trial ends at its first crash:
    nobody sees the calm after it. So now and then a trial may cost more.
    """
    limits = terms.limits
    if not on_probation(ledger, terms, mode, running_s):
        return limits.budget_max
    long = long_trial(ledger.modes.get(mode, NOTHING))
    hours = limits.long_trial_h if long else limits.probation_h
    return min(limits.budget_max, max(1.0, hours / price_h(ledger, limits)))


def long_trial(known: ModeLedger) -> bool:
    """Whether the next trial of a mode is one that may cost more: the 4th, 10th, 28th in a row.

    The more trials have failed, the more seldom: all of them together cost little.
    """
    failed = known.in_row
    while failed > 1 and failed % LONG_TRIAL_EACH == 0:
        failed //= LONG_TRIAL_EACH
    return failed == 1 and known.in_row > 1


def on_probation(ledger: Ledger, terms: Terms, mode: str, running_s: float) -> bool:
    """Whether the mode has failed before and has only just been entered."""
    level = ledger.modes.get(mode, NOTHING).level
    return level > 0 and running_s < terms.limits.stable_min * 60


def level_max(limits: StabilityLimits) -> int:
    """Failures from which doubling has reached the longest cool-down; more say nothing more."""
    times = limits.cool_down_max_h * 60 / limits.cool_down_min
    return max(1, math.ceil(math.log2(max(1.0, times))))


def cool_down_h(facts: Facts, *, worthless: bool) -> float:
    """How long the goal's mode is left alone if this visit of it has failed.

    It doubles with each failure, up to the interval of trials that costs least: a trial
    costs K, and a mode that has recovered is missed for half an interval, so sqrt(2 K T /
    (ratio - 1)) for bad spells of length T. At least `cool_down_min`, at most a day.
    """
    limits, mode = facts.limits, facts.goal.mode
    known = _failed_so_far(facts.ledger.modes.get(mode, NOTHING), facts)
    first_h = limits.cool_down_min / 60
    gain = ratio(facts.ledger, facts.terms, facts.rung) - 1
    best_h = limits.cool_down_max_h
    if gain > 0:
        visit_h = (VISIT_HOURS + known.failure_hours) / (1 + known.failures)
        visit_h = max(visit_h, VISIT_HOURS_MIN)
        since_s = facts.now_s if known.bad_since_s is None else known.bad_since_s
        bad_h = known.bad_hours + (facts.now_s - since_s) / 3600
        spell_h = (bad_h + BAD_HOURS) / (known.recoveries + BAD_RECOVERIES)
        best_h = max(first_h, math.sqrt(2 * visit_h * spell_h / gain))
    doubled_h = first_h * 2.0 ** min(known.level, 60)
    wait_h = min(limits.cool_down_max_h, best_h, doubled_h)
    return max(wait_h, limits.worthless_cool_down_h) if worthless else wait_h


def net(faster: float, crashes: float, hours: float, cost_h: float) -> float:
    """Work per hour of wall time that a visit with that many crashes lets expect."""
    return faster / (1 + cost_h * (RATE_SHAPE + crashes) / (RATE_HOURS + hours))


def checkpoint_interval_s(
    rate_per_h: float, saving: Saving, longest_s: float, *, bytes_per_day: float
) -> float:
    """The interval of checkpoints that loses least: sqrt(2 * standstill * time between ends).

    Young 1974; Daly 2006 corrects it where a checkpoint is not short beside that time, which
    here it always is. Never above `longest_s`, and otherwise never so short that the disk
    writes for more than a tenth of the time, or more in a day than it may.

    Args:
        rate_per_h: of crashes of the machine, and of deaths of the trainer beside them.
        saving: what a checkpoint costs.
        longest_s: what is promised.
        bytes_per_day: what this run may write for being safer than that.
    """
    if rate_per_h <= 0 or saving.stall_s <= 0:
        return longest_s
    best_s = math.sqrt(2 * saving.stall_s * 3600 / rate_per_h)
    worn_s = 24 * 3600 * saving.size_bytes / bytes_per_day
    return min(longest_s, max(best_s, 10 * saving.write_s, worn_s))


# Arithmetic


def _fading(gone_h: float, half_life_h: float) -> tuple[float, float]:
    """What is kept of the past after `gone_h`, and on average of what came evenly meanwhile."""
    fade = math.log(2) * gone_h / half_life_h
    if fade < 1e-9:
        return 1.0, 1.0
    keep = math.exp(-fade)
    return keep, (1 - keep) / fade


def _faded(known: ModeLedger, keep: float) -> ModeLedger:
    if keep == 1.0:
        return known
    return msgspec.structs.replace(
        known,
        crashes=known.crashes * keep,
        hours=known.hours * keep,
        aftershocks=known.aftershocks * keep,
        aftershock_hours=known.aftershock_hours * keep,
    )


def _renewed(known: ModeLedger, hours_max: float) -> ModeLedger:
    """Old work makes room for new, never for nothing: a speed is not forgotten by waiting.

    That of jobs and that of the campaign are remembered for as long each.
    """
    work = dict(known.work)
    for jobs in (False, True):
        ours = {kind: kept for kind, kept in known.work.items() if _is_of_jobs(kind) == jobs}
        hours = math.fsum(kept.hours for kept in ours.values())
        if hours <= hours_max:
            continue
        keep = hours_max / hours
        for kind, kept in ours.items():
            work[kind] = Kept(steps=kept.steps * keep, hours=kept.hours * keep)
            if kept.hours * keep <= FORGOTTEN_HOURS:
                del work[kind]
    if work == known.work:
        return known
    return msgspec.structs.replace(known, work=work)


def _proved(known: ModeLedger, entered_s: float) -> ModeLedger:
    """The bad spell was over by the time that the visit began which has now lasted."""
    known = msgspec.structs.replace(known, level=max(0, known.level - 1), in_row=0)
    if known.bad_since_s is None:
        return known
    bad_hours = known.bad_hours + max(0.0, entered_s - known.bad_since_s) / 3600
    return msgspec.structs.replace(
        known, bad_since_s=None, bad_hours=bad_hours, recoveries=known.recoveries + 1
    )


def _failed_so_far(known: ModeLedger, facts: Facts) -> ModeLedger:
    """What is known of the goal's mode if its visit has failed by now; the level is as before."""
    since_s = known.bad_since_s
    if since_s is None:
        since_s = facts.crashes_s[0] if facts.crashes_s else facts.now_s
    visit_h = facts.running_s / 3600
    if visit_h >= SHORT_VISIT_HOURS:
        return msgspec.structs.replace(known, bad_since_s=since_s)
    lost_h = facts.crashes * price_h(facts.ledger, facts.limits)
    gained_h = (ratio(facts.ledger, facts.terms, facts.rung) - 1) * visit_h
    return msgspec.structs.replace(
        known,
        bad_since_s=since_s,
        failures=known.failures + 1,
        failure_hours=known.failure_hours + max(0.0, lost_h - gained_h),
    )


def _failed(known: ModeLedger, facts: Facts) -> ModeLedger:
    level = max(known.level, min(known.level + 1, level_max(facts.limits)))
    failed = _failed_so_far(known, facts)
    return msgspec.structs.replace(failed, level=level, in_row=known.in_row + 1)


def _bounded(faster: float) -> float:
    return min(max(faster, RATIO_MIN), RATIO_MAX)


def _gamma_quantile(shape: float, normal: float) -> float:
    """A quantile of Gamma(shape, 1), given that of the normal distribution."""
    ninth = 1 / (9 * shape)
    return shape * math.pow(max(0.0, 1 - ninth + normal * math.sqrt(ninth)), 3)
