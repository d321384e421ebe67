"""A classifier of XGBoost that has the rule of its use in its file; this imports the library."""

from __future__ import annotations

from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from trainers.contract import BadSpec
from trainers.direction.options import Rule
from trainers.tables.learning.growing import Floats, Lesson
from trainers.tabular.xgb import Xgboost

CLASSES = ("down", "flat", "up")
DOWN, FLAT, UP = range(len(CLASSES))
OBJECTIVE: Final = "multi:softprob"
"""multi:softmax has the same gradients, and so the same trees; it only keeps the probabilities to
itself"""
ATTRIBUTE = "direction"
LEAST = 1e-15
"""a probability that is less counts as so much in a logarithm"""


class Direction(Xgboost):
    """A model whose forecasts are probabilities, (rows, 3), of down, flat and up."""

    def ruled(self, rule: Rule) -> Direction:
        """The same model, with that rule in its file."""
        booster = self._booster()
        booster.set_attr(**{ATTRIBUTE: msgspec.json.encode(rule).decode()})
        return Direction(bytes(booster.save_raw("ubj")))

    @property
    def rule(self) -> Rule:
        """The rule in its file.

        Raises:
            BadSpec: there is none.
        """
        said = self._booster().attr(ATTRIBUTE)
        try:
            return msgspec.json.decode(said or "", type=Rule)
        except msgspec.MsgspecError as error:
            raise BadSpec("the model is none of directions: no rule is in its file") from error

    def _parameters(self, lesson: Lesson) -> dict[str, Any]:
        told = super()._parameters(lesson)
        return {**told, "objective": OBJECTIVE, "num_class": len(CLASSES)}

    def _score(self, forecast: NDArray[np.float32], lesson: Lesson) -> float:
        return log_loss(forecast, lesson.valid.y)


def read(content: bytes) -> Direction:
    """The model of a file.

    Raises:
        BadSpec: it is none.
    """
    try:
        return Direction(content)
    except ValueError as error:
        raise BadSpec(str(error)) from error


def log_loss(probabilities: NDArray[Any], truth: Floats) -> float:
    """Mean of -log p(true class); the same to the bit whatever the number of threads."""
    rows = np.arange(len(truth))
    said = np.asarray(probabilities, dtype=np.float64)[rows, truth.astype(np.int64)]
    return float(-np.mean(np.log(np.maximum(said, LEAST))))
