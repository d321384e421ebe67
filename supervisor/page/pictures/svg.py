"""SVG as text in which every name is escaped: elements, scales, axes, hatches.

Colours and sizes of letters stand in `static/pictures.css`, by class; nothing here has a style of
its own, and nothing an id, so any picture may stand on a page twice.
"""

from __future__ import annotations

import datetime as dt
import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from markupsafe import Markup, escape

from supervisor.terminal import printable

NARROW, WIDE = 358, 1132
"""widths in pixels: of a phone, and of all twelve columns of a desktop"""
NAME_MAX = 60
"""letters of a name that are shown"""
LETTER = 6.2
"""width of a letter, about, in pixels"""
UTC_WIDTH = 44
"""pixels at the end of an axis of time, where its zone stands"""
TIME_STEPS_S = (
    60, 300, 600, 1800, 3600, 7200, 10_800, 21_600, 43_200, 86_400, 172_800, 604_800, 1_209_600,
    2_592_000, 7_776_000, 31_536_000,
)  # fmt: skip
DAY_S = 86_400


def element(name: str, *children: object, **attributes: object) -> Markup:
    """An element; text among its children is escaped, and so is every attribute.

    Args:
        name: of the element.
        children: elements, and text.
        attributes: `class_` is `class`, another `_` stands for `-`; None is left out.
    """
    told = "".join(
        f' {key.removesuffix("_").replace("_", "-")}="{escape(_plain(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    inner = "".join(
        child if isinstance(child, Markup) else escape(_plain(child)) for child in children
    )
    return Markup(f"<{name}{told}>{inner}</{name}>")  # noqa: S704 - all text in it was escaped


def picture(
    kind: str,
    width: int,
    height: float,
    title: str,
    told: str,
    parts: Iterable[Markup],
    taps: Iterable[Markup] = (),
) -> Markup:
    """A whole picture, which says the same in words.

    Args:
        kind: its class.
        width: in pixels.
        height: in pixels.
        title: its name, a sentence.
        told: what it shows, for whoever does not see it.
        parts: what is drawn.
        taps: links that lie over it. Without them all of it is one image; with them, what is drawn.
    """
    box = f"0 0 {width} {height:g}"
    words = (element("title", title), element("desc", told))
    over = list(taps)
    if not over:
        return element("svg", *words, *parts, class_=f"picture {kind}", viewBox=box, role="img")
    drawn = element("g", *words, *parts, role="img")
    return element("svg", drawn, *over, class_=f"picture {kind}", viewBox=box)


def for_both(draw: Callable[[int], Markup]) -> Markup:
    """A picture as it is drawn for a phone and for a desktop; the stylesheet shows one of them."""
    return Markup().join(
        element("div", draw(width), class_=f"picture-{name}")
        for name, width in (("narrow", NARROW), ("wide", WIDE))
    )


class Scale(NamedTuple):
    """Where values lie on the page."""

    low: float
    high: float
    begin: float
    """in pixels, of the lowest value"""
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """The place of a value; what lies outside stands at the edge."""
        low, high, here = self.low, self.high, min(max(value, self.low), self.high)
        if self.log:
            low, high, here = math.log(low), math.log(high), math.log(here)
        share = (here - low) / (high - low) if high > low else 0.5
        return self.begin + (self.end - self.begin) * share


def text(x: float, y: float, words: object, kind: str = "", anchor: str | None = None) -> Markup:
    """Words, on the line at `y`."""
    return element("text", words, x=x, y=y, class_=kind or None, text_anchor=anchor)


def plate(x: float, y: float, width: float) -> Markup:
    """The ground that words stand on which lie over something."""
    return element("rect", x=float(x), y=float(y), width=float(width), height=15, class_="plate")


def path(d: str, kind: str) -> Markup:
    """A path of a class."""
    return element("path", d=d, class_=kind)


def box(x: float, y: float, width: float, height: float) -> str:
    """The path of a rectangle."""
    return f"M{x:.1f} {y:.1f}h{width:.1f}v{height:.1f}h{-width:.1f}z"


