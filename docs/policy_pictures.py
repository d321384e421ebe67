"""Draw the pictures of policy.md, from lives that the real policy has lived.

    python docs/policy_pictures.py

Each life is a machine of the simulator that crashes at given moments, or never changes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from html import escape
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from state.records import Kept, Ledger, ModeLedger
from supervisor.core import decisions
from supervisor.core import ledger as learnt
from supervisor.core.facts import StabilityLimits, Terms
from supervisor.simulation import picture
from supervisor.simulation.life import Choice, Supervised, live
from supervisor.simulation.worlds import Strike, World, constant

FOLDER = Path(__file__).parent / "pictures"
WIDTH, LEFT, RIGHT, TOP = 720, 96, 20, 38
ROW = 24
"""height of a mode's row"""
PLOT = 150
STEP_H = 1 / 30
"""how often a life is looked at, so that lines are drawn as they run"""
CURVE, LIMIT = picture.MINE, picture.BEST
CURVES = ("#56b4e9", "#009e73", "#e69f00", "#cc79a7")


class Sample(NamedTuple):
    """What the policy knew at one moment."""

    at_h: float
    mode: int
    budget: float | None
    budget_max: float
    level: int
    """of medium"""
    cool_until_h: float | None


class Watched(Supervised):
    """The real policy, watched."""

    def __init__(self, world: World) -> None:
        super().__init__(world, StabilityLimits())
        self.samples: list[Sample] = []

    def _decide(self, at_h: float) -> Choice:
        """Watch before the decision and after it; the crash that calls for it stands before."""
        self._watch(at_h)
        choice = super()._decide(at_h)
        self._watch(at_h)
        return Choice(choice.mode, min(choice.until_h, at_h + STEP_H))

    def boot(self, seen_h: float, at_h: float, kept: Kept) -> Choice:
        """Watch the budget before the crash, too."""
        self._pass(seen_h, kept)
        self._watch(seen_h)
        return super().boot(seen_h, at_h, Kept())

    def _watch(self, at_h: float) -> None:
        facts = decisions.facts(self.memory, self._ladder, self._limits)
        known = facts.ledger.modes.get("medium", learnt.NOTHING)
        cap = learnt.budget_cap(facts.ledger, facts.terms, facts.goal.mode, facts.running_s)
        until_s = facts.cool_downs.get("medium")
        self.samples.append(
            Sample(
                at_h=at_h,
                mode=facts.rung,
                budget=facts.ledger.budget if facts.rung else None,
                budget_max=cap,
                level=known.level,
                cool_until_h=None if until_s is None else until_s / 3600,
            )
        )


def struck(hours: float, *strikes: tuple[float, int], downtime_h: float = 0.05) -> World:
    """A machine that crashes at these hours; the second number of all is the mode it takes."""
    return constant(
        (1.0, 2.0),
        (0.0, 0.0),
        strikes=tuple(Strike(at_h, downtime_h) for at_h, _ in strikes),
        struck=strikes[0][1],
        downtime_h=downtime_h,
        days=hours / 24,
    )


def watched(world: World) -> tuple[list[Sample], tuple[float, ...]]:
    """What the policy knew in that world, and when it crashed."""
    pilot = Watched(world)
    life = live(world, pilot)
    return pilot.samples, life.crashes_h


# The pictures


def budget() -> str:
    """A mode has a budget of crashes."""
    strikes = (1.6, 3.6, 3.93, 4.26, 4.59, 4.92, 5.25)
    world = struck(7, *((at_h, 1) for at_h in strikes), downtime_h=0.3)
    return _life(
        "A crash takes 1 from the budget, running earns it back; below 0: fall back", world
    )


def probation() -> str:
    """A mode that has failed gets less credit at first."""
    strikes = (1.05, 1.35, 1.65, 1.95, 2.25, 3.7, 4.0, 4.3)
    world = struck(9, *((at_h, 1) for at_h in strikes), downtime_h=0.25)
    return _life(
        "After a failure: little credit for an hour, and a known bad mode is left at once", world
    )


def exoneration() -> str:
    """Where the lower mode crashes as well, the upper one was not the cause."""
    strikes = [1.5 + 0.1 * number for number in range(40)]
    world = struck(9, *((at_h, 0) for at_h in strikes), downtime_h=0.04)
    samples, crashes_h = watched(world)
    page = _Page(9.0, "Light crashes as well: medium is acquitted before its cool-down is over")
    top = page.modes(samples, crashes_h)
    until_h = next((one.cool_until_h for one in samples if one.cool_until_h is not None), None)
    if until_h is not None:
        x = page.x(min(until_h, 9.0))
        page.line(x, TOP - 4, x, top, LIMIT, 'stroke-dasharray="5 3"')
        page.text(x + 6, top + 14, "the first cool-down would have ended here")
    return page.drawn(top + 68)


