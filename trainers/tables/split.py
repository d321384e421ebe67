"""Which rows are trained on and which are held out: by time alone, with a gap between."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from trainers.tables.config import Backtest, Config
from trainers.tables.errors import DataLoadError

TRAIN_MIN_ROWS = 2

Rows = NDArray[np.int64]


class Split(NamedTuple):
    """Positions of the rows of each part, in order of time."""

    train: Rows
    validation: Rows
    test: Rows


def split(positions: Rows, config: Config) -> Split:
    """The last rows are held out; what lies within the gap before them is in no part.

    Raises:
        DataLoadError: there are too few rows for that.
    """
    rows = len(positions)
    test = _held_out(rows, config.test_split)
    validation = _held_out(rows, config.validation_split)
    first, second = max(0, rows - test - validation), max(0, rows - test)
    gap = config.gap_steps
    parts = Split(
        _before(positions[:first], positions[first:], gap),
        _before(positions[first:second], positions[second:], gap),
        positions[second:],
    )
    if len(parts.train) < TRAIN_MIN_ROWS or (validation and not len(parts.validation)):
        what = f"{rows:,} rows with a known target and all features are too few for this split"
        raise DataLoadError(what, rows=rows)
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
    return max(1, round(rows * share)) if share else 0


def _before(rows: Rows, later: Rows, gap: int) -> Rows:
    """Those of `rows` that end a gap before the first of `later`."""
    return rows[rows < later[0] - gap] if len(later) else rows
