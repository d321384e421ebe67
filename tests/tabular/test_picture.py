"""The picture of a forecast can be read by who has not drawn it."""

import io

import numpy as np
import pytest
from PIL import Image

from trainers.tables.learning import picture
from trainers.tables.prepared import Part


@pytest.mark.parametrize(
    ("low", "high", "told"),
    [
        (19_075, 38_355, [20_000, 25_000, 30_000, 35_000]),
        (-0.31, 0.42, [-0.2, 0.0, 0.2, 0.4]),
        (7, 7, [7]),
    ],
)
def test_values_beside_a_frame_are_round(low, high, told):
    assert picture.ticks(low, high) == pytest.approx(told)


@pytest.mark.parametrize("rows", [1, 2, 900])
@pytest.mark.parametrize("target", ["load", "Größe\n負荷", "x" * 500])
def test_any_rows_of_any_target_are_drawn(rows, target):
    """Also one alone, or all the same."""
    y = np.full(rows, 3.0)
    part = Part(x=y[:, None], y=y, times=np.arange(rows) * 10**9, positions=np.arange(rows))
    interval = np.column_stack([y - 1, y + 1])
    drawn = picture.drawn(part, y, target=target, interval=interval, between="q10 to q90")
    with Image.open(io.BytesIO(drawn)) as image:
        colours = {colour for _, colour in image.convert("RGB").getcolors(5000)}
    assert {picture.TRUTH, picture.SHADE} <= colours
