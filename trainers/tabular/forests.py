"""Forests of scikit-learn, grown tree by tree; importing this module imports it.

Every tree draws from a seed of its own, so a forest that goes on is the one that never stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import numpy as np
import skops.io
from numpy.typing import NDArray
from sklearn.ensemble import RandomForestRegressor

from trainers.tabular.growing import Floats, Lesson, rmse

TRUSTED = ("sklearn.tree._tree.Tree",)
"""what a file may hold beside arrays and parameters, once its indices have been looked at"""
_NODES = ("left_child", "right_child", "feature", "threshold", "missing_go_to_left")


class Forest:
    """A random forest."""

    FILE: ClassVar[str] = "model.skops"
    SEGMENT: ClassVar[int] = 10

    def __init__(self, saved: bytes | None = None) -> None:
        self._forest: RandomForestRegressor | None = None
        if saved is not None:
            self._forest = loaded(saved)
        self._sum: Floats | None = None
        """of the trees' forecasts of `valid`"""

    @property
    def rounds(self) -> int:
        """How many trees it has."""
        return 0 if self._forest is None else len(self._forest.estimators_)

    def grow(self, lesson: Lesson, rounds: int, each: Callable[[float], None]) -> None:
        """Grow by a segment; see `growing.Model`."""
        before = self.rounds
        if self._forest is None:
            self._forest = RandomForestRegressor(
                **lesson.hyperparameters, warm_start=True, random_state=lesson.seed
            )
        valid = np.asarray(lesson.valid.x, dtype=np.float32)
        if self._sum is None:
            self._sum = np.zeros(len(valid))
            for tree in self._forest.estimators_ if before else ():
                self._sum += tree.predict(valid)
        total = self._sum.copy()
        try:
            for begins in range(before, before + rounds, lesson.threads):
                ends = min(begins + lesson.threads, before + rounds)
                self._forest.set_params(n_estimators=ends, n_jobs=lesson.threads)
                self._forest.fit(lesson.train.x, lesson.train.y)
                for number, tree in enumerate(self._forest.estimators_[begins:], start=begins + 1):
                    total += tree.predict(valid)
                    each(rmse(total / number, lesson.valid.y))
        except BaseException:
            if before == 0:
                self._forest = None
            else:
                del self._forest.estimators_[before:]
            raise
        self._sum = total

    def saved(self) -> bytes:
        """The forest as skops writes it: arrays and names, and no code."""
        assert self._forest is not None  # noqa: S101 - nobody saves nothing
        # How many threads there were changes nothing else.
        self._forest.set_params(n_jobs=None)
        return bytes(skops.io.dumps(self._forest))

    def cut(self, rounds: int) -> Forest:
        """A forest of its first trees."""
        cut = Forest(self.saved())
        assert cut._forest is not None  # noqa: S101 - it was saved
        cut._forest.set_params(n_estimators=rounds)
        del cut._forest.estimators_[rounds:]
        return cut

    def predict(self, x: Floats, threads: int) -> Floats:  # noqa: ARG002 - as all models
        """Its forecasts, summed up in the order of the trees: threads would add in any order."""
        assert self._forest is not None  # noqa: S101 - it has grown
        self._forest.set_params(n_jobs=1)
        return np.asarray(self._forest.predict(x), dtype=np.float64)

    def arrays(self) -> Iterator[tuple[str, NDArray[Any]]]:
        """Every tree's nodes and values."""
        assert self._forest is not None  # noqa: S101 - it has grown
        for number, tree in enumerate(self._forest.estimators_):
            state = tree.tree_.__getstate__()
            for name in _NODES:
                yield f"{number} {name}", state["nodes"][name]
            yield f"{number} value", state["values"]


def loaded(saved: bytes) -> Any:
    """What a file of skops holds, of which no tree leads outside itself.

    Raises:
        ValueError: one does; scikit-learn follows it without a look.
    """
    forest = skops.io.loads(saved, trusted=list(TRUSTED))
    for tree in forest.estimators_:
        nodes = tree.tree_.__getstate__()["nodes"]
        inner = nodes["left_child"] >= 0
        numbers = np.arange(len(nodes))
        for child in ("left_child", "right_child"):
            # A child comes after its parent, so that there is no circle.
            if not np.all(nodes[child][inner] > numbers[inner]):
                raise ValueError("a tree leads back into itself")
            if not np.all(nodes[child] < len(nodes)):
                raise ValueError("a tree leads outside itself")
        if not np.all(
            (nodes["feature"][inner] >= 0) & (nodes["feature"][inner] < tree.n_features_in_)
        ):
            raise ValueError("a tree asks for a feature that there is not")
    return forest
