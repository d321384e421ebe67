"""When work ends that is done in windows only: how much time of them it takes, and which they are.

How fast a run was is known from the samples of the machine. Whatever kept it from going on while it
might have trained is in them: pauses, starts, crashes. So a part of the past tells what a part of
the future brings, and how much that differs from part to part tells how sure it is.

`n` parts of the past had the mean `m` and the deviation `s`. The sum of `N` parts to come then lies
in nine of ten cases above `N m - t s sqrt(N + N^2 / n)`, where `t` is the quantile of Student's
distribution: the first term below the root is chance to come, the second that of the mean that was
seen. What is foretold is the `N` at which this is the work that is left (Hahn & Meeker, Statistical
Intervals, 1991, 4.7: to contain the mean of a future sample).
"""

from __future__ import annotations

import datetime as dt
import math
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from statistics import NormalDist, fmean, stdev
from zoneinfo import ZoneInfo

import msgspec

from state.samples import Speeds
from supervisor.core.calendar import Opening, Window, opening

CERTAINTY = 0.9
"""in so many cases it ends by then"""
SEEN_S = 8 * 86_400.0
"""how far back is looked: each window of a week is in it"""
PART_S = 1800.0
"""how long a part is: pauses of the guard are shorter"""
PARTS_MIN = 3
"""with fewer nothing is foretold"""
UNSAMPLED_MAX_S = 3600.0
"""of a time that nobody has sampled no more counts: the machine was off, perhaps for days"""
OPENINGS_MAX = 400
"""of which the next are looked at"""
DAYS_TOLD = 7
ALL = ""
"""stands for all runs together"""


class Pace(msgspec.Struct, frozen=True, kw_only=True):
    """How fast work went on, part by part, while it might have."""

    steps: float
    """of a part, on average"""
    spread: float
    """their standard deviation"""
    parts: int


class Fit(msgspec.Struct, frozen=True, kw_only=True):
    """The openings that some work takes."""

    openings: tuple[Opening, ...]
    """of which the last is the one in which it ends; each ends when training leaves"""
    ends_at: float


def coming(windows: Iterable[Window], zone: ZoneInfo, at: float) -> Iterator[Opening]:
    """The opening that a moment lies in, and all that follow."""
    week = tuple(windows)
    while (found := opening(week, zone, at)) is not None:
        yield found
        at = found.closes_at


def paces(samples: Iterable[Speeds], openings: Sequence[Opening]) -> dict[str, Pace]:
    """How fast each run was, and all together, under `ALL`; who has hardly trained is left out.

    Time counts in which something trained, and of an opening that in which nothing did, too. A run
    that waits while others train is not slow: its own time goes from its first sample to its last,
    without those in which others train alone.

    Args:
        samples: in order.
        openings: those of that time, in order.
    """
    tallies: dict[str, _Tally] = {}
    begins = [one.opens_at for one in openings]
    before: float | None = None
    for one in samples:
        place = bisect_right(begins, one.at) - 1
        inside = place >= 0 and one.at < openings[place].closes_at
        if not one.running and not inside:
            before = None
            continue
        lasted_s = one.covers_s if before is None else one.at - before
        lasted_s = min(max(0.0, lasted_s), UNSAMPLED_MAX_S)
        before = one.at
        sampled_s = min(one.covers_s, lasted_s)
        known = {ALL: sum(one.rates.values()), **one.rates} if one.rates else {}
        for run, rate in known.items():
            tallies.setdefault(run, _Tally()).go_on(lasted_s, rate * sampled_s)
        if not one.running:
            for tally in tallies.values():
                tally.rest(lasted_s)
    found = {run: tally.pace for run, tally in tallies.items()}
    return {run: pace for run, pace in found.items() if pace is not None}


