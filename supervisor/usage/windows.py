"""Windows of the week, and what can be promised of them; pure.

A week is circular: a window may begin on Sunday and end on Monday. Each start is looked at in as
many whole weeks as there are, counted back from the end of the history.

What is promised of a window is not judged by the weeks that have chosen it. Each week in turn is
left out, the others choose, and it is seen how busy their choice was in that week. So `n` weeks
that were judged promise that the next is no busier than all of them with `n / (n + 1)`: it is as
likely as each of them to be the busiest. Where players become more, week by week, what was seen
grows with them. The reasons stand in docs/decisions/0059-quiet-hours-are-learnt.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache, cached_property
from itertools import combinations
from statistics import fmean, median
from typing import NamedTuple

from supervisor.core.calendar import WEEK_H
from supervisor.usage.grid import Grid, Hour, Values, quantile
from supervisor.usage.scores import completed
from supervisor.usage.weekdays import alike, blended

KNOWN_MIN = 0.75
"""share of the hours of a window that must be known for the week to count"""
HIGH = 0.9
"""the quantile of what a window is worth"""
PEAK_WEIGHT = 0.5
HELD_OUT_MAX = 12
"""weeks that a backtest holds out, the newest"""
FLOOR = 0.01
"""of what is busy: fewer players than that are nobody"""


class Stay(NamedTuple):
    """A window in one week."""

    opens_at: float
    mean: float
    peak: float


class Weeks:
    """How busy each window of a length was in each whole week of a history.

    Args:
        hours: of the history.
        values: of each.
        length: of a window, in hours.
    """

    def __init__(self, hours: Sequence[Hour], values: Values, length: int) -> None:
        self.length = length
        self._first: dict[tuple[int, int], int] = {}
        for number, hour in enumerate(hours):
            self._first.setdefault((hour.day, hour.hour), number)
        self._end = len(hours)
        self._hours = hours
        self._values, self._filled = values, completed(values, hours)
        last_day = hours[-1].day if hours else 0
        columns = [self._column(slot, last_day) for slot in range(WEEK_H)]
        self.count = min(map(len, columns))
        """whole weeks; number 0 is the newest"""
        self.stays = [column[: self.count] for column in columns]
        """by the hour of the week in which it begins, and by week; None: not enough is known"""

    def _column(self, slot: int, last_day: int) -> list[Stay | None]:
        weekday, hour = divmod(slot, 24)
        day = last_day - ((last_day - 1) % 7 - weekday) % 7
        found: list[Stay | None] = []
        while day > last_day - 7 * (self._end // WEEK_H + 2):
            # Where the clock skips the hour, the window begins with the next.
            place = self._first.get((day, hour), self._first.get((day, hour + 1)))
            if place is None and found:
                break
            if place is not None and place + self.length <= self._end:
                found.append(self._stay(place))
            day -= 7
        return found

    def _stay(self, place: int) -> Stay | None:
        within = range(place, place + self.length)
        known = sum(self._values[number] is not None for number in within)
        filled = [value for number in within if (value := self._filled[number]) is not None]
        if known < KNOWN_MIN * self.length or not filled:
            return None
        return Stay(self._hours[place].at, fmean(filled), max(filled))

    def of(self, slot: int, weeks: Iterable[int]) -> list[Stay]:
        """What is known of a window in these weeks."""
        stays = self.stays[slot]
        return [stay for week in weeks if (stay := stays[week]) is not None]

    def level(self, week: int) -> float | None:
        """How busy a week was on the whole."""
        known = [stays[week] for stays in self.stays]
        means = [stay.mean for stay in known if stay is not None]
        return fmean(means) if means else None

    def covered(self) -> list[int]:
        """The weeks of which at least half is known."""
        return [
            week
            for week in range(self.count)
            if 2 * sum(stays[week] is not None for stays in self.stays) >= WEEK_H
        ]

    def values(self, weeks: Sequence[int]) -> list[float | None]:
        """How busy each window is when it is busy, and half as much of its busiest hour.

        The high quantile of a few weeks is no more than the busiest of them. So how far it lies
        above the usual is taken from all windows together. What is usual is the median: one holiday
        or outage moves it little.
        """
        known = [self.of(slot, weeks) for slot in range(WEEK_H)]
        known = [stays if 2 * len(stays) >= len(weeks) else [] for stays in known]
        means = [[stay.mean for stay in stays] for stays in known]
        usual = [median(one) if one else None for one in means]
        peaks = [median(stay.peak for stay in stays) if stays else None for stays in known]
        shares = alike(usual, means)
        high, highest = self._spread
        return [
            None if mean is None or peak is None else high * mean + PEAK_WEIGHT * highest * peak
            for mean, peak in zip(blended(usual, shares), blended(peaks, shares), strict=True)
        ]

    @cached_property
    def _spread(self) -> tuple[float, float]:
        """How many times as busy as usual windows are when they are busy, and their peaks."""
        means = [[stay.mean for stay in self.of(n, range(self.count))] for n in range(WEEK_H)]
        peaks = [[stay.peak for stay in self.of(n, range(self.count))] for n in range(WEEK_H)]
        return _above(means), _above(peaks)


Chooser = Callable[[Sequence[int]], list[int]]
"""the windows that some weeks choose, by the hour of the week in which they begin"""


def quietest(scores: Weeks, count: int, preferred: int) -> Chooser:
    """The best windows that do not overlap; of equal ones the first after `preferred`."""

    @cache  # windows of each rank are judged by what the same weeks choose
    def chosen_by(weeks: tuple[int, ...]) -> list[int]:
        ranked = []
        for slot, value in enumerate(scores.values(weeks)):
            if value is not None:
                ranked.append((value, (slot - preferred) % WEEK_H, slot))
        chosen: list[int] = []
        for _, _, slot in sorted(ranked):
            apart = all(
                min((slot - one) % WEEK_H, (one - slot) % WEEK_H) >= scores.length for one in chosen
            )
            if apart:
                chosen.append(slot)
            if len(chosen) == count:
                break
        return chosen

    return lambda weeks: chosen_by(tuple(weeks))


def documented(grid: Grid, values: Values, length: int, count: int) -> Chooser:
    """The windows of the document's formula: within one calendar day, and they may overlap."""
    last_day = grid.hours[-1].day if grid.hours else 0
    table: list[dict[int, list[float]]] = [{} for _ in range(WEEK_H)]
    for hour, value in zip(grid.hours, values, strict=True):
        if value is not None:
            table[hour.slot].setdefault((last_day - hour.day) // 7, []).append(value)

    def mean(of_one: Mapping[int, list[float]], weeks: Sequence[int]) -> float | None:
        there = [value for week in weeks for value in of_one.get(week, ())]
        return sum(there) / len(there) if there else None

    def choose(weeks: Sequence[int]) -> list[int]:
        means = [mean(of_one, weeks) for of_one in table]
        ranked = []
        for weekday in range(7):
            for begin in range(24 - length + 1):
                slots = range(24 * weekday + begin, 24 * weekday + begin + length)
                within = [found for slot in slots if (found := means[slot]) is not None]
                if len(within) == length:
                    ranked.append((sum(within) / length, slots[0]))
        return [slot for _, slot in sorted(ranked)[:count]]

    return choose


def _above(known: Sequence[Sequence[float]]) -> float:
    """The high quantile of each, as a multiple of its mean: of all together."""
    there = [parts for parts in known if parts]
    usual = sum(fmean(parts) for parts in there)
    return sum(quantile(parts, HIGH) for parts in there) / usual if usual > 0 else 1.0


class Judged(NamedTuple):
    """What windows were in weeks that had no say in their choice."""

    means: tuple[float, ...]
    """of each judged week"""
    high: float | None
    """what the next week will not exceed"""


def growth(busy: Weeks, weeks: Sequence[int]) -> float:
    """By how much the logarithm of the level grows in a week; 0 where it does not."""
    levels = [(week, level) for week in weeks if (level := busy.level(week))]
    slopes = [
        (math.log(newer) - math.log(older)) / (old - new)
        for (new, newer), (old, older) in combinations(sorted(levels), 2)
    ]
    return max(0.0, quantile(slopes, 0.5)) if slopes else 0.0


def judge(busy: Weeks, choose: Chooser, rank: int, weeks: Sequence[int], until: int) -> Judged:
    """Judge the windows of a rank, each in a week that has not chosen it.

    Args:
        busy: what is promised of.
        choose: how windows are chosen.
        rank: which of those chosen, 0 is the best.
        weeks: that take part.
        until: the week that the promise is for: -1 is the one to come.
    """
    slope = growth(busy, weeks)
    means: list[float] = []
    highs: list[float] = []
    for week in weeks:
        others = [one for one in weeks if one != week]
        picks = choose(others) if others else []
        stays = busy.stays[picks[rank]][week] if rank < len(picks) else None
        if stays is None:
            continue
        means.append(stays.mean)
        highs.append(stays.mean * math.exp(slope * max(0, week - until)))
    return Judged(tuple(means), max(highs, default=None))


class Tested(NamedTuple):
    """A way of choosing, in weeks that were held out one after the other."""

    regrets: tuple[float, ...]
    """players that the best window disturbed, as a multiple of the best of that very week"""
    kept: tuple[bool, ...]
    """whether what had been promised was kept"""


def backtest(busy: Weeks, choose: Chooser, weeks: Sequence[int], floor: float) -> Tested:
    """Hold out each week, and see what became of what the others have chosen and promised.

    Args:
        busy: by which windows are compared.
        choose: how they are chosen.
        weeks: that take part; the newest of them are held out.
        floor: less than that is as good as nothing.
    """
    regrets: list[float] = []
    kept: list[bool] = []
    for week in weeks[:HELD_OUT_MAX]:
        others = [one for one in weeks if one != week]
        known = [stay.mean for stays in busy.stays if (stay := stays[week]) is not None]
        picks = choose(others) if others else []
        stay = busy.stays[picks[0]][week] if picks else None
        if stay is None or not known:
            continue
        regrets.append(ratio(stay.mean, min(known), floor))
        high = judge(busy, choose, 0, others, week).high
        if high is not None and len(others) > 1:
            kept.append(stay.mean <= high)
    return Tested(tuple(regrets), tuple(kept))


def ratio(found: float, best: float, floor: float) -> float:
    """How many times as busy; both count as no less than `floor`."""
    low = max(best, floor)
    return max(found, low) / low if low > 0 else 1.0
