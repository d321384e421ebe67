"""Every hour of a history, as the clock on the wall has it, and what was measured in it; pure.

An hour that a spring night skips is not there; one that an autumn night has twice is there twice.
Zero is zero and a gap is a gap: where events are counted, an hour of which nobody tells anything
had none, unless it lies in an outage.
"""

from __future__ import annotations

import datetime as dt
import math
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import NamedTuple
from zoneinfo import ZoneInfo

import msgspec

from supervisor.core.calendar import WEEK_H
from supervisor.core.quiet_hours import Metric

HOUR_S = 3600.0
QUARTER_S = 900.0
"""zones begin their hours at a quarter of those of UTC"""
OUTAGE_EVENTS = 8.0
"""events that a stretch without any has usually: then it was an outage (by chance once in 3000)"""
STEADY = 0.9
"""share of its hours of which a source tells that tells always"""


class Hour(NamedTuple):
    """One real hour, or what a change of clocks has left of it."""

    at: float
    """when it began, in seconds since 1970"""
    day: int
    """its date, counted from the year 1"""
    hour: int
    """what the clock on the wall showed"""

    @property
    def slot(self) -> int:
        """Its place in the week: 0 is Monday at midnight."""
        return (self.day - 1) % 7 * 24 + self.hour


class Point(NamedTuple):
    """What was told of a moment, or of the hour that began there."""

    at: float
    value: float


class Series(msgspec.Struct, frozen=True, kw_only=True):
    """One metric, as one source has it."""

    metric: Metric
    counted: bool
    """whether the values count events of an hour, and not what was there at a moment"""
    points: tuple[Point, ...]
    """in any order"""


class Span(NamedTuple):
    """From when to when."""

    begin: float
    end: float


Values = list[float | None]


class Grid(msgspec.Struct, frozen=True):
    """All hours of a history, and each metric in each of them; None where nobody knows."""

    hours: tuple[Hour, ...]
    values: dict[Metric, Values]

    def missing(self, metric: Metric) -> int:
        """In how many hours that is unknown."""
        return sum(value is None for value in self.values[metric])


def hours(zone: ZoneInfo, begin: float, end: float) -> tuple[Hour, ...]:
    """The whole hours between two moments."""
    found: list[Hour] = []
    key: tuple[int, int, int] | None = None
    at = math.ceil(begin / QUARTER_S) * QUARTER_S
    first = True
    while at < end:
        local = dt.datetime.fromtimestamp(at, zone)
        now = (local.toordinal(), local.hour, local.fold)
        if now != key:
            # The first may have begun before.
            if not first or not (local.minute or local.second):
                found.append(Hour(at, now[0], now[1]))
            key, first = now, False
        at += QUARTER_S
    if found and end - found[-1].at < HOUR_S:  # it has not passed yet
        found.pop()
    return tuple(found)


def filled(
    all_hours: Sequence[Hour], chosen: Iterable[Series], beside: Iterable[Series] = ()
) -> Grid:
    """What each series, one a metric, tells of each hour.

    Args:
        all_hours: of the history.
        chosen: the series that count.
        beside: others, whose rows tell an outage from a quiet hour.
    """
    listed = tuple(chosen)
    rows = {id(one): _by_hour(all_hours, one) for one in (*listed, *beside)}
    values: dict[Metric, Values] = {}
    for one in listed:
        own = rows[id(one)]
        others = [cells for key, cells in rows.items() if key != id(one)]
        if one.counted:
            values[one.metric] = _counted(all_hours, own, others)
        else:
            values[one.metric] = [
                own[number].mean if number in own else None for number in range(len(all_hours))
            ]
    return Grid(tuple(all_hours), values)


def without(values: Values, all_hours: Sequence[Hour], spans: Iterable[Span]) -> Values:
    """The same, with nothing known of hours that a span touches."""
    begins = [hour.at for hour in all_hours]
    kept = list(values)
    for span in spans:
        first = max(0, bisect_right(begins, span.begin) - 1)
        for number in range(first, len(all_hours)):
            if begins[number] >= span.end:
                break
            if begins[number] + HOUR_S > span.begin:
                kept[number] = None
    return kept


class _Cell:
    """What one series tells of one hour."""

    __slots__ = ("count", "total")

    def __init__(self) -> None:
        self.total = 0.0
        self.count = 0.0

    @property
    def mean(self) -> float:
        return self.total / self.count


def _by_hour(all_hours: Sequence[Hour], series: Series) -> dict[int, _Cell]:
    begins = [hour.at for hour in all_hours]
    found: defaultdict[int, _Cell] = defaultdict(_Cell)
    for at, value in series.points:
        place = bisect_right(begins, at) - 1
        for number, share in _shares(begins, place, at) if series.counted else ((place, 1.0),):
            if number >= 0 and at < begins[-1] + HOUR_S:
                found[number].total += share * value
                found[number].count += share
    return dict(found)


def _shares(begins: Sequence[float], place: int, at: float) -> Iterable[tuple[int, float]]:
    """How the hour that begins at a moment lies over those of the grid."""
    late = (at - begins[place]) / HOUR_S if place >= 0 else 1 - (begins[0] - at) / HOUR_S
    if 0 < late < 1:
        return ((place, 1 - late), (min(place + 1, len(begins) - 1), late))
    return ((place, 1.0),)


def _counted(
    all_hours: Sequence[Hour], rows: Mapping[int, _Cell], others: Sequence[Mapping[int, _Cell]]
) -> Values:
    """Events of each hour: none where nothing is told, but in an outage and before the first."""
    if not rows:
        return [None] * len(all_hours)
    first = min(rows)
    usual = _usual(all_hours, rows, first)
    steady = [one for one in others if one and len(one) >= STEADY * (max(one) - min(one) + 1)]
    values: Values = [
        None if number < first else rows[number].total if number in rows else 0.0
        for number in range(len(all_hours))
    ]
    silent = [
        number
        for number in range(first, len(all_hours))
        if number not in rows and not any(number in one for one in others)
    ]
    for _, stretch in groupby(enumerate(silent), lambda pair: pair[1] - pair[0]):
        numbers = [number for _, number in stretch]
        missed = sum(usual[all_hours[number].slot] for number in numbers)
        for number in numbers:
            if missed > OUTAGE_EVENTS or any(min(one) < number < max(one) for one in steady):
                values[number] = None
    return values


def _usual(all_hours: Sequence[Hour], rows: Mapping[int, _Cell], first: int) -> list[float]:
    """How many events each hour of the week has usually."""
    seen: list[list[float]] = [[] for _ in range(WEEK_H)]
    for number in range(first, len(all_hours)):
        seen[all_hours[number].slot].append(rows[number].total if number in rows else 0.0)
    return [quantile(one, 0.5) if one else 0.0 for one in seen]


def quantile(values: Sequence[float], share: float) -> float:
    """A quantile, between the two nearest values where it is none of them; of one or more."""
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    low = math.floor(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (place - low) * (ordered[high] - ordered[low])