def cool_down() -> str:
    """What fails is tried less and less often, but never given up."""
    days = 6.0
    world = constant((1.0, 2.0), (0.0, 15.0), downtime_h=0.1, days=days)
    samples, crashes_h = watched(world)
    page = _Page(days * 24, "A medium that always fails: each try waits longer, up to a bound")
    top = page.modes(samples, crashes_h) + 26
    waits = []
    for before, after in pairwise(samples):
        if before.mode == 1 and after.mode == 0 and after.cool_until_h is not None:
            waits.append((after.at_h, after.cool_until_h - after.at_h))
    most_h = 26.0
    page.scale(top, 0.0, most_h, (0, 6, 12, 18, 24), "cool-down, h")
    page.curve([(at_h, min(2.0**n, 24.0)) for n, (at_h, _) in enumerate(waits)], LIMIT, dashed=True)
    page.curve(waits, CURVE)
    for at_h, wait_h in waits:
        page.dot(at_h, wait_h)
    page.legend(top, (("as it is", CURVE), ("doubled, up to a day", LIMIT)))
    return page.drawn(top + PLOT + 44)


def break_even() -> str:
    """What a crash costs decides how many of them a mode is worth."""
    page = _Page(60.0, "How many crashes an hour a mode is worth", unit="min that a crash costs")
    page.hours_axis(TOP, TOP + PLOT, (0, 10, 20, 30, 40, 50, 60))
    page.scale(TOP, 0.0, 12.0, (0, 2, 4, 6, 8, 10, 12), "crashes/h")
    ratios = (1.25, 1.5, 2.0, 3.0)
    for ratio, colour in zip(ratios, CURVES, strict=True):
        points = [(price, _break_even(ratio, float(price))) for price in range(2, 61)]
        page.curve([(price, worth) for price, worth in points if worth <= 12], colour)
    names = [
        (f"{ratio:g} times as fast", colour) for ratio, colour in zip(ratios, CURVES, strict=True)
    ]
    page.legend(TOP + 4, names, across=1)
    page.dot(20.0, _break_even(2.0, 20.0))
    return page.drawn(TOP + PLOT + 44)


PICTURES: dict[str, Callable[[], str]] = {
    "budget": budget,
    "cool-down": cool_down,
    "probation": probation,
    "exoneration": exoneration,
    "break-even": break_even,
}


def _break_even(ratio: float, price_min: float) -> float:
    """The break-even rate of a medium that has been measured for long, beside a calm light."""
    limits = StabilityLimits(crash_price_min=price_min)
    calm = ModeLedger(hours=1000.0)
    terms = Terms(("light", "medium"), (1.0, ratio), limits)
    return learnt.break_even_per_h(Ledger(modes={"light": calm}), terms, 1)


def _life(title: str, world: World) -> str:
    """One life: the mode, the crashes, and the budget with what it can hold."""
    samples, crashes_h = watched(world)
    page = _Page(world.days * 24, title)
    top = page.modes(samples, crashes_h) + 26
    page.scale(top, -1.0, 3.4, (-1, 0, 1, 2, 3), "budget, crashes")
    for part in _visits(samples):
        page.curve([(one.at_h, one.budget_max) for one in part], LIMIT, dashed=True)
        page.curve([(one.at_h, one.budget or 0.0) for one in part], CURVE)
    zero = page.y(0.0)
    page.line(LEFT, zero, WIDTH - RIGHT, zero, picture.CRASH)
    page.legend(top, (("budget", CURVE), ("what it can hold", LIMIT)))
    return page.drawn(top + PLOT + 44)


def _visits(samples: Sequence[Sample]) -> Iterator[list[Sample]]:
    """The stays in medium."""
    part: list[Sample] = []
    for one in samples:
        if one.mode == 1:
            part.append(one)
        elif part:
            yield part
            part = []
    if part:
        yield part


