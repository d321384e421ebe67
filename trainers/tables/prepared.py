"""From a table to what is trained on: read, checked, split in time, preprocessed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from trainers.tables import features, leakage, memory, preprocessing, sources, split
from trainers.tables.config import Config
from trainers.tables.errors import DataLoadError
from trainers.tables.features import Feature
from trainers.tables.leakage import Finding
from trainers.tables.preprocessing import Fitted
from trainers.tables.sources import missing
from trainers.tables.table import Series, check, read, series_of, time_column
from trainers.tables.times import told

Floats = NDArray[np.float64]
DType = Literal["float32", "float64"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Rows of one part of the split, in order of time."""

    x: NDArray[Any]
    """(rows, features), C-contiguous"""
    y: Floats
    """(rows,), the target; NaN without one, or where it is not known yet"""
    times: NDArray[np.int64]
    """(rows,), nanoseconds since 1970 in UTC"""
    positions: NDArray[np.int64]
    """(rows,), steps since the first time of the table"""
    labels: Floats | None = None
    """(rows,), 1 where the row is an anomaly; None: nobody has said"""

    def __len__(self) -> int:
        return len(self.times)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fold:
    """One of the rolling origins: what is trained on, and what follows it."""

    number: int
    """from 0, the earliest"""
    train: Part
    validation: Part
    fitted: tuple[Fitted, ...]
    card: dict[str, Any]


