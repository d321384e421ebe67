"""Which rows are trained on and which are held out: by time alone, with a gap between."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from trainers.tables.config import Backtest, Config
from trainers.tables.errors import DataLoadError

TRAIN_MIN_ROWS = 2
ROUNDING = 1e-9
"""of a share of the rows, which is rounded up"""

Rows = NDArray[np.int64]


class Split(NamedTuple):
    """Positions of the rows of each part, in order of time."""

    train: Rows
    validation: Rows
    test: Rows


def split(rows: Rows, usable: Rows, config: Config) -> Split:
    """The last rows are held out; what lies within the gap before them is in no part.

    Args:
        rows: all that have a target; where the cuts lie depends on no feature.
        usable: those that have all features, too.
        config: with the shares.

    Raises:
        DataLoadError: there are too few rows for that.
    """
    count, gap = len(rows), config.gap_steps
    test = _held_out(count, config.test_split)
    validation = _held_out(count, config.validation_split)
    if count <= test + validation:
        raise DataLoadError(f"{count:,} rows with a target are too few for this split", rows=count)
    first = int(rows[count - test - validation])
    second = int(rows[count - test]) if test else int(rows[-1]) + 1 + gap
    parts = Split(
        usable[usable < first - gap],
        usable[(usable >= first) & (usable < second - gap)],
        usable[usable >= second],
    )
    wanted = {"training": TRAIN_MIN_ROWS, "validation": min(validation, 1), "test": min(test, 1)}
    for part, (name, least) in zip(parts, wanted.items(), strict=True):
        if len(part) < least:
            what = (
                f"of {count:,} rows with a target {len(usable):,} have all features, and these "
                f"leave {len(part)} for the {name} part"
            )
            raise DataLoadError(what, rows=count, usable=len(usable))
    return parts


def folds(positions: Rows, backtest: Backtest, gap: int) -> Iterator[tuple[Rows, Rows]]:
    """The rows that each fold trains on, and those that it forecasts, the earliest fold first.

    Raises:
        DataLoadError: there are too few rows for so many folds.
    """
    rows = len(positions)
    step = backtest.step or rows // (backtest.folds + 1)
    gap = gap if backtest.gap is None else backtest.gap
    for number in range(backtest.folds):
        begin = rows - (backtest.folds - number) * step
        ahead = positions[begin : begin + step] if begin > 0 else positions[:0]
        train = _before(positions[: max(0, begin)], ahead, gap)
        if not len(ahead) or len(train) < TRAIN_MIN_ROWS:
            what = f"{rows:,} rows are too few for {backtest.folds} folds of {step:,}"
            raise DataLoadError(what, rows=rows)
        yield train, ahead


def sampled(times: NDArray[np.int64], share: float) -> NDArray[np.bool_]:
    """Which rows are in the sample: by their time alone, whatever other rows there are.

    The hash is that of SplitMix64 (Steele, Lea and Flood, 2014).
    """
    if share >= 1:
        return np.ones(len(times), dtype=np.bool_)
    mixed = times.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed ^= mixed >> np.uint64(31)
    return np.asarray((mixed >> np.uint64(11)) < np.uint64(share * 2**53))


def _held_out(rows: int, share: float) -> int:
    return max(1, math.ceil(rows * share - ROUNDING)) if share else 0


def _before(rows: Rows, later: Rows, gap: int) -> Rows:
    """Those of `rows` that end a gap before the first of `later`."""
    return rows[rows < later[0] - gap] if len(later) else rows
