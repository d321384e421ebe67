"""What is done to features, learnt from the rows of a training part and from no others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from trainers.contract import RowRemark
from trainers.tables.config import Preprocessing

Floats = NDArray[np.float64]
Fetch = Callable[[str], tuple[Floats, tuple[str, ...] | None]]
"""the values of a feature, and the labels that they are places in where it is text"""


class Fitted(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one feature is given; it can be written down and used on other rows."""

    name: str
    median: float | None = None
    """in place of what is missing; of a category its most frequent label; None: none is filled"""
    centre: float = 0.0
    spread: float = 1.0
    labels: tuple[str, ...] | None = None
    """of a category, in the order of their numbers; every other label has the number after"""
    native: bool = False
    """the algorithm is to know that its numbers are categories"""

    def applied(self, values: Floats, labels: tuple[str, ...] | None) -> Floats:
        """Values as they are trained on."""
        if self.labels is not None:
            values = _coded(values, labels or (), self.labels)
        if self.median is not None:
            values = np.where(np.isnan(values), self.median, values)
        if (self.centre, self.spread) != (0.0, 1.0):
            values = (values - self.centre) / self.spread
        return values


def fit(
    names: Sequence[str], fetch: Fetch, asked: Preprocessing
) -> tuple[tuple[Fitted, ...], list[RowRemark]]:
    """What to do with each feature, by the rows that `fetch` has; and what a person should know."""
    fitted, said = [], []
    for name in names:
        values, labels = fetch(name)
        kept = None
        if labels is not None:
            kept, others = _kept(values, labels, asked.max_categories)
            values = _coded(values, labels, kept)
            if others:
                line = (
                    f"{name} has {others} categories beyond the {len(kept)} most frequent: "
                    "they are taken for one"
                )
                said.append(RowRemark(code="categories", line=line, option="features"))
        there = values[~np.isnan(values)]
        native = labels is not None and asked.categories == "native"
        centre, spread = (0.0, 1.0) if native else _scale(there, asked.scale)
        median = _median(there, labels is not None) if asked.missing == "median" else None
        one = Fitted(
            name=name, median=median, centre=centre, spread=spread, labels=kept, native=native
        )
        fitted.append(one)
    return tuple(fitted), said


def _median(there: Floats, text: bool) -> float:
    if not len(there):
        return 0.0
    if text:
        found, counts = np.unique(there, return_counts=True)
        return float(found[np.argmax(counts)])
    return float(np.median(there))


def _scale(there: Floats, scale: Literal["none", "standard", "robust"]) -> tuple[float, float]:
    if scale == "none" or not len(there):
        return 0.0, 1.0
    if scale == "standard":
        centre, spread = float(there.mean()), float(there.std())
    else:
        low, middle, high = np.quantile(there, (0.25, 0.5, 0.75))
        centre, spread = float(middle), float(high - low)
    return centre, spread or 1.0


def _kept(values: Floats, labels: tuple[str, ...], most: int) -> tuple[tuple[str, ...], int]:
    """The labels that have numbers of their own, in alphabetical order, and how many have none."""
    counts = np.bincount(values[~np.isnan(values)].astype(np.int64), minlength=len(labels))
    seen = [place for place in range(len(labels)) if counts[place]]
    frequent = sorted(seen, key=lambda place: (-counts[place], labels[place]))[:most]
    return tuple(sorted(labels[place] for place in frequent)), len(seen) - len(frequent)


def _coded(values: Floats, labels: tuple[str, ...], kept: tuple[str, ...]) -> Floats:
    """Places in `labels` as numbers by `kept`; missing ones stay so."""
    number = {label: float(place) for place, label in enumerate(kept)}
    numbers = np.array([*(number.get(label, float(len(kept))) for label in labels), np.nan])
    places = np.where(np.isnan(values), len(labels), values).astype(np.int64)
    return np.asarray(numbers[places])
