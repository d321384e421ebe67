"""A picture of forecasts against the truth, and of what they missed; this imports pillow."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from trainers.tables.learning.growing import Floats
from trainers.tables.prepared import Part
from trainers.tables.times import told

Box = tuple[int, int, int, int]
Colour = tuple[int, int, int]

WIDTH, HEIGHT = 1200, 600
UPPER: Box = (70, 40, 1160, 370)
"""the frame of forecast and truth"""
LOWER: Box = (70, 430, 1160, 560)
"""that of what was missed"""
ROWS_MAX = 500
"""the last ones"""
NAME_MAX = 60
"""letters of the target's name"""
TICKS, TIMES = 5, 6
"""values that are told of a frame, about, and times"""
SHADE = (205, 225, 242)
TRUTH, FORECAST, MISSED = (40, 40, 40), (0, 110, 200), (200, 60, 0)
FRAME, GRID, TEXT = (190, 190, 190), (232, 232, 232), (90, 90, 90)


def drawn(
    part: Part,
    forecast: Floats,
    *,
    target: str,
    interval: Floats | None = None,
    between: str = "",
) -> bytes:
    """A PNG of the last rows of a part.

    Args:
        part: what was there.
        forecast: what was told of it.
        target: what that is called.
        interval: that is shaded, (rows, 2); None: there is none.
        between: what the interval is called.
    """
    times, truth, forecast = part.times[-ROWS_MAX:], part.y[-ROWS_MAX:], forecast[-ROWS_MAX:]
    # The font has few letters, and a name may have any.
    name = target[:NAME_MAX] if target.isascii() and target.isprintable() else "truth"
    image = Image.new("RGB", (WIDTH, HEIGHT), "white")
    pen = ImageDraw.Draw(image)
    shaded = () if interval is None else tuple(interval[-ROWS_MAX:].T)
    legend = [(name, TRUTH), ("forecast", FORECAST), *([(between, SHADE)] if shaded else [])]
    _legend(pen, UPPER, legend)
    _legend(pen, LOWER, [(f"{name} - forecast", MISSED)])
    lines(pen, UPPER, [(truth, TRUTH), (forecast, FORECAST)], shaded)
    lines(pen, LOWER, [(np.zeros(len(truth)), FRAME), (truth - forecast, MISSED)])
    left, _, right, bottom = LOWER
    rows = np.linspace(0, len(times) - 1, min(TIMES, len(times)))
    for row in rows.astype(np.int64).tolist():
        x = left + (right - left) * row / max(len(times) - 1, 1)
        pen.line([(x, bottom), (x, bottom + 5)], fill=FRAME)
        # The outer ones end with the frame.
        anchor = {left: "la", right: "ra"}.get(x, "ma")
        pen.text((x, bottom + 8), told(int(times[row])), TEXT, anchor=anchor)
    out = io.BytesIO()
    image.save(out, "PNG", optimize=True)
    return out.getvalue()


def lines(
    pen: ImageDraw.ImageDraw,
    box: Box,
    lines: Sequence[tuple[Floats, Colour]],
    shaded: Sequence[Floats] = (),
) -> None:
    """Draw lines into one frame, all on one scale, and shade what lies between two others."""
    left, top, right, bottom = box
    drawn = [*(values for values, _ in lines), *shaded]
    low = min(float(values.min()) for values in drawn)
    high = max(float(values.max()) for values in drawn)

    def height(values: Floats) -> Floats:
        return bottom - (values - low) / (high - low or 1.0) * (bottom - top)

    def points(values: Floats) -> list[tuple[float, float]]:
        x = np.linspace(left, right, len(values))
        return [(float(a), float(b)) for a, b in zip(x, height(values), strict=True)]

    if shaded:
        under, over = shaded
        pen.polygon([*points(under), *reversed(points(over))], fill=SHADE)
    values = ticks(low, high)
    for value, y in zip(values.tolist(), height(values).tolist(), strict=True):
        pen.line([(left, y), (right, y)], fill=GRID)
        pen.text((left - 6, y), f"{value:.6g}", TEXT, anchor="rm")
    pen.rectangle(box, outline=FRAME)
    for values, colour in lines:
        pen.line(points(values), fill=colour, width=2, joint="curve")


def ticks(low: float, high: float) -> Floats:
    """Round values from a lowest to a highest one, about as many as there should be."""
    rough = (high - low) / TICKS
    if rough <= 0:
        return np.array([low], dtype=np.float64)
    power = 10.0 ** math.floor(math.log10(rough))
    step = power * next(one for one in (1, 2, 5, 10) if one * power >= rough * (1 - 1e-9))
    return np.arange(math.ceil(low / step), math.floor(high / step) + 1, dtype=np.float64) * step


def _legend(pen: ImageDraw.ImageDraw, box: Box, named: Sequence[tuple[str, Colour]]) -> None:
    """Say above a frame what has which colour."""
    x, y = float(box[0]), box[1] - 14
    for name, colour in named:
        pen.rectangle((x, y - 4, x + 16, y + 4), fill=colour)
        pen.text((x + 22, y), name, TEXT, anchor="lm")
        x += pen.textlength(name) + 50
