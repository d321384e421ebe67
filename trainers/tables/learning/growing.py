"""What all models here have in common: they grow by rounds, in segments that are always the same.

A segment begins with what a file holds of the model, and with seeds that tell nothing but where it
begins. So whatever interrupts a run, the segments after that are those that would have come anyway,
to the bit. What lies between a segment's two ends is kept nowhere.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Part:
    """Some rows of a table, in the order of time."""

    x: Any
    """(rows, features); `prepared.Windows` for an algorithm that looks back"""
    y: Floats
    """(rows,)"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lesson:
    """What a model learns from, and how."""

    train: Part
    valid: Part
    """tells after each round how good the model is; nothing is learnt from it"""
    names: tuple[str, ...]
    """of the features"""
    categorical: Mapping[int, int] = field(default_factory=dict)
    """features whose numbers are names of categories, and how many names there are"""
    hyperparameters: dict[str, Any]
    seed: int
    threads: int
    batch_size: int | None = None
    """rows in one step of a network; None: as it finds best"""
    device: str = "cpu"
    """where a network is learnt, as torch calls it"""
    quantile: float | None = None
    """that is learnt; None: the mean"""

    def missed(self, forecast: NDArray[Any]) -> float:
        """By how much a forecast of `valid` is off: its RMSE, or the pinball loss of a quantile."""
        if self.quantile is None:
            return rmse(forecast, self.valid.y)
        return pinball(np.asarray(forecast, dtype=np.float64), self.valid.y, self.quantile)


class GrownOut(Exception):
    """A model finds nothing to add, and never will, however often it is asked."""


class Model(Protocol):
    """A model that grows; made with what was saved of it, or with nothing.

    `rounds` is how far it has grown: each round adds a tree, or is an epoch.

    Raises:
        ValueError: what was saved is no such model.
    """

    FILE: ClassVar[str]
    """the name of its file"""
    SEGMENT: ClassVar[int]
    """rounds from one place to the next at which it can be saved"""
    rounds: int

    def __init__(self, saved: bytes | None = None) -> None: ...

    def grow(self, lesson: Lesson, rounds: int, each: Callable[[float | None], None]) -> None:
        """Grow by a segment of so many rounds; `each` hears after every one what `valid` misses.

        It hears None where there is nothing to forecast. Whoever can be saved in the midst of a
        round may return there, so that rounds that take long are asked for again and again.

        There may be fewer rounds, for one that finds nothing to add is none. What `each` raises
        ends it, and the model is as it was before.

        Raises:
            GrownOut: there is none at all.
        """

    def saved(self) -> bytes:
        """What its file holds, in the library's own safe format; b"": it has not begun to grow."""

    def cut(self, rounds: int) -> Model:
        """A model as it was after so many rounds, for use and not for growing.

        Raises:
            BadSpec: nothing of that is left.
        """

    def predict(self, x: Any, threads: int) -> Floats:
        """Its forecasts of such rows as those of a `Part`, (rows,)."""

    def arrays(self) -> Iterator[tuple[str, NDArray[Any]]]:
        """All that its forecasts depend on: trees, thresholds, values; no times and no ids."""


class Curve:
    """How good a model was after each round, and so which round was the best.

    No library's early stopping is asked: this list is all that there is to keep of it.

    Args:
        scores: RMSE after each round so far, on the validation part.
        patience: rounds without a better one after which it is over; None: it never is.
    """

    def __init__(self, scores: Iterable[float | None], patience: int | None) -> None:
        self.scores = list(scores)
        self._patience = patience

    @property
    def best_round(self) -> int:
        """After how many rounds it was best; the first of equals; 0: there is none yet."""
        return self._judged()[0]

    @property
    def used(self) -> int:
        """How many rounds are worth using."""
        return len(self.scores) if self._patience is None else self.best_round

    @property
    def is_over(self) -> bool:
        """Whether no better round is waited for any more."""
        return self._judged()[1]

    def _judged(self) -> tuple[int, bool]:
        """As if somebody had asked after every round: what comes after its end comes too late."""
        best_round, best = 0, math.inf
        for number, score in enumerate(self.scores, start=1):
            if score is not None and score < best:
                best_round, best = number, score
            elif self._patience is not None and number - best_round >= self._patience:
                return best_round, True
        return best_round, False


def rmse(forecast: NDArray[Any], truth: Floats) -> float:
    """Root mean squared error; the same to the bit whatever the number of threads."""
    return float(np.sqrt(np.mean(np.square(np.asarray(forecast, dtype=np.float64) - truth))))


def pinball(forecast: Floats, truth: Floats, quantile: float) -> float:
    """Mean loss of forecasts of a quantile, which is the least where they are right."""
    missed = truth - forecast
    return float(np.mean(np.maximum(quantile * missed, (quantile - 1) * missed)))


def file_of(kind: type[Model], name: str | None) -> str:
    """The name of the file of a model, or of one beside it that has a name: model.q10.txt."""
    stem, dot, suffix = kind.FILE.partition(".")
    return kind.FILE if name is None else f"{stem}.{name}{dot}{suffix}"


def content_sha256(arrays: Iterable[tuple[str, NDArray[Any]]]) -> str:
    """A hash of named arrays, in their order: two models with the same one forecast the same."""
    total = hashlib.sha256()
    for name, values in arrays:
        # Little endian, and as wide as can be, whatever machine has written them.
        kind = "<f8" if values.dtype.kind == "f" else "<i8"
        total.update(f"{name} {kind} {values.shape}\n".encode())
        total.update(values.astype(kind).tobytes())
    return total.hexdigest()
