"""Small lessons, and models that are interrupted while they learn them."""

import numpy as np

from trainers.tables.learning.growing import GrownOut, Lesson, Part
from trainers.tabular import Options

ROWS, HELD_OUT = 900, 200


def lesson(algorithm, threads=1, quantile=None, **told):
    """Something to learn, with noise, holes and a category."""
    rng = np.random.default_rng(7)
    x = rng.normal(size=(ROWS, 6))
    x[:, 5] = rng.integers(0, 4, ROWS)
    y = 3 * x[:, 0] + np.sin(4 * x[:, 1]) + x[:, 5] % 2 + rng.normal(size=ROWS) * 0.3
    x[::11, 2] = np.nan
    kept = ROWS - HELD_OUT
    return Lesson(
        train=Part(x[:kept], y[:kept]),
        valid=Part(x[kept:], y[kept:]),
        names=("a", "b", "c", "d", "e", "kind"),
        categorical={5: 4} if algorithm in ("lgbm", "xgboost") else {},
        hyperparameters=Options(algorithm=algorithm, hyperparameters=told).told.others,
        seed=42,
        threads=threads,
        quantile=quantile,
    )


def grown(algorithm, rounds, taught, resumed_at=()):
    """A model of so many rounds, which is saved and read at some of its segments; its scores."""
    kind = Options.ALGORITHMS[algorithm].model
    model, scores = kind(), []
    while model.rounds < rounds:
        if model.rounds in resumed_at:
            model = kind(model.saved())
        try:
            model.grow(taught, min(kind.SEGMENT, rounds - model.rounds), scores.append)
        except GrownOut:
            break
    return model, scores