def needed_s(left: float, pace: Pace) -> float | None:
    """Seconds of training that so many steps take, in nine of ten cases.

    None: their speed differs so much that no time is long enough.
    """
    if left <= 0:
        return 0.0
    chance = (_student(pace.parts - 1) * pace.spread) ** 2
    sure = pace.steps**2 - chance / pace.parts
    if sure <= 0:
        return None
    half = pace.steps * left + chance / 2
    return PART_S * (half + math.sqrt(max(0.0, half**2 - sure * left**2))) / sure


def fit(
    takes_s: float,
    windows: Iterable[Window],
    zone: ZoneInfo,
    at: float,
    *,
    reserve_s: float,
    any_hour_until_at: float | None = None,
) -> Fit | None:
    """The openings that so much training takes; None: more than anybody plans for.

    Args:
        takes_s: how much time it takes.
        windows: of the week.
        zone: of the clock on the wall.
        at: from when on it trains.
        reserve_s: so much earlier training leaves: it saves.
        any_hour_until_at: until then a person wants it to train in any hour.
    """
    taken: list[Opening] = []
    left_s, free_at = takes_s, max(at, any_hour_until_at or at)
    if left_s <= free_at - at:
        return Fit(openings=(), ends_at=at + left_s)
    left_s -= free_at - at
    for one in islice(coming(windows, zone, at), OPENINGS_MAX):
        leaves_at, begins_at = one.closes_at - reserve_s, max(free_at, one.opens_at)
        if leaves_at <= begins_at:
            continue
        taken.append(Opening(opens_at=one.opens_at, closes_at=leaves_at))
        if left_s <= leaves_at - begins_at:
            return Fit(openings=tuple(taken), ends_at=begins_at + left_s)
        left_s -= leaves_at - begins_at
    return None


def in_words(found: Fit, zone: ZoneInfo) -> str:
    """Such as `in 3 windows: Sun, Mon, Tue, by Tue 2026-12-01 07:12 CET`."""
    end = dt.datetime.fromtimestamp(math.ceil(found.ends_at / 60) * 60, zone)
    by = f"by {end:%a %Y-%m-%d %H:%M} {end.tzname()}"
    days = [f"{dt.datetime.fromtimestamp(one.opens_at, zone):%a}" for one in found.openings]
    if not days:
        return f"before the next window, {by}"
    told = days if len(days) <= DAYS_TOLD else [*days[: DAYS_TOLD - 1], "..."]
    return f"in {len(days)} window{'s' * (len(days) > 1)}: {', '.join(told)}, {by}"


class _Tally:
    """What is gathered of one run."""

    def __init__(self) -> None:
        self._parts: list[float] = []
        self._steps = self._lasted_s = self._rested_s = 0.0

    def go_on(self, lasted_s: float, steps: float) -> None:
        """It has trained; what it rested before was a pause."""
        self._add(self._rested_s, 0.0)
        self._rested_s = 0.0
        self._add(lasted_s, steps)

    def rest(self, lasted_s: float) -> None:
        """Nothing has trained, which is a pause of it if it trains later."""
        self._rested_s += lasted_s

    @property
    def pace(self) -> Pace | None:
        """What came of it."""
        if len(self._parts) < PARTS_MIN or not sum(self._parts):
            return None
        parts = self._parts
        return Pace(steps=fmean(parts), spread=stdev(parts), parts=len(parts))

    def _add(self, lasted_s: float, steps: float) -> None:
        while self._lasted_s + lasted_s >= PART_S:
            share = (PART_S - self._lasted_s) / lasted_s
            self._parts.append(self._steps + steps * share)
            lasted_s, steps = lasted_s * (1 - share), steps * (1 - share)
            self._steps = self._lasted_s = 0.0
        self._lasted_s += lasted_s
        self._steps += steps


def _student(freedom: int) -> float:
    """The quantile of Student's distribution, by its expansion (Abramowitz & Stegun 26.7.5)."""
    z = NormalDist().inv_cdf(CERTAINTY)
    second = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    return z + (z**3 + z) / (4 * freedom) + second / freedom**2
