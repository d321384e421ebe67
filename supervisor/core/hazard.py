"""How often a mode crashes by the time since the last crash, and the breather that follows; pure.

Where one crash draws others after it, a mode that goes on at once crashes again and again, and the
same mode after an hour in a lighter one does not. So crashes and running hours are counted by the
time since the last crash, and a mode takes a breather after each as long as that brings more work.

A machine that is bad at certain hours looks the same: its crashes, too, come soon after others. So
they are counted by the part of the day as well, and a breather is taken only where the time since
the last crash has foretold them better.

Sources: renewal-reward (Ross, Stochastic Processes, 3.6); prequential likelihoods, each crash
foretold before it is counted (Dawid 1984); Gamma-Poisson rates and their quantiles by Wilson &
Hilferty 1931. What it was tried on stands in docs/decisions/0080.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import pairwise

import msgspec

from state.records import Exposure, Hazard, Stretch

AGES_H = (0.0, 0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, math.inf)
"""hours since the last crash, from one age to the next"""
AGES = len(AGES_H) - 1
PARTS = 8
"""of a day of the timeline"""
PART_S = 24 * 3600 / PARTS
HALF_LIFE_H = 7 * 24.0
"""of crashes and hours: machines change, and a week has the hours of most"""
AHEAD_HALF_LIFE_H = 14 * 24.0
AHEAD_MIN = 2.0
"""how much better the age must have foretold crashes: the logarithm of a ratio of likelihoods"""
CRASHES_MIN = 2.0
"""of a mode; of fewer nothing follows"""
RATE_SHAPE = 0.5
"""crashes that the prior of every rate counts as, at the mean rate of the mode"""
RATE_HOURS, BELOW_HOURS = 0.25, 10.0
"""the prior of that mean: of a mode that may be bad, and of the mode below, taken to be good"""
DOUBT = 0.5
"""deviations of the normal distribution by which each rate is taken to be against a breather"""
GAIN_MIN = 1.02
"""times the work that a breather must bring"""
LONGEST = 7
"""the age up to which one may last, 8 hours"""
MOVES_H = 2 / 60
"""what going down and up again takes of an hour's work"""


def aged(aged_s: Sequence[float], age_s: float, ran_s: float) -> tuple[float, ...]:
    """Running seconds by age, with so many more of them up to that time since the last crash."""
    old_h, young_h = age_s / 3600, (age_s - ran_s) / 3600
    return tuple(
        known_s + 3600 * max(0.0, min(old_h, AGES_H[age + 1]) - max(young_h, AGES_H[age]))
        for age, known_s in enumerate(aged_s or (0.0,) * AGES)
    )


def daily(day_s: Sequence[float], now_s: float, ran_s: float) -> tuple[float, ...]:
    """Running seconds by part of the day, with so many more of them up to now."""
    found = list(day_s or (0.0,) * PARTS)
    for begin_s, end_s in _parts(now_s - ran_s, now_s):
        found[part_of(begin_s)] += end_s - begin_s
    return tuple(found)


