"""A picture of forecasts against the truth, and of what they missed; this imports pillow."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, ImageDraw

from trainers.tables.learning.growing import Floats
from trainers.tables.prepared import Part
from trainers.tables.times import told

WIDTH, HEIGHT, MARGIN = 1200, 600, 40
SHARE = 0.65
"""of the height that forecast and truth have; the rest is that of what was missed"""
ROWS_MAX = 500
"""the last ones"""
TRUTH, FORECAST, MISSED, FRAME = (40, 40, 40), (0, 110, 200), (200, 60, 0), (190, 190, 190)


def drawn(part: Part, forecast: Floats) -> bytes:
    """A PNG of the last rows of a part."""
    truth, forecast = part.y[-ROWS_MAX:], forecast[-ROWS_MAX:]
    image = Image.new("RGB", (WIDTH, HEIGHT), "white")
    pen = ImageDraw.Draw(image)
    middle = int(HEIGHT * SHARE)
    upper = (MARGIN, MARGIN, WIDTH - MARGIN, middle - MARGIN // 2)
    lower = (MARGIN, middle + MARGIN // 2, WIDTH - MARGIN, HEIGHT - MARGIN)
    lines(pen, upper, [(truth, TRUTH), (forecast, FORECAST)])
    lines(pen, lower, [(np.zeros(len(truth)), FRAME), (truth - forecast, MISSED)])
    begins, ends = (told(int(time)) for time in (part.times[-len(truth)], part.times[-1]))
    pen.text((MARGIN, 12), f"truth and forecast, {begins} to {ends}", TRUTH)
    pen.text((MARGIN, HEIGHT - 24), "what the forecast missed", MISSED)
    out = io.BytesIO()
    image.save(out, "PNG", optimize=True)
    return out.getvalue()


def lines(
    pen: ImageDraw.ImageDraw,
    box: tuple[int, int, int, int],
    lines: list[tuple[Floats, tuple[int, int, int]]],
) -> None:
    """Draw lines into one frame, all on one scale."""
    left, top, right, bottom = box
    pen.rectangle(box, outline=FRAME)
    low = min(float(values.min()) for values, _ in lines)
    high = max(float(values.max()) for values, _ in lines)
    pen.text((left + 4, top + 2), f"{high:.6g}", FRAME)
    pen.text((left + 4, bottom - 14), f"{low:.6g}", FRAME)
    for values, colour in lines:
        x = np.linspace(left, right, len(values))
        y = bottom - (values - low) / (high - low or 1.0) * (bottom - top)
        pen.line([(float(a), float(b)) for a, b in zip(x, y, strict=True)], fill=colour, width=2)
