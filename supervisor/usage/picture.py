"""The week as a PNG: a row a day, a column an hour, and the windows framed."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

from supervisor.core.calendar import DAYS, WEEK_H
from supervisor.errors import SupervisorError
from supervisor.usage.analysis import Analysis
from trainers import durable

CELL, LEFT, TOP, GAP = 34, 60, 46, 2
QUIET, BUSY = (232, 241, 250), (178, 24, 43)
UNKNOWN, INK, FRAME, PAPER = (200, 200, 200), (40, 40, 40), (0, 68, 27), (255, 255, 255)
FRAME_WIDTH = 4


class NoPillow(SupervisorError):
    """What draws the picture is missing."""

    exit_code = 78  # EX_CONFIG

    def __init__(self) -> None:
        super().__init__("pillow is missing: pip install 'training-supervisor[usage]'")


class NoPicture(SupervisorError):
    """It cannot be written there."""

    def __init__(self, path: Path, error: OSError) -> None:
        super().__init__(f"cannot write {path}: {error.strerror or error}")


def draw(analysis: Analysis, path: Path, zone: str) -> None:
    """Write the picture of a week.

    Raises:
        NoPillow: it cannot be drawn here.
        NoPicture: it cannot be written there.
    """
    try:
        from PIL import Image, ImageDraw, ImageFont  # noqa: PLC0415 - an extra, and only for this
    except ImportError:
        raise NoPillow from None
    image = Image.new("RGB", (LEFT + 24 * CELL + 20, TOP + 7 * CELL + 70), PAPER)
    pen = ImageDraw.Draw(image)
    font = ImageFont.load_default(14)
    known = [value for value in analysis.week if value is not None]
    top = max(known, default=0.0)
    pen.text((LEFT, 8), f"how busy the week is ({zone})", INK, font)
    for hour in range(0, 24, 3):
        pen.text((LEFT + hour * CELL + 8, TOP - 18), f"{hour:02d}", INK, font)
    for slot in range(WEEK_H):
        x, y = _corner(slot)
        value = analysis.week[slot] if analysis.week else None
        box = (x, y, x + CELL - GAP, y + CELL - GAP)
        pen.rectangle(box, UNKNOWN if value is None else _colour(value / top if top else 0.0))
    for weekday, day in enumerate(DAYS):
        pen.text((12, TOP + weekday * CELL + 8), day.capitalize(), INK, font)
    for number, window in enumerate(analysis.windows.windows if analysis.windows else (), 1):
        begin = 24 * window.start_weekday + window.start_hour
        _frame(pen, [(begin + hour) % WEEK_H for hour in range(window.hours)])
        x, y = _corner(begin)
        pen.text((x + 10, y + 8), str(number), INK, font)
    _legend(pen, font, TOP + 7 * CELL + 24)
    content = io.BytesIO()
    image.save(content, "PNG")
    try:
        durable.write(path.absolute(), content.getvalue())
    except OSError as error:  # the name in it is that of a file beside it
        raise NoPicture(path, error) from error


def _corner(slot: int) -> tuple[int, int]:
    return LEFT + slot % 24 * CELL, TOP + slot // 24 * CELL


def _colour(share: float) -> tuple[int, int, int]:
    mixed = [round(low + share * (high - low)) for low, high in zip(QUIET, BUSY, strict=True)]
    return mixed[0], mixed[1], mixed[2]


def _frame(pen: object, slots: Sequence[int]) -> None:
    """A frame around the hours of a window, day by day."""
    rows: dict[int, list[int]] = {}
    for slot in slots:
        rows.setdefault(slot // 24, []).append(slot)
    for row in rows.values():
        (x, y), (right, low) = _corner(min(row)), _corner(max(row))
        box = (x - 1, y - 1, right + CELL - 1, low + CELL - 1)
        pen.rectangle(box, outline=FRAME, width=FRAME_WIDTH)  # type: ignore[attr-defined]


def _legend(pen: object, font: object, y: int) -> None:
    for step in range(100):
        box = (LEFT + 3 * step, y, LEFT + 3 * step + 2, y + 14)
        pen.rectangle(box, _colour(step / 99))  # type: ignore[attr-defined]
    words = "nothing to the busiest hour; grey is unknown; framed: the windows, by number"
    pen.text((LEFT + 312, y - 2), words, INK, font)  # type: ignore[attr-defined]
