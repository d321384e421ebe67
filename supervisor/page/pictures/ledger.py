"""What the machine has taught: of each mode how often it crashes, and how often it may."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from markupsafe import Markup

from supervisor.core.explain import KnownMode
from supervisor.page.pictures.svg import (
    LETTER,
    Scale,
    element,
    name,
    path,
    picture,
    short,
    text,
    ticks,
)

ROW, TOP, BOTTOM = 58, 8, 38
LOG_FROM = 20.0
"""times as large as the smallest value the largest has to be for a logarithmic axis"""
LEAST_PER_H = 1e-4
"""lower rates stand at the edge: a crash in more than a year"""


def ledger(modes: Sequence[KnownMode], width: int, *, mode: str) -> Markup:
    """A row for each mode, the safest below, on one axis of crashes an hour.

    Args:
        modes: what is known of each, the safest first.
        width: in pixels.
        mode: the present one.
    """
    x = _scale(modes, width)
    height = TOP + ROW * len(modes) + BOTTOM
    parts = list(_axis(x, TOP + ROW * len(modes), width))
    for place, known in enumerate(reversed(modes)):
        parts += _row(known, x, TOP + ROW * place, width, now=known.mode == mode)
    title = f"Crashes an hour of running, of each mode: now in {name(mode)}"
    told = ". ".join(in_words(known) for known in modes) or "No mode is known"
    return picture("ledger", width, height, title, f"{told}.", parts)


def in_words(known: KnownMode) -> str:
    """What is known of a mode, in a sentence."""
    rate = (
        f"{name(known.mode)}: {short(known.crashes_per_h)} crashes an hour "
        f"({short(known.crashes_per_h_low)} to {short(known.crashes_per_h_high)}), "
        f"from {short(known.crashes)} in {short(known.hours)} h"
    )
    if known.break_even_per_h is None:
        return f"{rate}; the lowest, which has to bear them all"
    if known.break_even_per_h <= 0:
        return f"{rate}; it brings less than the mode below even without a crash"
    verdict = "above" if known.crashes_per_h > known.break_even_per_h else "below"
    return f"{rate}, {verdict} its break-even of {short(known.break_even_per_h)}"


def _scale(modes: Sequence[KnownMode], width: int) -> Scale:
    values = [
        value
        for known in modes
        for value in (
            known.crashes_per_h_low,
            known.crashes_per_h,
            known.crashes_per_h_high,
            known.break_even_per_h,
        )
        if value is not None and math.isfinite(value) and value > 0
    ]
    least, most = max(LEAST_PER_H, min(values, default=0.1)), max([*values, 0.1])
    if most / least < LOG_FROM:
        return Scale(0.0, most * 1.1, 12, width - 12)
    return Scale(least / 1.5, most * 1.5, 12, width - 12, log=True)


def _axis(x: Scale, low: float, width: int) -> Iterator[Markup]:
    values = ticks(x.low, x.high, max(2, int(width / 80)))
    if x.log:
        powers = range(math.ceil(math.log10(x.low)), math.floor(math.log10(x.high)) + 1)
        values = [10.0**power for power in powers]
        if len(values) < 2:
            values = [factor * 10.0**power for power in (*powers, powers.stop) for factor in (1, 3)]
    for value in values:
        if not x.low <= value <= x.high:
            continue
        here = x(value)
        yield path(f"M{here:.1f} {TOP}V{low + 4:.1f}", "grid")
        yield text(here, low + 17, short(value), "small muted", "middle")
    yield path(f"M{x.begin:.1f} {low:.1f}H{x.end:.1f}", "axis")
    scale = ", logarithmic" if x.log else ""
    yield text(width / 2, low + 33, f"crashes an hour{scale}", "small muted", "middle")


def _row(known: KnownMode, x: Scale, top: float, width: int, *, now: bool) -> Iterator[Markup]:
    y = top + 34
    rate = f"{short(known.crashes_per_h)}/h, {short(known.crashes)} in {short(known.hours)} h"
    said = name(known.mode, (width - 40) / LETTER - len(rate) - 8) + " (now)" * now
    yield text(x.begin, top + 14, said, "strong" if now else "")
    yield text(width - 12, top + 14, rate, "small muted", "end")
    low, high = x(known.crashes_per_h_low), x(known.crashes_per_h_high)
    yield path(
        f"M{low:.1f} {y:.1f}H{high:.1f}M{low:.1f} {y - 5:.1f}v10M{high:.1f} {y - 5:.1f}v10",
        "bounds",
    )
    yield element("circle", cx=x(known.crashes_per_h), cy=y, r=5.0, class_="rate")
    worth = known.break_even_per_h
    if worth is None:
        return
    here = x(worth)
    yield path(f"M{here:.1f} {y - 12:.1f}V{y + 12:.1f}", "break-even")
    words = f"breaks even at {short(worth)}" if worth > 0 else "never breaks even"
    left = here > width / 2
    yield text(
        here - 5 if left else here + 5,
        y + 19,
        words,
        "small break-even-words",
        "end" if left else None,
    )
