"""A picture of what trades would have come to, and of how far that fell; this imports pillow."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, ImageDraw

from trainers.direction.judging import Course, Trades, drawdown
from trainers.tables.learning.picture import FRAME, HEIGHT, LOWER, MISSED, TEXT, UPPER, WIDTH, lines
from trainers.tables.times import SECOND, told

EQUITY = (0, 110, 200)


def drawn(course: Course, made: Trades) -> bytes:
    """A PNG of the sum of the returns over time, and of its fall below its highest so far."""
    total = np.concatenate(([0.0], np.cumsum(made.returns)))
    below = np.concatenate(([0.0], drawdown(made.returns)))
    closed = course.times[made.rows] + course.horizon_s * SECOND
    moments = np.linspace(course.times[0], course.times[-1] + course.horizon_s * SECOND, WIDTH)
    trades = np.searchsorted(closed, moments, side="right")
    image = Image.new("RGB", (WIDTH, HEIGHT), "white")
    pen = ImageDraw.Draw(image)
    lines(pen, UPPER, [(np.zeros(WIDTH), FRAME), (total[trades], EQUITY)])
    lines(pen, LOWER, [(0.0 - below[trades], MISSED)])
    begins, ends = told(int(course.times[0])), told(int(course.times[-1]))
    said = f"sum of the returns of {len(made.returns):,} trades, {begins} to {ends}"
    pen.text((UPPER[0], UPPER[1] - 20), said, TEXT)
    pen.text((LOWER[0], LOWER[1] - 20), "below its highest so far", TEXT)
    out = io.BytesIO()
    image.save(out, "PNG", optimize=True)
    return out.getvalue()
