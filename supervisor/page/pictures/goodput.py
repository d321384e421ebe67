"""Where the time went in which training was demanded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from markupsafe import Markup

from supervisor.core.goodput import SHARES, Goodput
from supervisor.core.moments import span
from supervisor.page.pictures.svg import LETTER, box, hatch, path, percent, picture, text

BAR, ROW, TOP = 30, 34, 26
STEP = 6.0
HATCHED = frozenset({"idle", "lost", "machine_down", "supervisor_down", "unknown", "waiting"})
"""shares in which nothing was trained that could be kept: told apart without colours"""
FALLING = frozenset({"machine_down", "supervisor_down"})
"""those whose hatch falls"""


def goodput(known: Goodput, width: int) -> Markup:
    """All of the demanded time in one bar, and below what each part of it is."""
    shares = _shares(known.spent_s)
    title = "Goodput: not known" if known.goodput is None else f"Goodput {percent(known.goodput)}"
    if not shares:
        words = text(width / 2, 40, "no training was demanded yet", "muted", "middle")
        return picture("goodput", width, 60, title, "No training was demanded yet.", [words])
    columns = 2 if width >= 700 else 1
    rows = -(-len(shares) // columns)
    height = TOP + BAR + 14 + ROW * rows
    parts = [text(0, 16, f"{title} of {span(known.demanded_s)} of demanded training", "strong")]
    left = 0.0
    for share, part in shares.items():
        parts += _part(share, left, part * width, part)
        left += part * width
    for place, (share, part) in enumerate(shares.items()):
        x = (place // rows) * (width / columns)
        parts += _row(share, part, known.spent_s[share], x, TOP + BAR + 14 + ROW * (place % rows))
    told = "; ".join(
        f"{percent(part)} {share.replace('_', ' ')}: {SHARES[share]}"
        for share, part in shares.items()
    )
    return picture("goodput", width, height, title, f"{told}.", parts)


def _shares(spent_s: Mapping[str, float]) -> dict[str, float]:
    """What part of the whole each share is, in the order of `SHARES`; those of nothing left out."""
    whole_s = sum(spent_s.get(share, 0.0) for share in SHARES)
    if whole_s <= 0:
        return {}
    return {share: spent_s[share] / whole_s for share in SHARES if spent_s.get(share, 0.0) > 0}


def _part(share: str, x: float, width: float, part: float) -> Iterator[Markup]:
    yield from _box(share, x, TOP, max(0.5, width - 1), BAR)
    said = f"{share.replace('_', ' ')} {percent(part)}"
    if width > (len(said) + 2) * LETTER:
        yield text(x + 6, TOP + BAR / 2 + 4, said, "small on-share")


def _row(share: str, part: float, seconds: float, x: float, y: float) -> Iterator[Markup]:
    yield from _box(share, x, y + 2, 14, 14)
    said = f"{share.replace('_', ' ')} {percent(part)}, {span(seconds)}"
    yield text(x + 22, y + 13, said)
    yield text(x + 22, y + 27, SHARES[share], "small muted")


def _box(share: str, x: float, y: float, width: float, height: float) -> Iterator[Markup]:
    kind = share.replace("_", "-")
    yield path(box(x, y, width, height), f"share share-{kind}")
    if share in HATCHED and width > 2:
        lines = hatch(x, y, width, height, STEP, falls=share in FALLING)
        yield path(lines, f"hatch hatch-share hatch-share-{kind}")
