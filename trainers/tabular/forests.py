"""Forests of scikit-learn, grown tree by tree; importing this module imports it.

Every tree draws from a seed of its own, so a forest that goes on is the one that never stopped.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import skops.io
from numpy.typing import NDArray
from sklearn.ensemble import IsolationForest, RandomForestRegressor

from trainers.tables.learning.growing import Floats, Lesson, rmse

if TYPE_CHECKING:
    from typing import Self

TRUSTED = ("sklearn.tree._tree.Tree",)
"""what a file may hold beside arrays and parameters, once its indices have been looked at"""
_NODES = ("left_child", "right_child", "feature", "threshold", "missing_go_to_left")


class _Trees(ABC):
    """What both forests have in common."""

    FILE: ClassVar[str] = "model.skops"
    SEGMENT: ClassVar[int] = 10

    def __init__(self, saved: bytes | None = None) -> None:
        self._forest: Any = None if saved is None else loaded(saved)
        """as scikit-learn has it; None: no tree has grown"""

    @property
    def rounds(self) -> int:
        """How many trees it has."""
        return 0 if self._forest is None else len(self._forest.estimators_)

    def grow(self, lesson: Lesson, rounds: int, each: Callable[[float | None], None]) -> None:
        """Grow by a segment; see `growing.Model`."""
        before = self.rounds
        judged = self._judge(lesson)
        if self._forest is None:
            self._forest = self._seed(lesson)
        try:
            at_once = self._at_once(lesson)
            for begins in range(before, before + rounds, at_once):
                ends = min(begins + at_once, before + rounds)
                self._forest.set_params(n_estimators=ends, n_jobs=lesson.threads)
                self._fit(lesson)
                for tree in self._forest.estimators_[begins:]:
                    each(judged(tree))
        except BaseException:
            if before:
                self._cut(before)
            else:
                self._forest = None
            raise

    def saved(self) -> bytes:
        """The forest as skops writes it: arrays and names, and no code."""
        if self._forest is None:
            return b""
        # How many threads there were changes nothing else.
        self._forest.set_params(n_jobs=None)
        return bytes(skops.io.dumps(self._forest))

    def cut(self, rounds: int) -> Self:
        """A forest of its first trees."""
        if rounds == self.rounds:
            return self
        cut = type(self)(self.saved())
        cut._cut(rounds)
        return cut

    def arrays(self) -> Iterator[tuple[str, NDArray[Any]]]:
        """Every tree's nodes and values."""
        for number, tree in enumerate(self._forest.estimators_):
            state = tree.tree_.__getstate__()
            for name in _NODES:
                yield f"{number} {name}", state["nodes"][name]
            yield f"{number} value", state["values"]

    def _at_once(self, lesson: Lesson) -> int:
        """How many trees grow between two moments at which somebody may ask for a stop."""
        return lesson.threads

    @abstractmethod
    def _seed(self, lesson: Lesson) -> Any:
        """A forest without trees."""

    def _fit(self, lesson: Lesson) -> None:
        """Add the trees that are missing."""
        self._forest.fit(lesson.train.x, lesson.train.y)

    @abstractmethod
    def _judge(self, lesson: Lesson) -> Callable[[Any], float | None]:
        """What says of each tree that comes how good the forest is with it."""

    def _cut(self, rounds: int) -> None:
        self._forest.set_params(n_estimators=rounds)
        del self._forest.estimators_[rounds:]


class Forest(_Trees):
    """A random forest."""

    def predict(self, x: Floats, threads: int) -> Floats:  # noqa: ARG002 - as all models
        """Its forecasts, summed up in the order of the trees: threads would add in any order."""
        self._forest.set_params(n_jobs=1)
        return np.asarray(self._forest.predict(x), dtype=np.float64)

    def _seed(self, lesson: Lesson) -> Any:
        return RandomForestRegressor(
            **lesson.hyperparameters, warm_start=True, random_state=lesson.seed
        )

    def _judge(self, lesson: Lesson) -> Callable[[Any], float | None]:
        valid = np.asarray(lesson.valid.x, dtype=np.float32)
        trees = list(self._forest.estimators_) if self.rounds else []
        total = np.zeros(len(valid))
        for tree in trees:
            total += tree.predict(valid)
        count = len(trees)

        def judged(tree: Any) -> float:
            nonlocal total, count
            total, count = total + tree.predict(valid), count + 1
            return rmse(total / count, lesson.valid.y)

        return judged


class Isolation(_Trees):
    """A forest that isolates rows: the fewer splits that takes, the stranger is a row."""

    def predict(self, x: Floats, threads: int) -> Floats:  # noqa: ARG002 - as all models
        """How strange each row is, from 0 to 1; summed up in the order of the trees."""
        self._forest.set_params(n_jobs=1)
        return -np.asarray(self._forest.score_samples(x), dtype=np.float64)

    def arrays(self) -> Iterator[tuple[str, NDArray[Any]]]:
        """Every tree's nodes and values, the features that each looks at, and of how many rows."""
        yield "max_samples", np.array([self._forest.max_samples_])
        for number, features in enumerate(self._forest.estimators_features_):
            yield f"{number} features", features
        yield from super().arrays()

    def _at_once(self, lesson: Lesson) -> int:  # noqa: ARG002 - its trees are small
        return self.SEGMENT

    def _seed(self, lesson: Lesson) -> Any:
        return IsolationForest(**lesson.hyperparameters, warm_start=True, random_state=lesson.seed)

    def _fit(self, lesson: Lesson) -> None:
        self._forest.fit(lesson.train.x)

    def _judge(self, lesson: Lesson) -> Callable[[Any], float | None]:  # noqa: ARG002 - as above
        return lambda _: None  # nobody has said what is strange

    def _cut(self, rounds: int) -> None:
        super()._cut(rounds)
        del self._forest.estimators_features_[rounds:]
        # What is known of each tree beside it.
        for name in ("_average_path_length_per_tree", "_decision_path_lengths"):
            setattr(self._forest, name, getattr(self._forest, name)[:rounds])


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