class _Page:
    """A picture in the making; hours go to the right.

    Args:
        hours: how many.
        title: what it shows.
        unit: what the lower axis counts.
    """

    def __init__(self, hours: float, title: str, unit: str = "hours") -> None:
        self._hours = hours
        self._title = title
        self._unit = unit
        self._parts: list[str] = []
        self._top, self._low, self._high = 0.0, 0.0, 1.0
        self.text(LEFT, 22, title, size=15)

    def x(self, hour: float) -> float:
        """Where an hour lies."""
        return LEFT + (WIDTH - LEFT - RIGHT) * hour / self._hours

    def y(self, value: float) -> float:
        """Where a value of the newest scale lies."""
        return self._top + PLOT * (self._high - value) / (self._high - self._low)

    def text(
        self, x: float, y: float, words: str, *, anchor: str = "start", size: int = 12
    ) -> None:
        """Write."""
        self._parts.append(picture.text(x, y, words, anchor=anchor, size=size))

    def line(self, x1: float, y1: float, x2: float, y2: float, colour: str, more: str = "") -> None:
        """A straight line."""
        self._parts.append(picture.line(x1, y1, x2, y2, colour, more))

    def curve(
        self, points: Sequence[tuple[float, float]], colour: str, *, dashed: bool = False
    ) -> None:
        """A line through points of the newest scale."""
        drawn = " ".join(f"{self.x(hour):.1f},{self.y(value):.1f}" for hour, value in points)
        dash = 'stroke-dasharray="4 3" ' if dashed else ""
        self._parts.append(
            f'<polyline points="{drawn}" fill="none" stroke="{colour}" stroke-width="2" {dash}/>'
        )

    def dot(self, hour: float, value: float) -> None:
        """A point of the newest scale."""
        x, y = self.x(hour), self.y(value)
        self._parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{CURVE}"/>')

    def scale(self, top: float, low: float, high: float, marks: Sequence[float], name: str) -> None:
        """An axis on the left, for what is drawn next."""
        self._top, self._low, self._high = top, low, high
        for mark in marks:
            y = self.y(mark)
            self.line(LEFT, y, WIDTH - RIGHT, y, picture.LINE)
            self.text(LEFT - 8, y + 4, f"{mark:g}", anchor="end")
        self._parts.append(
            f'<text transform="translate(24 {top + PLOT / 2:.1f}) rotate(-90)" font-size="12" '
            f'text-anchor="middle" fill="{picture.INK}">{escape(name)}</text>'
        )

    def modes(self, samples: Sequence[Sample], crashes_h: Sequence[float]) -> float:
        """Which mode trains, with the crashes below; where that ends."""
        bottom = TOP + 2 * ROW + 20
        for rung, name in enumerate(("light", "medium")):
            self.text(LEFT - 8, TOP + (1 - rung) * ROW + 16, name, anchor="end")
        self.text(LEFT - 8, bottom - 4, "crashes", anchor="end")
        ends = [*(one.at_h for one in samples[1:]), self._hours]
        begin_h = 0.0
        for one, end_h, after in zip(samples, ends, [*samples[1:], None], strict=True):
            if after is not None and after.mode == one.mode:
                continue
            x, width = self.x(begin_h), self.x(end_h) - self.x(begin_h)
            self._parts.append(
                f'<rect x="{x:.1f}" y="{TOP + (1 - one.mode) * ROW + 2:.1f}" '
                f'width="{max(width, 1.2):.1f}" height="{ROW - 4}" '
                f'fill="{picture.COLOURS[one.mode]}"/>'
            )
            begin_h = end_h
        for crash_h in crashes_h:
            self.line(self.x(crash_h), bottom - 14, self.x(crash_h), bottom - 2, picture.CRASH)
        return bottom

    def hours_axis(self, top: float, bottom: float, marks: Sequence[float]) -> None:
        """The lower axis."""
        for mark in marks:
            self.line(self.x(mark), top, self.x(mark), bottom, picture.LINE)
            self.text(self.x(mark), bottom + 16, f"{mark:g}", anchor="middle")
        self.text(self.x(self._hours / 2), bottom + 34, self._unit, anchor="middle")

    def legend(self, top: float, names: Sequence[tuple[str, str]], *, across: int = 0) -> None:
        """What each colour means: beside each other, or below with `across`."""
        x, y = WIDTH - RIGHT - 150.0 * (1 if across else len(names)), top - 8.0
        for name, colour in names:
            y += 18 if across else 0
            self.line(x, y - 4, x + 18, y - 4, colour, 'stroke-width="3"')
            self.text(x + 24, y, name)
            x += 0 if across else 150

    def drawn(self, height: float) -> str:
        """The picture."""
        if self._unit == "hours":
            step = next(step for step in (1, 2, 6, 12, 24) if self._hours / step <= 12)
            marks = [step * i for i in range(math.floor(self._hours / step) + 1)]
            self.hours_axis(height - 44, height - 44, marks)
        return picture.page(self._title, WIDTH, height, self._parts)


def main() -> None:
    """Draw them all."""
    FOLDER.mkdir(exist_ok=True)
    for name, draw in PICTURES.items():
        (FOLDER / f"{name}.svg").write_text(draw(), encoding="utf-8")


if __name__ == "__main__":
    main()
