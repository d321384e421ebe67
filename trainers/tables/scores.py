"""How good forecasts are: by their errors, and beside what costs nothing.

Baselines forecast the same rows and know what the model knows: nothing younger than the horizon.
"""

from __future__ import annotations

import math

import msgspec
import numpy as np
from numpy.typing import NDArray

from trainers.tables.prepared import Part, Prepared
from trainers.tables.table import filled
from trainers.tables.times import DAY, MONTH, Spacing

NEAR_ZERO = 1e-3
"""of the mean size: where a value is nearer to 0 than that, an error in per cent says nothing"""
YEAR_DAYS = 365

Floats = NDArray[np.float64]


class Scores(msgspec.Struct, frozen=True, kw_only=True):
    """Errors of forecasts, in the unit of the target where none is said."""

    mae: float
    rmse: float
    mape: float | None
    """per cent of the true values; None where one of these is 0, or as good as 0 beside the
    others: nearer to it than a thousandth of their mean size"""
    wape: float | None
    """all errors in per cent of the sizes of all true values; None: these are all 0"""
    smape: float
    """per cent of the mean of the sizes of both; 0 where both are 0"""
    r2_score: float | None
    """None: the true values do not vary"""


class Judgement(msgspec.Struct, frozen=True, kw_only=True):
    """A model's forecasts of one part, and those of baselines."""

    scores: Scores
    baselines: dict[str, Scores]
    """on the same rows: naive, seasonal_naive_M, drift, mean"""
    best_baseline: str
    """of the lowest mean error"""
    skill: float | None
    """1 - mae / mae of the best baseline; None: that makes no error"""
    mase: float | None
    """mae / mae within the training part of the seasonal forecast that is best there (Hyndman and
    Koehler, 2006), or of repeating the last value where there is no season"""
    warnings: tuple[str, ...]
    """what whoever would use the model must know"""

    @property
    def metrics(self) -> dict[str, float | None]:
        """All numbers by their names, flat."""
        flat: dict[str, float | None] = dict(msgspec.structs.asdict(self.scores))
        flat |= {"skill": self.skill, "mase": self.mase}
        for name, scores in self.baselines.items():
            flat[f"mae_{name}"] = scores.mae
            flat[f"skill_{name}"] = _skill(self.scores.mae, scores.mae)
        return flat


def scores(true: Floats, forecast: Floats) -> Scores:
    """The errors of forecasts of at least one row."""
    error, size = np.abs(forecast - true), np.abs(true)
    total, both = float(size.sum()), size + np.abs(forecast)
    near = bool(np.any(size <= NEAR_ZERO * float(size.mean())))
    squares = float(np.square(true - true.mean()).sum())
    return Scores(
        mae=float(error.mean()),
        rmse=math.sqrt(float(np.square(error).mean())),
        mape=None if near else 100 * float((error / size).mean()),
        wape=100 * float(error.sum()) / total if total else None,
        smape=200 * float(np.divide(error, both, out=np.zeros_like(both), where=both > 0).mean()),
        r2_score=1 - float(np.square(error).sum()) / squares if squares else None,
    )


def seasons(spacing: Spacing) -> dict[int, str]:
    """How many steps what repeats has, a day, a week or a year, with its name."""
    if spacing.step == MONTH:
        return {12: "year"}
    found = {}
    for days, name in ((1, "day"), (7, "week"), (YEAR_DAYS, "year")):
        steps = spacing.steps_in(days * DAY)
        if steps is not None and steps > 1 and (name != "year" or spacing.step == DAY):
            found[steps] = name
    if spacing.step == 7 * DAY:
        found[52] = "year"
    return found


def repetitions(prepared: Prepared) -> dict[str, int]:
    """The baselines that repeat a known value, and how many steps back that lies."""
    horizon = prepared.config.horizon
    found = {"naive": horizon}
    for season in seasons(prepared.series.spacing):
        found[f"seasonal_naive_{season}"] = season * max(1, math.ceil(horizon / season))
    return found


def baselines(prepared: Prepared, train: Part, part: Part) -> dict[str, Floats]:
    """What forecasts a part for nothing; only what has a value for each of its rows.

    Raises:
        ValueError: there is no target.
    """
    if prepared.config.target is None:
        raise ValueError("there is no target to forecast")
    known = prepared.series.columns[prepared.config.target].values
    last, horizon = filled(known), prepared.config.horizon
    first = int(np.argmax(~np.isnan(known)))
    way = np.maximum(part.positions - horizon - first, 1)
    found = {name: at(last, part.positions - back) for name, back in repetitions(prepared).items()}
    naive = found["naive"]
    found["drift"] = naive + horizon * (naive - last[first]) / way
    found["mean"] = np.full(len(part), np.nanmean(known[: int(train.positions[-1]) + 1]))
    return {name: values for name, values in found.items() if not np.isnan(values).any()}


def judge(prepared: Prepared, train: Part, part: Part, forecast: Floats) -> Judgement:
    """A model's forecasts of a part, beside what costs nothing; `train` is what it has seen."""
    ours = scores(part.y, forecast)
    theirs = {
        name: scores(part.y, values) for name, values in baselines(prepared, train, part).items()
    }
    best = min(theirs, key=lambda name: theirs[name].mae)
    skill = _skill(ours.mae, theirs[best].mae)
    warnings = []
    if ours.mae >= theirs[best].mae:
        warnings.append(
            f"no better than {in_words(best, prepared.series.spacing)}: that has a mean error of "
            f"{theirs[best].mae:.4g} on the same {len(part):,} rows, and the model {ours.mae:.4g}"
        )
    usual = _usual_error(prepared, train)
    return Judgement(
        scores=ours,
        baselines=theirs,
        best_baseline=best,
        skill=skill,
        mase=ours.mae / usual if usual else None,
        warnings=tuple(warnings),
    )


def _skill(ours: float, theirs: float) -> float | None:
    return 1 - ours / theirs if theirs else None


def _usual_error(prepared: Prepared, train: Part) -> float:
    target = prepared.series.columns[prepared.config.target or ""].values
    seen = target[: int(train.positions[-1]) + 1]
    errors = []
    for season in seasons(prepared.series.spacing) or {1: ""}:
        apart = np.abs(seen[season:] - seen[:-season])
        if len(apart) and not np.isnan(apart).all():
            errors.append(float(np.nanmean(apart)))
    return min(errors, default=0.0)


def at(column: Floats, positions: NDArray[np.int64]) -> Floats:
    """The values at some positions; NaN before the first."""
    return np.where(positions >= 0, column[np.maximum(positions, 0)], np.nan)


def in_words(name: str, spacing: Spacing) -> str:
    """What a baseline does."""
    words = {
        "naive": "repeating the last known value",
        "drift": "a straight line from the first to the last known value",
        "mean": "the mean of the training part",
    }
    if name in words:
        return words[name]
    season = seasons(spacing)[int(name.rpartition("_")[2])]
    return f"repeating {'the day before' if season == 'day' else f'last {season}'}"