def line(points: Iterable[tuple[float, float | None]]) -> str:
    """The path through points; one without a height is a gap. A lonely point is a dot."""
    parts: list[str] = []
    alone, drawing = False, False
    for x, y in points:
        if y is None:
            parts += ["h.1"] if alone else []
            alone = drawing = False
            continue
        parts.append(f"{'L' if drawing else 'M'}{x:.1f} {y:.1f}")
        alone, drawing = not drawing, True
    return "".join([*parts, *(["h.1"] if alone else [])])


def hatch(x: float, y: float, width: float, height: float, step: float, *, falls: bool) -> str:
    """The path of slanted lines in a rectangle, at the same places on the page for all of them."""
    parts = []
    first = math.floor((x - height) / step) * step
    for start in itertools.takewhile(
        lambda at: at < x + width, (first + number * step for number in itertools.count())
    ):
        low, high = max(x, start), min(x + width, start + height)
        if high <= low:
            continue
        begin, end = (
            (low - start, high - start)
            if falls
            else (height - (low - start), height - (high - start))
        )
        parts.append(f"M{low:.1f} {y + begin:.1f}L{high:.1f} {y + end:.1f}")
    return "".join(parts)


def ticks(low: float, high: float, most: int) -> list[float]:
    """Round numbers within two values, at most so many."""
    if not high > low:
        return [low]
    step = 10.0 ** math.floor(math.log10((high - low) / most))

    def ends() -> tuple[int, int]:
        return math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)

    while ends()[1] - ends()[0] >= most:
        step *= 2.5 if f"{step:e}".startswith("2") else 2
    first, last = ends()
    return [number * step for number in range(first, last + 1)]


def time_ticks(since: float, until: float, most: int) -> Iterator[tuple[float, str]]:
    """Round times within two wall times, at most so many, and how each is called, in UTC."""
    for step_s in TIME_STEPS_S:
        first, last = math.ceil(since / step_s), math.floor(until / step_s)
        if last - first < most:
            break
    for at in range(first * step_s, last * step_s + 1, step_s)[:most]:
        yield float(at), moment(at, day=step_s >= DAY_S or at % DAY_S == 0)


def moment(at: float, *, day: bool = False) -> str:
    """A wall time for a person, in UTC: the time of the day, or the day."""
    try:
        when = dt.datetime.fromtimestamp(at, dt.UTC)
    except (OverflowError, ValueError, OSError):
        return "?"
    return f"{when.day} {when:%b}" if day else f"{when:%H:%M}"


def short(value: float, digits: int = 3) -> str:
    """A number in few letters."""
    for limit, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if limit <= abs(value) < 1e15:
            return f"{value / limit:.{digits}g}{letter}"
    return f"{value:.{digits}g}"


def named(values: Sequence[float]) -> list[tuple[float, str]]:
    """The values of an axis, each with as many digits as tell them apart."""
    for digits in range(3, 16):
        said = [short(value, digits) for value in values]
        if len(set(said)) == len(said):
            break
    return list(zip(values, said, strict=True))


def name(words: str, most: float = NAME_MAX) -> str:
    """A name that may be of any length, as far as there is room for so many letters."""
    letters = max(1, min(NAME_MAX, int(most)))
    return words if len(words) <= letters else f"{words[: letters - 1]}…"


def percent(share: float) -> str:
    """A share as people write it: almost all is not all, and almost nothing is not nothing."""
    value = 100 * share
    if value < 0.1:
        return "0 %" if share <= 0 else "<0.1 %"
    if 1 <= value < 99 or share >= 1:
        return f"{value:.0f} %"
    if value < 1:
        return f"{round(value, 1):g} %"
    return f"{math.floor(value * 10) / 10:g} %"


def _plain(value: object) -> str:
    """A value as text without control characters, which no SVG may have; lengths are rounded."""
    if isinstance(value, float):
        return f"{value:.1f}".removesuffix(".0")
    said = str(value)
    return said if said.isprintable() else printable(said)