class Prepared:
    """What is trained on, what is held out, and what there is to say of both."""

    train: Part
    validation: Part
    test: Part
    fitted: tuple[Fitted, ...]
    """what is done to each feature; what another table is given, too"""
    card: dict[str, Any]
    """what a model card says of it; plain values"""
    remarks: tuple[str, ...]
    """what a person should know, a line each"""

    def __init__(
        self,
        config: Config,
        series: Series,
        plan: Sequence[Feature],
        *,
        dtype: DType,
        working: Callable[[], None],
    ) -> None:
        self.config, self.series = config, series
        self._plan, self._dtype, self._working = tuple(plan), dtype, working
        rows, usable = self._usable()
        parts = split.split(rows, usable, config)
        self.findings = leakage.look(config, series, self._plan, parts)
        self.fitted, said = self._fit(parts.train)
        self.train = self._part(parts.train, self.fitted, sample=True)
        self.validation = self._part(parts.validation, self.fitted)
        self.test = self._part(parts.test, self.fitted)
        self._past = usable[: len(usable) - len(parts.test)]
        if len(parts.test):
            self._past = self._past[self._past < parts.test[0] - config.gap_steps]
        self.remarks = (*said, *_on_findings(self.findings), *_on_ahead(config, self._plan))
        self.card = self._card(usable)

    @property
    def names(self) -> tuple[str, ...]:
        """Of the features, in the order of the columns of `x`."""
        return tuple(feature.name for feature in self._plan)

    @property
    def categories(self) -> dict[str, tuple[str, ...]]:
        """The labels of features that the algorithm is to know as categories, by name.

        A value of such a feature is a label's place; every label that the training part has not
        got, or too seldom, has the place after the last.
        """
        return {one.name: one.labels for one in self.fitted if one.native and one.labels}

    def folds(self) -> Iterator[Fold]:
        """The folds of the backtest, each preprocessed by its own past; none where none is asked.

        The test part is in no fold.
        """
        backtest = self.config.backtest
        if backtest is None:
            return
        cuts = split.folds(self._past, backtest, self.config.gap_steps)
        for number, (past, ahead) in enumerate(cuts):
            fitted, _ = self._fit(past)
            train = self._part(past, fitted, sample=True)
            validation = self._part(ahead, fitted)
            card = {"train": _told(train), "validation": _told(validation)}
            yield Fold(number=number, train=train, validation=validation, fitted=fitted, card=card)

    def _usable(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Positions of the rows that have a target, and of those that have all features, too."""
        positions = self.series.spacing.positions
        if self.config.target is not None:
            known = ~np.isnan(self.series.columns[self.config.target].values[positions])
            positions = positions[known]
        keep = np.ones(len(positions), dtype=np.bool_)
        median = self.config.preprocessing.missing == "median"
        for feature in self._plan:
            reach = feature.reach(self.series.spacing, self.config.horizon)
            keep &= positions >= reach  # before that, nobody knows anything
            if not median:
                keep &= ~np.isnan(self._raw(feature, positions))
            self._working()
        return positions, positions[keep]

    def _raw(self, feature: Feature, positions: NDArray[np.int64]) -> Floats:
        return features.values(feature, self.series, positions, self.config)

    def _labels(self, feature: Feature) -> tuple[str, ...] | None:
        if feature.kind not in ("column", "lag"):
            return None
        return self.series.past[feature.column or ""].labels

    def _fit(self, positions: NDArray[np.int64]) -> tuple[tuple[Fitted, ...], list[str]]:
        by_name = {feature.name: feature for feature in self._plan}

        def fetch(name: str) -> tuple[Floats, tuple[str, ...] | None]:
            self._working()
            return self._raw(by_name[name], positions), self._labels(by_name[name])

        return preprocessing.fit(self.names, fetch, self.config.preprocessing)

    def _part(
        self, positions: NDArray[np.int64], fitted: Sequence[Fitted], *, sample: bool = False
    ) -> Part:
        times = self.series.times_at(positions)
        if sample:
            chosen = split.sampled(times, self.config.training_options.use_sample)
            positions, times = positions[chosen], times[chosen]
            if not len(positions):
                raise DataLoadError("use_sample leaves no row to train on")
        x = np.empty((len(positions), len(self._plan)), dtype=self._dtype)
        for place, (feature, one) in enumerate(zip(self._plan, fitted, strict=True)):
            x[:, place] = one.applied(self._raw(feature, positions), self._labels(feature))
            self._working()
        target, labels = self.config.target, self.config.labels
        columns = self.series.columns
        return Part(
            x=x,
            y=np.full(len(x), np.nan) if target is None else columns[target].values[positions],
            times=times,
            positions=positions,
            labels=None if labels is None else columns[labels].values[positions],
        )

    def _card(self, usable: NDArray[np.int64]) -> dict[str, Any]:
        config = self.config
        return {
            "target": config.target,
            "features": [
                {"name": feature.name, "kind": feature.kind, "column": feature.column}
                for feature in self._plan
            ],
            "step": self.series.spacing.words,
            "horizon_steps": config.horizon,
            "gap_steps": config.gap_steps,
            "split": {
                "train": _told(self.train),
                "validation": _told(self.validation),
                "test": _told(self.test),
            },
            "rows": len(self.series.times),
            "usable_rows": len(usable),
            "use_sample": config.training_options.use_sample,
            "preprocessing": {
                "asked": msgspec.to_builtins(config.preprocessing),
                "fitted": msgspec.to_builtins(self.fitted),
                "fitted_on": "train",
            },
            "known_ahead": leakage.known_ahead(self._plan),
            "leakage": {
                "verdict": leakage.verdict(self.findings),
                "findings": [msgspec.to_builtins(one) for one in self.findings],
                "allowed": list(config.allow_leakage),
            },
        }


def prepare(
    config: Config,
    home: Path | None,
    *,
    dtype: DType,
    memory_factor: float,
    working: Callable[[], None],
) -> Prepared:
    """What `trainers.tables.prepare` returns; the configuration was checked."""
    source = sources.find(config, home)
    kinds = source.kinds()
    time = time_column(config, kinds)
    for name in (time, config.target, config.labels):
        if name is not None and name not in kinds:
            raise missing(name, kinds)
    plan = features.plan(config, kinds)
    leakage.look_at_names(config, plan)
    named = [feature.column for feature in plan] + [config.target, config.labels]
    columns = list(dict.fromkeys(name for name in named if name is not None))
    rows, reading = source.size([time, *columns])
    wanted = memory.needed(
        rows,
        columns=len(columns),
        features=len(plan),
        reading=reading,
        value=np.dtype(dtype).itemsize,
        factor=memory_factor,
        share=config.training_options.use_sample,
    )
    memory.require(wanted, rows, len(plan))
    working()
    table = read(source, config, columns, time, working)
    used = {feature.column or "" for feature in plan if feature.kind == "column"}
    said = check(table, config, used)
    schema = {name: kinds[name] for name in columns}
    digest = table.sha256
    series = series_of(table, fill=config.preprocessing.missing == "ffill")
    del table
    prepared = Prepared(config, series, plan, dtype=dtype, working=working)
    prepared.remarks = (*said, *prepared.remarks)
    about = {"source": source.where, "sha256": digest, "time": time, "schema": schema}
    prepared.card = {"data": about, **prepared.card, "remarks": list(prepared.remarks)}
    return prepared


def _on_findings(findings: Sequence[Finding]) -> list[str]:
    allowed = {"allowed": " (allowed)"}
    return [f"leakage: {one.line}{allowed.get(one.severity, '')}" for one in findings]


def _on_ahead(config: Config, plan: Sequence[Feature]) -> list[str]:
    ahead = leakage.known_ahead(plan)
    if not ahead or not config.horizon:
        return []
    steps = f"{config.horizon} step{'s' if config.horizon > 1 else ''}"
    are = "are" if len(ahead) > 1 else "is"
    taken = f"{', '.join(ahead)} {are} taken for the time that is forecast"
    return [f"{taken}, and must be known {steps} ahead"]


def _told(part: Part) -> dict[str, Any]:
    if not len(part):
        return {"rows": 0, "from": None, "to": None}
    return {
        "rows": len(part),
        "from": told(int(part.times[0])),
        "to": told(int(part.times[-1])),
    }
