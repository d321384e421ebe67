"""How good forecasts of quantiles are, beside repeated values and what these use to miss.

Importing this module imports NumPy.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np

from trainers.tables import scores
from trainers.tables.learning.growing import Floats, pinball
from trainers.tables.learning.options import quantile_name
from trainers.tables.prepared import Part, Prepared
from trainers.tables.table import filled


class Level(msgspec.Struct, frozen=True, kw_only=True):
    """One quantile, on some rows."""

    quantile: float
    """the share of the rows that should be at its forecast or below"""
    coverage: float
    """the share that is"""
    pinball: float
    """mean loss, in the unit of the target (Koenker and Bassett, 1978)"""
    baseline_pinball: float
    """of the baseline"""


class Interval(msgspec.Struct, frozen=True, kw_only=True):
    """From the lowest quantile to the highest."""

    asked: float
    """the share of the rows that should lie in it"""
    coverage: float
    """the share that does"""
    width: float
    """its mean, in the unit of the target"""


class Judgement(msgspec.Struct, frozen=True, kw_only=True):
    """Forecasts of quantiles, sorted in each row."""

    levels: dict[str, Level]
    """by their names"""
    interval: Interval | None
    """None: there is one quantile alone"""
    pinball: float
    """mean of all of them"""
    best_baseline: str
    """of those that repeat a known value and add the quantiles of what that missed in the training
    part, the one with the lowest pinball loss"""
    skill: float | None
    """1 - pinball / pinball of the best baseline; None: that loses nothing"""
    crossed: float
    """the share of the rows in which a lower quantile was forecast above a higher one"""
    warning: str | None


def judge(
    prepared: Prepared, train: Part, part: Part, quantiles: Sequence[float], forecast: Floats
) -> Judgement:
    """Judge forecasts of the quantiles of a part, (rows, quantiles), as the models make them."""
    best, theirs = _best_baseline(prepared, train, part, quantiles)
    sorted_ = in_order(forecast)
    levels = {
        quantile_name(quantile): Level(
            quantile=quantile,
            coverage=float(np.mean(part.y <= values)),
            pinball=pinball(values, part.y, quantile),
            baseline_pinball=pinball(others, part.y, quantile),
        )
        for quantile, values, others in zip(quantiles, sorted_.T, theirs.T, strict=True)
    }
    ours = float(np.mean([level.pinball for level in levels.values()]))
    its = float(np.mean([level.baseline_pinball for level in levels.values()]))
    low, high = sorted_[:, 0], sorted_[:, -1]
    warning = None
    if ours >= its:
        costs_nothing = scores.in_words(best, prepared.series.spacing)
        warning = (
            f"its quantiles are no better than {costs_nothing} and adding what that missed so far: "
            f"that has a mean loss of {its:.4g} on the same {len(part):,} rows, and they {ours:.4g}"
        )
    return Judgement(
        levels=levels,
        interval=None
        if len(quantiles) == 1
        else Interval(
            asked=round(quantiles[-1] - quantiles[0], 10),
            coverage=float(np.mean((low <= part.y) & (part.y <= high))),
            width=float(np.mean(high - low)),
        ),
        pinball=ours,
        best_baseline=best,
        skill=1 - ours / its if its else None,
        crossed=float(np.mean(np.any(np.diff(forecast, axis=1) < 0, axis=1))),
        warning=warning,
    )


def in_order(forecast: Floats) -> Floats:
    """Forecasts of quantiles, (rows, quantiles), so that no lower one lies above a higher one.

    Sorted they are at least as good as before (Chernozhukov et al., 2010).
    """
    return np.sort(forecast, axis=1)


def _best_baseline(
    prepared: Prepared, train: Part, part: Part, quantiles: Sequence[float]
) -> tuple[str, Floats]:
    """Its name, and its forecasts, (rows, quantiles)."""
    last = filled(prepared.series.columns[prepared.config.target or ""].values)
    found: dict[str, Floats] = {}
    for name, back in scores.repetitions(prepared).items():
        repeated = scores.at(last, part.positions - back)
        missed = train.y - scores.at(last, train.positions - back)
        missed = missed[~np.isnan(missed)]
        if not len(missed) or np.isnan(repeated).any():
            continue
        found[name] = repeated[:, None] + np.quantile(missed, quantiles)
    losses = {
        name: sum(pinball(one, part.y, q) for one, q in zip(values.T, quantiles, strict=True))
        for name, values in found.items()
    }
    best = min(losses, key=lambda name: losses[name])
    return best, found[best]