def part_of(now_s: float) -> int:
    """The part of the day at a moment of the timeline, which has days of 24 hours and no zone."""
    return int(now_s // PART_S) % PARTS


def exposure(known: Hazard, stretch: Stretch, gone_h: float) -> Exposure:
    """What a stretch adds to the hazard of its mode.

    Args:
        known: the hazard before it.
        stretch: what happened since the last entry.
        gone_h: how long it was, awake or not.
    """
    keep = 0.5 ** (gone_h / HALF_LIFE_H)
    faded = _kept(known, keep)
    by_age = _rates(faded.crashes, faded.hours)
    by_part = _rates(faded.day_crashes, faded.day_hours)
    hours = tuple(seconds / 3600 for seconds in stretch.aged_s) or (0.0,) * AGES
    day_hours = tuple(seconds / 3600 for seconds in stretch.day_s) or (0.0,) * PARTS
    expected = math.fsum(rate * it for rate, it in zip(by_part, day_hours, strict=True))
    ahead = expected - math.fsum(rate * it for rate, it in zip(by_age, hours, strict=True))
    age = part = None
    if stretch.crash_age_s is not None:
        age = bisect_right(AGES_H, max(0.0, stretch.crash_age_s) / 3600) - 1
        part = part_of(stretch.crash_s)
        ahead += math.log(by_age[age] / by_part[part])
    return Exposure(
        keep=keep,
        ahead_keep=0.5 ** (gone_h / AHEAD_HALF_LIFE_H),
        ahead=ahead,
        hours=hours,
        day_hours=day_hours,
        age=age,
        part=part,
    )


def exposed(known: Hazard, more: Exposure, *, here: bool) -> Hazard:
    """The hazard with one more entry; nothing but sums and products.

    Args:
        known: the hazard before it.
        more: what is booked.
        here: it is that of the mode of the entry; all others only fade.
    """
    faded = _kept(known, more.keep)
    ahead = known.ahead * more.ahead_keep
    if not here:
        return known if known == Hazard() else msgspec.structs.replace(faded, ahead=ahead)
    return Hazard(
        crashes=_with_one(faded.crashes, more.age),
        hours=tuple(map(sum, zip(faded.hours, more.hours, strict=True))),
        day_crashes=_with_one(faded.day_crashes, more.part),
        day_hours=tuple(map(sum, zip(faded.day_hours, more.day_hours, strict=True))),
        ahead=ahead + more.ahead,
    )


def breather_h(here: Hazard, below: Hazard, *, faster: float, cost_h: float) -> float:
    """How long a mode had better leave the work to the one below after a crash; 0: not at all.

    From one crash to the next a mode that goes on at once does `faster * T` of work in `T + cost`
    hours, where it lasts for `T`. One that comes back after a breather has done what the mode below
    does meanwhile, and lasts as long as it does at that age, if the mode below has not crashed. The
    breather is the one with the most work per hour. Where the mode below, without an end, brings
    more than that, it is no matter of a breather.

    Args:
        here: of the mode that has crashed.
        below: of the next lower mode.
        faster: how many times as fast the mode trains as that one.
        cost_h: what a crash costs.
    """
    if math.fsum(here.crashes) < CRASHES_MIN or here.ahead < AHEAD_MIN:
        return 0.0
    mean = _mean(here.crashes, here.hours, RATE_HOURS)
    each = [
        (RATE_SHAPE + crashes, RATE_SHAPE / mean + hours)
        for crashes, hours in zip(here.crashes, here.hours, strict=True)
    ]
    low = [_quantile(shape, -DOUBT) / hours for shape, hours in each]
    high = [_quantile(shape, DOUBT) / hours for shape, hours in each]
    meanwhile = _rates(below.crashes, below.hours, BELOW_HOURS)

    def work_per_h(rates: list[float], first: int) -> float:
        """With a breather up to that age, by these rates from there on."""
        alive, waits_h, lasts_h = 1.0, 0.0, 0.0
        for age, (begin_h, end_h) in enumerate(pairwise(AGES_H)):
            waits = age < first
            rate = meanwhile[age] if waits else rates[age]
            dies = 1 - math.exp(-rate * (end_h - begin_h))
            waits_h += alive * dies / rate if waits else 0.0
            lasts_h += 0.0 if waits else alive * dies / rate
            alive *= 1 - dies
        moves_h = MOVES_H if first else 0.0
        return (waits_h + faster * lasts_h) / (waits_h + lasts_h + cost_h + moves_h)

    stays = 1 / (1 + cost_h * _mean(below.crashes, below.hours, BELOW_HOURS))
    most, best = GAIN_MIN, 0
    for first in range(1, LONGEST + 1):
        rates = low[:first] + high[first:]
        work = work_per_h(rates, first)
        gain = work / work_per_h(rates, 0)
        if work > stays and gain > most:
            most, best = gain, first
    return AGES_H[best]


def _parts(begin_s: float, end_s: float) -> Iterator[tuple[float, float]]:
    """A time, cut where one part of a day ends and the next begins."""
    while begin_s < end_s:
        next_s = min(end_s, (begin_s // PART_S + 1) * PART_S)
        yield begin_s, next_s
        begin_s = next_s


def _kept(known: Hazard, keep: float) -> Hazard:
    """What has not faded, with a number for each age and part."""
    return Hazard(
        crashes=tuple(keep * it for it in known.crashes) or (0.0,) * AGES,
        hours=tuple(keep * it for it in known.hours) or (0.0,) * AGES,
        day_crashes=tuple(keep * it for it in known.day_crashes) or (0.0,) * PARTS,
        day_hours=tuple(keep * it for it in known.day_hours) or (0.0,) * PARTS,
    )


def _with_one(counts: Sequence[float], place: int | None) -> tuple[float, ...]:
    return tuple(count + (place == one) for one, count in enumerate(counts))


def _mean(crashes: Sequence[float], hours: Sequence[float], prior_h: float) -> float:
    return (RATE_SHAPE + math.fsum(crashes)) / (prior_h + math.fsum(hours))


def _rates(
    crashes: Sequence[float], hours: Sequence[float], prior_h: float = RATE_HOURS
) -> list[float]:
    """Crashes an hour, one for each place; what little is known leans on the mean."""
    mean = _mean(crashes, hours, prior_h)
    places = zip(crashes or (0.0,) * AGES, hours or (0.0,) * AGES, strict=True)
    return [(RATE_SHAPE + count) / (RATE_SHAPE / mean + it) for count, it in places]


def _quantile(shape: float, normal: float) -> float:
    """A quantile of Gamma(shape, 1), given that of the normal distribution."""
    ninth = 1 / (9 * shape)
    return shape * math.pow(max(0.05, 1 - ninth + normal * math.sqrt(ninth)), 3)
