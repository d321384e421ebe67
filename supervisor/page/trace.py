"""A curve as it grows, in bounded memory, and as few points as a picture can show of it."""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left
from collections.abc import Sequence

import msgspec

KEPT = 3072
"""points of a trace, beyond which it is thinned to a third of them"""


class Points(msgspec.Struct, frozen=True, kw_only=True):
    """Points of a curve in columns, from left to right."""

    x: tuple[float, ...]
    y: tuple[float | None, ...]
    """None: a gap, over which no line leads"""

    @property
    def known(self) -> list[float]:
        """The values that are there."""
        return [value for value in self.y if value is not None]


class Trace:
    """The points of one curve, added from left to right.

    Of more points than are kept, each of many equal parts keeps its lowest and its highest one,
    so a spike of a single point survives however long the curve grows.

    Args:
        kept: how many points at most.
    """

    def __init__(self, kept: int = KEPT) -> None:
        self._kept = kept
        self._x, self._at, self._y = array("d"), array("d"), array("d")

    def __len__(self) -> int:
        return len(self._x)

    @property
    def last(self) -> float | None:
        """Its newest value; None: that is not known."""
        return None if not self._y or math.isnan(self._y[-1]) else self._y[-1]

    def add(self, x: float, y: float | None, at: float | None = None) -> None:
        """Add a point; those that stand there or further to the right are given up for it.

        Args:
            x: where it stands.
            y: its value; None: it is not known there.
            at: its wall time, where `x` is none; for all points of a curve, or for none.
        """
        if self._x and x <= self._x[-1]:
            self.cut(x)
        self._x.append(x)
        if at is not None:
            self._at.append(at)
        self._y.append(math.nan if y is None else y)
        if len(self._x) > self._kept:
            places = kept(self._x, self._y, self._kept // 6)
            for column in (self._x, self._at, self._y):
                if column:
                    column[:] = array("d", [column[place] for place in places])

    def cut(self, x: float) -> None:
        """Give up what stands at `x` or further to the right."""
        place = bisect_left(self._x, x)
        del self._x[place:], self._at[place:], self._y[place:]

    def forget(self, x: float) -> None:
        """Give up what stands to the left of `x`."""
        place = bisect_left(self._x, x)
        del self._x[:place], self._at[:place], self._y[:place]

    def points(
        self,
        pixels: int,
        *,
        since: float = -math.inf,
        until: float = math.inf,
        by_time: bool = False,
    ) -> Points:
        """At most two points for each pixel of a span, both of its ends among them.

        Args:
            pixels: how wide it is drawn.
            since: where the span begins.
            until: where it ends.
            by_time: along wall time. What a wrong clock had put behind a later point is moved
                to the moment of that.
        """
        xs = _never_back(self._at) if by_time and self._at else self._x
        begin, end = bisect_left(xs, since), bisect_left(xs, math.nextafter(until, math.inf))
        xs, ys = xs[begin:end], self._y[begin:end]
        places = kept(xs, ys, max(1, pixels - 1))
        return Points(
            x=tuple(xs[place] for place in places),
            y=tuple(None if math.isnan(ys[place]) else ys[place] for place in places),
        )


def kept(xs: Sequence[float], ys: Sequence[float], parts: int) -> list[int]:
    """The places of the points that are worth drawing: at most two a part, and the two ends.

    Of each of so many equal parts of the span, these are the lowest and the highest. Where a part
    knows no value at all, one that is none (NaN) stays, so that the gap does.

    Args:
        xs: from left to right.
        ys: the value of each.
        parts: how many.
    """
    count = len(xs)
    if count <= 2 * parts + 2:
        return list(range(count))
    first, width = xs[0], (xs[-1] - xs[0]) / parts
    found = {0, count - 1}
    begin = 0
    for part in range(1, parts + 1):
        end = count if part == parts else bisect_left(xs, first + part * width, begin)
        if end > begin:
            found.update(_extremes(ys[begin:end], begin))
        begin = end
    return sorted(found)


def _extremes(ys: Sequence[float], begin: int) -> tuple[int, ...]:
    """The places of the lowest and the highest, or of one that is none where all are."""
    if math.isnan(sum(ys)):
        places = [place for place, y in enumerate(ys) if not math.isnan(y)]
        if not places:
            return (begin,)
        low, high = min(places, key=ys.__getitem__), max(places, key=ys.__getitem__)
        return begin + low, begin + high
    return begin + ys.index(min(ys)), begin + ys.index(max(ys))


def _never_back(times: Sequence[float]) -> list[float]:
    """Each time, or the earliest that comes after it where that is earlier."""
    moved, least = list(times), math.inf
    for place in range(len(moved) - 1, -1, -1):
        least = moved[place] = min(least, moved[place])
    return moved
