"""One life as a picture: the mode over time, every crash, and the work beside the oracle's.

An SVG written by hand: it needs no library, and a browser shows it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from html import escape
from typing import NamedTuple

from supervisor.core.facts import StabilityLimits
from supervisor.simulation.life import Life, Stretch, live
from supervisor.simulation.rivals import ORACLE, POLICIES
from supervisor.simulation.worlds import World

WIDTH, LEFT, RIGHT = 960, 92, 28
ROW, CRASHES, WORK = 24, 26, 230
"""heights: of a mode, of the row of crashes, of the work"""
POINTS = 400
"""how finely the work is drawn"""
# The colours of Okabe and Ito, which colour-blind people can tell apart.
COLOURS = ("#56b4e9", "#e69f00", "#cc79a7", "#009e73", "#f0e442")
CRASH, MINE, BEST, LINE, INK = "#d55e00", "#0072b2", "#999999", "#dddddd", "#333333"


class _Frame(NamedTuple):
    """Where hours, and work, lie on the page."""

    hours: float
    work: float
    top: float
    bottom: float

    def x(self, hour: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * hour / self.hours

    def y(self, work: float) -> float:
        return self.bottom - (self.bottom - self.top) * work / self.work


def svg(world: World, policy: str, limits: StabilityLimits | None = None) -> str:
    """How `policy` leads the machine of `world`, beside the oracle with the same luck."""
    limits = limits or StabilityLimits()
    life = live(world, POLICIES[policy](world, limits))
    best = live(world, POLICIES[ORACLE](world, limits))
    rows = 44.0
    crashes = rows + ROW * world.rungs
    top = crashes + CRASHES + 34
    most = max(life.work, best.work) or 1.0
    frame = _Frame(world.days * 24, most * 1.03, top, top + WORK)
    share = f"{life.work / best.work:.3f}" if best.work else "1"
    title = (
        f"{world.family}: {policy} keeps {share} of the oracle's work, "
        f"with {life.crashes / world.days:.1f} crashes a day"
    )
    parts = [
        text(LEFT, 24, title, size=15),
        *_days(frame, rows),
        *_modes(world, life, frame, rows),
        text(LEFT - 10, crashes + 18, "crash", anchor="end"),
        _ticks(life.crashes_h, frame, crashes + 4, crashes + CRASHES - 4),
        *_works(frame),
        _curve(best.stretches, frame, BEST, dashed=True),
        _curve(life.stretches, frame, MINE),
        *_legend(frame, policy),
    ]
    return page(title, WIDTH, frame.bottom + 62, parts)


def page(title: str, width: int, height: float, parts: Iterable[str]) -> str:
    """A white page with these parts on it; lengths in pixels."""
    size = f'width="{width}" height="{height:.0f}"'
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height:.0f}" {size} '
        'font-family="sans-serif">'
    )
    white = f'<rect {size} fill="#ffffff"/>'
    return "\n".join((head, f"<title>{escape(title)}</title>", white, *parts, "</svg>", ""))


def text(x: float, y: float, words: str, *, anchor: str = "start", size: int = 13) -> str:
    """Words, on the line at `y`."""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}" '
        f'fill="{INK}">{escape(words)}</text>'
    )


def line(x1: float, y1: float, x2: float, y2: float, colour: str, more: str = "") -> str:
    """A straight line; `more` are further attributes."""
    return (
        f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}" {more}/>'
    )


def _steps(most: float, count: int) -> list[float]:
    """Round numbers from 0 up to `most`, at most `count` of them beside 0."""
    step = 10.0 ** math.floor(math.log10(most / count))
    step *= next(part for part in (1, 2, 5, 10) if most / (step * part) <= count + 1e-9)
    return [step * i for i in range(int(most / step + 1e-9) + 1)]


def _days(frame: _Frame, top: float) -> Iterator[str]:
    """The axis of time."""
    for day in _steps(frame.hours / 24, 6):
        x = frame.x(day * 24)
        yield line(x, top, x, frame.bottom, LINE)
        yield text(x, frame.bottom + 18, f"{day:g}", anchor="middle")
    yield text(frame.x(frame.hours / 2), frame.bottom + 36, "days", anchor="middle")


def _modes(world: World, life: Life, frame: _Frame, top: float) -> Iterator[str]:
    """One row for each mode, the heaviest on top."""
    for mode, name in enumerate(world.names):
        y = top + ROW * (world.rungs - 1 - mode)
        yield text(LEFT - 10, y + 16, name, anchor="end")
        low, high = y + ROW - 3, y + 3
        boxes = "".join(
            f"M{frame.x(begin_h):.2f} {low:.1f}V{high:.1f}H{frame.x(end_h):.2f}V{low:.1f}z"
            for begin_h, end_h in _visits(life.stretches, mode)
        )
        yield f'<path d="{boxes}" fill="{COLOURS[mode % len(COLOURS)]}"/>'


def _visits(stretches: Iterable[Stretch], mode: int) -> Iterator[tuple[float, float]]:
    """From when to when a mode was the goal; a crash in between ends no visit."""
    begin_h = end_h = None
    for stretch in stretches:
        if stretch.mode == mode:
            begin_h = stretch.from_h if begin_h is None else begin_h
            end_h = stretch.to_h
        elif begin_h is not None and end_h is not None:
            yield begin_h, end_h
            begin_h = None
    if begin_h is not None and end_h is not None:
        yield begin_h, end_h


def _ticks(at_h: Sequence[float], frame: _Frame, top: float, bottom: float) -> str:
    path = "".join(f"M{frame.x(hour):.2f} {top:.1f}V{bottom:.1f}" for hour in at_h)
    return f'<path d="{path}" stroke="{CRASH}" stroke-width="0.8" stroke-opacity="0.7"/>'


def _works(frame: _Frame) -> Iterator[str]:
    """The axis of work."""
    for work in _steps(frame.work, 4):
        y = frame.y(work)
        yield line(LEFT, y, WIDTH - RIGHT, y, LINE)
        yield text(LEFT - 10, y + 4, f"{work:g}", anchor="end")
    what = "work kept, in running hours of the lightest mode"
    yield text(LEFT, frame.top - 10, what)


def _curve(
    stretches: Sequence[Stretch], frame: _Frame, colour: str, *, dashed: bool = False
) -> str:
    """The work that had been kept by every moment."""
    points = [(frame.x(0.0), frame.y(0.0))]
    work, drawn_h = 0.0, 0.0
    for stretch in stretches:
        if stretch.from_h - drawn_h > frame.hours / POINTS:
            points.append((frame.x(stretch.from_h), frame.y(work)))
        work += stretch.work
        if stretch.to_h - drawn_h > frame.hours / POINTS:
            points.append((frame.x(stretch.to_h), frame.y(work)))
            drawn_h = stretch.to_h
    points.append((frame.x(frame.hours), frame.y(work)))
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    dash = ' stroke-dasharray="6 4"' if dashed else ""
    return f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"{dash}/>'


def _legend(frame: _Frame, policy: str) -> Iterator[str]:
    x, y = LEFT + 16, frame.top + 18
    yield line(x, y, x + 28, y, MINE, 'stroke-width="2"')
    yield text(x + 36, y + 4, policy)
    yield line(x, y + 20, x + 28, y + 20, BEST, 'stroke-width="2" stroke-dasharray="6 4"')
    yield text(x + 36, y + 24, ORACLE)
