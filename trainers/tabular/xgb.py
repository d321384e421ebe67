"""XGBoost, grown in segments; importing this module imports it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import xgboost
from numpy.typing import NDArray

from trainers.tables.learning.growing import Floats, Lesson, Part
from trainers.tabular import ubjson

if TYPE_CHECKING:
    from typing import Self

_ARRAYS = {
    "left_children": np.int64,
    "right_children": np.int64,
    "split_indices": np.int64,
    "split_conditions": np.float64,
    "split_type": np.int64,
    "default_left": np.int64,
    "categories": np.int64,
    "categories_nodes": np.int64,
    "categories_segments": np.int64,
    "categories_sizes": np.int64,
}
"""what a tree decides by, and its values"""


class Xgboost:
    """A model of XGBoost: its UBJSON is all that there is of it between two segments.

    Raises:
        ValueError: what was saved is no such model.
    """

    FILE: ClassVar[str] = "model.ubj"
    SEGMENT: ClassVar[int] = 25

    def __init__(self, saved: bytes | None = None) -> None:
        self._saved = saved
        self.rounds = 0
        if saved is not None:
            refused = ValueError("the file is no model that XGBoost can read")
            if not ubjson.is_whole(saved):
                raise refused
            try:
                self.rounds = self._booster().num_boosted_rounds()
            except xgboost.core.XGBoostError:  # what it says has the lines of its source in it
                raise refused from None
        self._sets: tuple[xgboost.DMatrix, xgboost.DMatrix] | None = None

    def grow(self, lesson: Lesson, rounds: int, each: Callable[[float | None], None]) -> None:
        """Grow by a segment; see `growing.Model`."""
        if self._sets is None:
            self._sets = _matrix(lesson, lesson.train), _matrix(lesson, lesson.valid)
        train, valid = self._sets

        def judged(forecast: NDArray[np.float32], _: xgboost.DMatrix) -> tuple[str, float]:
            score = self._score(forecast, lesson)
            each(score)
            return "score", score

        booster = xgboost.train(
            self._parameters(lesson),
            train,
            rounds,
            evals=[(valid, "valid")],
            custom_metric=judged,
            verbose_eval=False,
            xgb_model=None if self._saved is None else self._booster(),
        )
        self._saved = bytes(booster.save_raw("ubj"))
        self.rounds += rounds

    def saved(self) -> bytes:
        """The library's UBJSON."""
        return self._saved or b""

    def cut(self, rounds: int) -> Self:
        """A model of its first rounds."""
        if rounds == self.rounds:
            return self
        return type(self)(bytes(self._booster()[:rounds].save_raw("ubj")))

    def predict(self, x: Floats, threads: int) -> Floats:
        """Its forecasts."""
        booster = self._booster()
        booster.set_param({"nthread": threads})
        matrix = xgboost.DMatrix(
            x,
            feature_names=booster.feature_names,
            feature_types=booster.feature_types,
            enable_categorical=True,
            nthread=threads,
        )
        return np.asarray(booster.predict(matrix), dtype=np.float64)

    def arrays(self) -> Iterator[tuple[str, NDArray[Any]]]:
        """Every tree's arrays, as its file has them."""
        learner = json.loads(self._booster().save_raw("json"))["learner"]
        base = learner["learner_model_param"]["base_score"]
        yield "base_score", np.array(base.strip("[]").split(","), dtype=np.float64)
        for number, tree in enumerate(learner["gradient_booster"]["model"]["trees"]):
            for name, kind in _ARRAYS.items():
                yield f"{number} {name}", np.array(tree[name], dtype=kind)

    def _parameters(self, lesson: Lesson) -> dict[str, Any]:
        """What the library is given for the next segment."""
        return parameters(lesson, self.rounds)

    def _score(self, forecast: NDArray[np.float32], lesson: Lesson) -> float:
        """How good forecasts of what is held out are, the less the better."""
        return lesson.missed(forecast)

    def _booster(self) -> xgboost.Booster:
        return xgboost.Booster(model_file=bytearray(self._saved or b""))


def parameters(lesson: Lesson, begins: int) -> dict[str, Any]:
    """What the library is given for the segment that begins after so many rounds."""
    if lesson.quantile is None:
        learnt: dict[str, Any] = {"objective": "reg:squarederror"}
    else:
        learnt = {"objective": "reg:quantileerror", "quantile_alpha": lesson.quantile}
    return {
        **lesson.hyperparameters,
        **learnt,
        "disable_default_eval_metric": True,
        "tree_method": "hist",
        "nthread": lesson.threads,
        "seed": lesson.seed + begins,
    }


def _matrix(lesson: Lesson, part: Part) -> xgboost.DMatrix:
    kinds = ["c" if i in lesson.categorical else "q" for i in range(part.x.shape[1])]
    return xgboost.DMatrix(
        part.x,
        part.y,
        feature_names=list(lesson.names),
        feature_types=kinds,
        enable_categorical=True,
        nthread=lesson.threads,
    )
