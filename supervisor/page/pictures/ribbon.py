"""A span of time as a ribbon: modes, crashes, pauses, downtime, and what of it is kept."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence

from markupsafe import Markup

from supervisor.core.moments import span
from supervisor.core.pauses import OWNERS
from supervisor.page.past import DOWNTIMES, IDLE, Band, Ribbon, Tick
from supervisor.page.pictures.svg import (
    LETTER,
    UTC_WIDTH,
    Scale,
    box,
    element,
    hatch,
    moment,
    name,
    path,
    percent,
    picture,
    plate,
    short,
    text,
    time_ticks,
)

MARKS, MODES, GAP, KEPT, AXIS = 20, 56, 8, 28, 20
"""heights in pixels: of crashes, modes, what lies between, goodput, and the axis"""
RUNGS_COLOURED = 5
"""rungs that have a colour of their own; heavier ones have that of the last"""
APART, CROWDED = 9, 44
"""pixels between marks: what is closer is one mark with its number; and where marks crowd"""
TAP = 24
"""least width of what a finger meets, in pixels"""
TOLD_MAX = 12
"""crashes that are told in words, the newest"""
HATCH_STEP = 6.0
PAUSED: dict[str, str] = {
    **{str(owner): who for owner, who in OWNERS.items()},
    IDLE: "nobody, but the machine dies as soon as it trains",
}


def ribbon(shown: Ribbon, width: int, *, called: str, to: str = "#d") -> Markup:
    """The ribbon as a picture.

    Args:
        shown: what is to be seen.
        width: in pixels.
        called: what span it is, such as `the last 24 hours`.
        to: what the address begins with to which a tap leads; the number of the line follows.
    """
    x = Scale(shown.since, shown.until, 0.5, width - 0.5)
    low = MARKS + MODES
    height = low + GAP + KEPT + AXIS
    marks = _together(shown.ticks, x)
    parts = [
        *_days(shown, x, low + GAP + KEPT),
        *steps(shown, x, low, MODES),
        *_pauses(shown.pauses, x, low),
        *_names(shown, x, low),
        *_unknown(shown.downs, x, low),
        path(f"M0 {low:.1f}H{width}", "axis"),
        *_marks(marks, x, low),
        *_kept(shown, x, low + GAP),
    ]
    taps = [*_band_taps(shown, x, low, to), *_mark_taps(marks, x, low, to)]
    return picture(
        "ribbon", width, height, f"{called}: {in_words(shown)}", _told(shown), parts, taps
    )


def in_words(shown: Ribbon) -> str:
    """The same in a sentence."""
    crashes = sum(tick.crash for tick in shown.ticks)
    planned = len(shown.ticks) - crashes
    said = [
        f"{name(mode)} for {span(seconds)}" for mode, seconds in _sums(shown.modes).items()
    ] or ["in no mode that is known"]
    said += [_count(crashes, "crash", "crashes")]
    said += [_count(planned, "planned reboot", "planned reboots")] if planned else []
    said += [
        f"paused for {span(seconds)} by {_whose(owner)}"
        for owner, seconds in _sums(shown.pauses).items()
    ]
    said += [
        f"{DOWNTIMES.get(what, what)} for {span(seconds)}"  # type: ignore[call-overload]
        for what, seconds in _sums(shown.downs).items()
    ]
    kept = shown.goodput
    said += [f"goodput {percent(kept)}" if kept is not None else "goodput not known"]
    return ", ".join(said)


def _whose(owner: str) -> str:
    return name(PAUSED.get(owner, owner))


def _told(shown: Ribbon) -> str:
    """Each crash and reboot with its moment."""
    newest = shown.ticks[-TOLD_MAX:]
    said = [f"{'crash' if tick.crash else 'planned reboot'} at {_when(tick.at)}" for tick in newest]
    older = len(shown.ticks) - len(newest)
    said += [f"{older} before these"] if older else []
    since, until = _when(shown.since), _when(shown.until)
    return f"From {since} to {until} UTC: {', '.join(said) or 'no boot'}."


def _when(at: float) -> str:
    return f"{moment(at, day=True)} {moment(at)}"


def _count(number: int, one: str, more: str) -> str:
    return f"{number or 'no'} {one if number == 1 else more}"


def _sums(bands: Iterable[Band]) -> dict[str, float]:
    sums: dict[str, float] = {}
    for band in bands:
        sums[band.what] = sums.get(band.what, 0.0) + band.end - band.begin
    return dict(sorted(sums.items(), key=lambda one: -one[1]))


def _columns(bands: Iterable[Band], x: Scale) -> list[tuple[str, float, float]]:
    """What most of each pixel is, as runs of equal pixels: however many bands there are."""
    first = int(x.begin)
    covered: list[dict[str, float]] = [{} for _ in range(int(x.end) - first + 1)]
    for band in bands:
        begin, end = x(band.begin) - first, x(band.end) - first
        for column in range(int(begin), min(len(covered) - 1, int(end)) + 1):
            part = min(end, column + 1) - max(begin, column)
            covered[column][band.what] = covered[column].get(band.what, 0.0) + part
    most = [max(known, key=lambda what: known[what]) if known else "" for known in covered]
    found: list[tuple[str, float, float]] = []
    at = first
    for what, run in itertools.groupby(most):
        length = len(list(run))
        if what and what not in DOWNTIMES:
            found.append((what, float(at), float(at + length)))
        at += length
    return found


def _rung(mode: str, ladder: Sequence[str]) -> int:
    return ladder.index(mode) if mode in ladder else 0


def _height(mode: str, ladder: Sequence[str], high: float) -> float:
    """The heavier, the higher."""
    return high * (_rung(mode, ladder) + 1) / max(1, len(ladder))


def steps(shown: Ribbon, x: Scale, low: float, high: float, kind: str = "") -> Iterator[Markup]:
    """The modes as steps, the heavier the higher: a path for each colour.

    Args:
        shown: with the modes.
        x: where moments lie.
        low: where all steps stand.
        high: how high the highest is.
        kind: a class for all of them.
    """
    boxes: dict[int, list[str]] = {}
    for mode, begin, end in _columns((*shown.modes, *shown.downs), x):
        up = _height(mode, shown.ladder, high)
        colour = min(_rung(mode, shown.ladder), RUNGS_COLOURED - 1)
        boxes.setdefault(colour, []).append(box(begin, low - up, end - begin, up))
    for colour, drawn in sorted(boxes.items()):
        yield path("".join(drawn), f"{kind} rung-{colour}".lstrip())


def _names(shown: Ribbon, x: Scale, low: float) -> Iterator[Markup]:
    for mode, begin, end in _columns((*shown.modes, *shown.downs), x):
        said = name(mode)
        if end - begin > (len(said) + 2) * LETTER:
            yield text(begin + 6, low - 6, said, "on-mode")


def _pauses(pauses: Sequence[Band], x: Scale, low: float) -> Iterator[Markup]:
    labels = []
    for owner in dict.fromkeys(band.what for band in pauses):
        drawn = []
        for _, begin, end in _columns((band for band in pauses if band.what == owner), x):
            falls = owner == "guard"
            drawn.append(hatch(begin, low - MODES, end - begin, MODES, HATCH_STEP, falls=falls))
            who = name(owner.replace("_", " "))
            for said in (f"paused: {who}", who):
                if end - begin > (len(said) + 2) * LETTER:
                    labels.append(plate(begin + 3, low - MODES + 4, len(said) * LETTER + 8))
                    labels.append(text(begin + 6, low - MODES + 16, said, "small"))
                    break
        kind = owner if owner in PAUSED else "person"
        yield path("".join(drawn), f"hatch hatch-{kind.replace('_', '-')}")
    yield from labels


def _unknown(downs: Iterable[Band], x: Scale, low: float) -> Iterator[Markup]:
    for band in downs:
        begin, end = x(band.begin), x(band.end)
        if end - begin < 2:
            continue
        kind = "unknown" if band.what == "unknown" else "down"
        yield path(f"M{begin:.1f} {low - 4:.1f}H{end:.1f}", kind)
        said = {"unknown": "unknown", "planned": "stopped", "asleep": "asleep"}.get(
            band.what, "down"
        )
        if end - begin > (len(said) + 2) * LETTER:
            yield text((begin + end) / 2, low - 10, said, "small muted", "middle")


def _together(marks: Sequence[Tick], x: Scale) -> list[list[Tick]]:
    """Marks that are too close to be told apart are one; a crowd has room for its numbers."""
    in_order = sorted(marks, key=lambda one: one.at)
    found = _grouped(in_order, x, APART)
    return found if len(found) < (x.end - x.begin) / CROWDED else _grouped(in_order, x, CROWDED)


def _grouped(marks: Iterable[Tick], x: Scale, apart: float) -> list[list[Tick]]:
    found: list[list[Tick]] = []
    for tick in marks:
        if found and x(tick.at) - x(found[-1][0].at) < apart:
            found[-1].append(tick)
        else:
            found.append([tick])
    return found


def _marks(marks: Iterable[Sequence[Tick]], x: Scale, low: float) -> Iterator[Markup]:
    """A crash is a full triangle with a line through all; a planned reboot is a hollow one."""
    for together in marks:
        crash = any(tick.crash for tick in together)
        at = min(max(x(together[0].at), x.begin + 5), x.end - 5)
        if crash:
            yield path(f"M{at:.1f} {MARKS - 6:.1f}V{low:.1f}", "crash-line")
        kind = "crash" if crash else "planned"
        yield path(f"M{at - 5:.1f} {MARKS - 15:.1f}h10l-5 9z", kind)
        if len(together) > 1:
            said = short(len(together))
            left = at + 8 + len(said) * LETTER > x.end
            yield text(
                at - 7 if left else at + 7, MARKS - 7, said, "small count", "end" if left else None
            )


def _kept(shown: Ribbon, x: Scale, top: float) -> Iterator[Markup]:
    """The share of goodput, part by part; of what is not known nothing is drawn."""
    bars, none = [], []
    for share in shown.shares:
        begin, end = x(share.begin), x(share.end)
        if share.goodput is not None:
            high = KEPT * share.goodput
            bars.append(box(begin, top + KEPT - high, max(0.5, end - begin - 0.7), high))
            continue
        if share.demanded_s > 0:
            none.append(f"M{begin:.1f} {top + KEPT - 2:.1f}H{end:.1f}")
    yield path(f"M{x.begin:.1f} {top:.1f}H{x.end:.1f}", "grid")
    if bars:
        yield path("".join(bars), "kept")
    if none:
        yield path("".join(none), "unknown")
    yield path(f"M{x.begin:.1f} {top + KEPT:.1f}H{x.end:.1f}", "axis")
    kept = shown.goodput
    said = "goodput: not known" if kept is None else f"goodput {percent(kept)}"
    yield plate(2, top + 2, len(said) * LETTER + 6)
    yield text(5, top + 14, said, "small")


def _days(shown: Ribbon, x: Scale, low: float) -> Iterator[Markup]:
    for at, said in time_ticks(shown.since, shown.until, max(2, int((x.end - x.begin) / 70))):
        here = x(at)
        yield path(f"M{here:.1f} {MARKS:.1f}V{low + 4:.1f}", "grid")
        if 16 < here < x.end - UTC_WIDTH:
            yield text(here, low + 16, said, "small muted", "middle")
    yield text(x.end, low + 16, "UTC", "small muted", "end")


def _band_taps(shown: Ribbon, x: Scale, low: float, to: str) -> Iterator[Markup]:
    for place, band in enumerate((*shown.modes, *shown.pauses)):
        begin, end = x(band.begin), x(band.end)
        if band.seq is None or end - begin < TAP / 2:
            continue
        said = name(band.what) if place < len(shown.modes) else f"paused by {_whose(band.what)}"
        said = f"{said} from {_when(band.begin)} UTC: decision {band.seq}"
        yield _tap(begin, low - MODES, end - begin, MODES, f"{to}{band.seq}", said)


def _mark_taps(marks: Iterable[Sequence[Tick]], x: Scale, low: float, to: str) -> Iterator[Markup]:
    for together in marks:
        newest = next((tick for tick in reversed(together) if tick.seq is not None), None)
        if newest is None:
            continue
        said = "crash" if newest.crash else "planned reboot"
        said = f"{len(together)} boots, the newest after a {said}" if len(together) > 1 else said
        at = min(max(x(together[0].at), TAP / 2), x.end - TAP / 2)
        yield _tap(
            at - TAP / 2,
            0,
            TAP,
            low,
            f"{to}{newest.seq}",
            f"{said}, {_when(newest.at)} UTC: line {newest.seq}",
        )


def _tap(x: float, y: float, width: float, height: float, href: str, said: str) -> Markup:
    area = element(
        "rect", x=float(x), y=float(y), width=float(width), height=float(height), class_="tap"
    )
    return element("a", element("title", said), area, href=href, aria_label=said)
