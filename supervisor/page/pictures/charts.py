"""Curves: small ones that stand in a line, and large ones with axes, marks and limits."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Literal

from markupsafe import Markup

from supervisor.page.machine import Limit
from supervisor.page.past import HAPPENED, Happened, Mark, Ribbon
from supervisor.page.pictures.ribbon import steps
from supervisor.page.pictures.svg import (
    LETTER,
    UTC_WIDTH,
    Scale,
    element,
    line,
    moment,
    name,
    named,
    path,
    picture,
    plate,
    short,
    text,
    ticks,
    time_ticks,
)
from supervisor.page.trace import Points

LINES = 4
"""curves in one chart that can be told apart: by colour, by dashes, and by name"""
MARKS_MAX = 60
"""marks that are drawn, the newest"""
MARKS_TOLD = 8
APART = 8
HEIGHT, TOP, BOTTOM, LEFT, RIGHT = 220, 22, 24, 46, 10


def spark(
    points: Points | None,
    *,
    called: str,
    unit: str = "",
    since: float | None = None,
    until: float | None = None,
    better: Literal["higher", "lower"] | None = None,
    limits: Sequence[Limit] = (),
    behind: Ribbon | None = None,
    width: int = 160,
    height: int = 36,
) -> Markup:
    """A curve in a line of text.

    Args:
        points: over anything; None: there are none.
        called: what it is.
        unit: of its values.
        since: where it begins; None: with its first point.
        until: where it ends.
        better: mark its best point, which is the highest or the lowest.
        limits: those within its values, or close above, are drawn.
        behind: the modes that are drawn behind it, over wall time.
        width: in pixels.
        height: in pixels.
    """
    known = [] if points is None else points.known
    if points is None or not known:
        return picture(
            "spark",
            width,
            height,
            f"{name(called)}: nothing is known",
            "No curve.",
            [text(width / 2, height / 2 + 4, "nothing known", "small muted", "middle")],
        )
    low, high = _span(known, [one.value for one in limits if _is_near(one.value, known)])
    x = Scale(
        points.x[0] if since is None else since,
        points.x[-1] if until is None else until,
        3,
        width - 5,
    )
    y = Scale(low, high, height - 4, 5)
    parts = [] if behind is None else list(steps(behind, x, height, height, "behind"))
    parts += [
        path(f"M0 {y(one.value):.1f}H{width}", "limit")
        for one in limits
        if low <= one.value <= high
    ]
    parts.append(path(_line(points, x, y), "line line-0"))
    last = points.y[-1]
    if last is not None:
        parts.append(_dot(x(points.x[-1]), y(last), "now"))
    said = f"{_value(last, unit)} now, {_value(min(known), unit)} to {_value(max(known), unit)}"
    if better is not None:
        best = max(known) if better == "higher" else min(known)
        place = points.y.index(best)
        parts.append(_dot(x(points.x[place]), y(best), "best", 3.5))
        said = f"{_value(last, unit)} now, best {_value(best, unit)}"
    told = [f"{len(known)} points", *(_limit(one, unit) for one in limits)]
    return picture("spark", width, height, f"{name(called)}: {said}", f"{'; '.join(told)}.", parts)


def chart(
    curves: Mapping[str, Points],
    width: int,
    *,
    called: str,
    by: Literal["step", "time"],
    unit: str = "",
    marks: Sequence[Mark] = (),
    limits: Sequence[Limit] = (),
    since: float | None = None,
    until: float | None = None,
    behind: Ribbon | None = None,
) -> Markup:
    """Curves with axes.

    Args:
        curves: name of each and its points; more than four cannot be told apart.
        width: in pixels.
        called: what it is.
        by: what they are drawn over: steps, or wall time.
        unit: of the values.
        marks: what happened to the run.
        limits: values from which on something follows.
        since: where it begins; None: with the first point.
        until: where it ends.
        behind: the modes that are drawn behind them, over wall time.
    """
    shown = dict(list(curves.items())[:LINES])
    known = [value for points in shown.values() for value in points.known]
    xs = [x for points in shown.values() for x in points.x]
    if not known:
        none = text(width / 2, HEIGHT / 2, "nothing known", "muted", "middle")
        return picture(
            "chart", width, HEIGHT, f"{name(called)}: nothing is known", "No curve.", [none]
        )
    low, high = _span(known, [one.value for one in limits if _is_near(one.value, known)])
    x = Scale(
        min(xs) if since is None else since,
        max(xs) if until is None else until,
        LEFT,
        width - RIGHT,
    )
    y = Scale(low, high, HEIGHT - BOTTOM, TOP + 14)
    happened = _placed(marks, x, by)
    parts = [
        *(() if behind is None else steps(behind, x, y.begin, y.begin - y.end, "behind")),
        *_axes(x, y, by),
        *_marks(happened, x, y),
        *(path(f"M{x.begin:.1f} {y(at):.1f}H{x.end:.1f}", "limit") for at in _within(limits, y)),
    ]
    for place, points in enumerate(shown.values()):
        parts.append(path(_line(points, x, y), f"line line-{place}"))
    parts += [*_limits(limits, x, y, unit), *_names(list(shown), unit, width)]
    told = [
        f"{name(curve)}: {_value(points.y[-1], unit)} at the end, "
        f"{_value(min(points.known), unit)} to {_value(max(points.known), unit)}"
        for curve, points in shown.items()
        if points.known
    ]
    over = f"steps {short(x.low)} to {short(x.high)}"
    if by == "time":
        over = f"{_when(x.low)} to {_when(x.high)} UTC"
    words = [f"Over {over}", *_told(happened, by), *(_limit(one, unit) for one in limits)]
    return picture(
        "chart", width, HEIGHT, f"{name(called)}: {'; '.join(told)}", f"{'; '.join(words)}.", parts
    )


def _line(points: Points, x: Scale, y: Scale) -> str:
    return line(
        (x(at), None if value is None else y(value))
        for at, value in zip(points.x, points.y, strict=True)
    )


def _span(known: Sequence[float], limits: Sequence[float]) -> tuple[float, float]:
    """The lowest and the highest value that are drawn; a constant lies in the middle."""
    low, high = min([*known, *limits]), max([*known, *limits])
    if low == high:
        margin = abs(low) / 2 or 1.0
        return low - margin, high + margin
    return low, high


def _is_near(limit: float, known: Sequence[float]) -> bool:
    """Whether a limit can be drawn without making the curve flat."""
    return min(known) <= limit <= max(known) + max(max(known) - min(known), abs(max(known)) / 2)


def _axes(x: Scale, y: Scale, by: str) -> Iterator[Markup]:
    low, left, right = y.begin, x.begin, x.end
    for value, said in named(ticks(y.low, y.high, max(2, int((y.begin - y.end) / 36)))):
        here = y(value)
        yield path(f"M{left:.1f} {here:.1f}H{right:.1f}", "grid")
        yield text(left - 6, here + 4, said, "small muted", "end")
    most = max(2, int((right - left) / 72))
    along = time_ticks(x.low, x.high, most) if by == "time" else named(ticks(x.low, x.high, most))
    for at, said in along:
        here = x(at)
        yield path(f"M{here:.1f} {low:.1f}v4", "axis")
        if left + 8 <= here <= right - (UTC_WIDTH if by == "time" else 8):
            yield text(here, HEIGHT - 6, said, "small muted", "middle")
    if by == "time":
        yield text(right, HEIGHT - 6, "UTC", "small muted", "end")
    yield path(f"M{left:.1f} {low:.1f}H{right:.1f}", "axis")


def _placed(marks: Iterable[Mark], x: Scale, by: str) -> list[tuple[float, Mark]]:
    """The marks that lie within the chart, and where; of those at one place the gravest stays."""
    grave: list[Happened] = ["start", "move", "death", "crash"]
    found: list[tuple[float, Mark]] = []
    placed = [(mark.at if by == "time" else mark.step, mark) for mark in marks]
    inside = [(at, mark) for at, mark in placed if at is not None and x.low <= at <= x.high]
    for at, mark in sorted(inside[-MARKS_MAX:], key=lambda one: one[0]):
        if found and x(at) - x(found[-1][0]) < APART:
            if grave.index(mark.what) > grave.index(found[-1][1].what):
                found[-1] = (found[-1][0], mark)
            continue
        found.append((at, mark))
    return found


def _marks(happened: Iterable[tuple[float, Mark]], x: Scale, y: Scale) -> Iterator[Markup]:
    """A crash is a full triangle, a death a cross, a move a rhomb, a start a square."""
    top = y.end - 8
    for at, mark in happened:
        here = x(at)
        yield path(f"M{here:.1f} {top:.1f}V{y.begin:.1f}", f"mark-line mark-{mark.what}")
        shapes: dict[Happened, str] = {
            "crash": f"M{here - 4:.1f} {top - 7:.1f}h8l-4 7z",
            "death": f"M{here - 3:.1f} {top - 7:.1f}l6 6m0-6l-6 6",
            "move": f"M{here:.1f} {top - 8:.1f}l4 4l-4 4l-4-4z",
            "start": f"M{here - 3:.1f} {top - 7:.1f}h6v6h-6z",
        }
        yield path(shapes[mark.what], f"mark mark-{mark.what}")


def _within(limits: Iterable[Limit], y: Scale) -> list[float]:
    return [one.value for one in limits if y.low <= one.value <= y.high]


def _limits(limits: Iterable[Limit], x: Scale, y: Scale, unit: str) -> Iterator[Markup]:
    """What follows from each limit, above its line and over the curves."""
    for one in limits:
        if one.value not in _within(limits, y):
            continue
        said = name(f"{_value(one.value, unit)}: {one.words}", (x.end - x.begin) / LETTER - 2)
        here = y(one.value) - 4
        width = len(said) * LETTER + 6
        yield plate(x.end - width, here - 11, width)
        yield text(x.end - 4, here, said, "small limit-words", "end")


def _names(names: Sequence[str], unit: str, width: int) -> Iterator[Markup]:
    """Which line is which, in their colours and dashes."""
    x = 4.0
    for place, curve in enumerate(names):
        said = curve if place or not unit else f"{curve}, {unit}"
        said = name(said, (width - 40) / LETTER)
        if x + 24 + len(said) * LETTER > width and place:
            return
        yield path(f"M{x:.1f} 10h16", f"line line-{place}")
        yield text(x + 20, 14, said, "small")
        x += 32 + len(said) * LETTER


def _told(happened: Sequence[tuple[float, Mark]], by: str) -> Iterator[str]:
    for at, mark in happened[-MARKS_TOLD:]:
        where = f"at {_when(at)}" if by == "time" else f"at step {at:,.0f}"
        yield f"{HAPPENED[mark.what]} {where}"
    if len(happened) > MARKS_TOLD:
        yield f"{len(happened) - MARKS_TOLD} before these"


def _dot(x: float, y: float, kind: str, radius: float = 2.5) -> Markup:
    return element("circle", cx=x, cy=y, r=radius, class_=kind)


def _limit(limit: Limit, unit: str) -> str:
    return f"{_value(limit.value, unit)}: {limit.words}"


def _value(value: float | None, unit: str) -> str:
    if value is None or not math.isfinite(value):
        return "unknown"
    return f"{short(value)} {unit}".rstrip()


def _when(at: float) -> str:
    return f"{moment(at, day=True)} {moment(at)}"
