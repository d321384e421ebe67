"""LightGBM, grown in segments; importing this module imports it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import lightgbm
import numpy as np
from numpy.typing import NDArray

from trainers.tables.learning.growing import Floats, GrownOut, Lesson

_THREADS = re.compile(r"^\[num_threads: \d+\]$", re.MULTILINE)
_ARRAYS = {
    "split_feature": np.int64,
    "threshold": np.float64,
    "decision_type": np.int64,
    "left_child": np.int64,
    "right_child": np.int64,
    "leaf_value": np.float64,
    "cat_boundaries": np.int64,
    "cat_threshold": np.int64,
}
"""what a tree of the text decides by"""
_SEEDS = ("bagging_seed", "feature_fraction_seed", "extra_seed", "objective_seed")
"""by which rounds draw"""


class Lgbm:
    """A model of LightGBM: its text is all that there is of it between two segments."""

    FILE: ClassVar[str] = "model.txt"
    SEGMENT: ClassVar[int] = 25

    def __init__(self, saved: bytes | None = None) -> None:
        self._text = None if saved is None else saved.decode()
        self.rounds = 0 if saved is None else self._booster().current_iteration()
        self._sets: tuple[lightgbm.Dataset, lightgbm.Dataset] | None = None

    def grow(self, lesson: Lesson, rounds: int, each: Callable[[float | None], None]) -> None:
        """Grow by a segment; see `growing.Model`."""
        if self._sets is None:
            self._sets = _binned(lesson)
        train, valid = self._sets
        trees = self.rounds

        def judged(forecast: Floats, _: lightgbm.Dataset) -> tuple[str, float, bool]:
            return "missed", lesson.missed(forecast), False

        def heard(round_: Any) -> None:
            nonlocal trees
            # Where no leaf can be split the library adds no tree, and what it judges is as before.
            if round_.model.current_iteration() > trees:
                trees += 1
                ((_, _, score, _),) = round_.evaluation_result_list
                each(score)

        booster = lightgbm.train(
            parameters(lesson, self.rounds),
            train,
            rounds,
            valid_sets=[valid],
            feval=judged,
            callbacks=[heard],
            init_model=None if self._text is None else self._booster(),
            keep_training_booster=True,  # its text is all that is wanted of it
        )
        if trees == self.rounds:
            raise GrownOut
        # How many threads there were changes nothing else, and so nothing at all.
        self._text = _THREADS.sub("[num_threads: 0]", booster.model_to_string(num_iteration=-1))
        self.rounds = trees

    def saved(self) -> bytes:
        """The library's text."""
        return (self._text or "").encode()

    def cut(self, rounds: int) -> Lgbm:
        """A model of its first rounds."""
        if rounds == self.rounds:
            return self
        return Lgbm(self._booster().model_to_string(num_iteration=rounds).encode())

    def predict(self, x: Floats, threads: int) -> Floats:
        """Its forecasts."""
        return np.asarray(self._booster().predict(x, num_threads=threads), dtype=np.float64)

    def arrays(self) -> Iterator[tuple[str, NDArray[Any]]]:
        """Every tree's arrays, as its text has them."""
        text = (self._text or "").partition("end of trees")[0]
        for number, tree in enumerate(text.split("\nTree=")[1:]):
            for line in tree.splitlines():
                name, _, values = line.partition("=")
                if name in _ARRAYS:
                    yield f"{number} {name}", np.array(values.split(), dtype=_ARRAYS[name])

    def _booster(self) -> lightgbm.Booster:
        return lightgbm.Booster(model_str=self._text)


def parameters(lesson: Lesson, begins: int) -> dict[str, Any]:
    """What the library is given for the segment that begins after so many rounds."""
    if lesson.quantile is None:
        learnt: dict[str, Any] = {"objective": "regression"}
    else:
        learnt = {"objective": "quantile", "alpha": lesson.quantile}
    return {
        **lesson.hyperparameters,
        **learnt,
        "metric": "None",
        "verbosity": -1,
        "num_threads": lesson.threads,
        "deterministic": True,
        "force_row_wise": True,
        # Of the bins, which are made once.
        "data_random_seed": lesson.seed,
        **dict.fromkeys(_SEEDS, lesson.seed + begins),
    }


def _binned(lesson: Lesson) -> tuple[lightgbm.Dataset, lightgbm.Dataset]:
    """Both parts, binned when they are first used, and once."""
    train = lightgbm.Dataset(
        lesson.train.x,
        lesson.train.y,
        feature_name=list(lesson.names),
        categorical_feature=list(lesson.categorical),
        free_raw_data=False,
        params=parameters(lesson, 0),
    )
    return train, lightgbm.Dataset(
        lesson.valid.x, lesson.valid.y, reference=train, free_raw_data=False
    )
