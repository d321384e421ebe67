"""From a table to what is trained on: read, checked, split in time, preprocessed."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from trainers.contract import RowRemark
from trainers.tables import features, leakage, memory, own, preprocessing, sources, split
from trainers.tables.config import Config
from trainers.tables.errors import ConfigValidationError, DataLoadError
from trainers.tables.features import Feature
from trainers.tables.leakage import Finding
from trainers.tables.preprocessing import Fitted
from trainers.tables.sources import missing
from trainers.tables.table import Series, Table, check, check_rows, read, series_of, time_column
from trainers.tables.times import told

Floats = NDArray[np.float64]
DType = Literal["float32", "float64"]


@dataclass(frozen=True, slots=True)
class Windows:
    """Rows, each with those before it, (rows, length, features); never made all at once."""

    matrix: NDArray[Any]
    """(steps, features), C-contiguous: of each step that any of the rows looks at"""
    ends: NDArray[np.int64]
    """(rows,), where in the matrix each row stands; step by step before it, those before it"""
    length: int

    def __len__(self) -> int:
        return len(self.ends)


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Rows of one part of the split, in order of time."""

    x: Any
    """(rows, features), C-contiguous; `Windows` where each row is looked at with those before it"""
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


class _Builder:
    """Makes parts of a series."""

    def __init__(
        self,
        config: Config,
        series: Series,
        plan: Sequence[Feature],
        dtype: DType,
        length: int,
        working: Callable[[], None],
    ) -> None:
        self.config, self.series, self.plan = config, series, tuple(plan)
        self.dtype, self.length, self.working = dtype, length, working

    def raw(self, feature: Feature, positions: NDArray[np.int64]) -> Floats:
        return features.values(feature, self.series, positions, self.config)

    def labels(self, feature: Feature) -> tuple[str, ...] | None:
        if feature.kind not in ("column", "lag"):
            return None
        return self.series.past[feature.column or ""].labels

    def usable(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """Those of some positions that have all features, or can be given them.

        So must have all the steps before it that a row is looked at with, be there rows or not.
        """
        if self.length == 1 or not len(positions):
            return positions[self._known(positions)]
        steps = np.arange(positions[-1] + 1)
        unknown = np.maximum.accumulate(np.where(self._known(steps), -1, steps))
        return positions[unknown[positions] <= positions - self.length]

    def _known(self, positions: NDArray[np.int64]) -> NDArray[np.bool_]:
        keep = np.ones(len(positions), dtype=np.bool_)
        median = self.config.preprocessing.missing == "median"
        for feature in self.plan:
            reach = feature.reach(self.series.spacing, self.config.horizon)
            keep &= positions >= reach  # before that, nobody knows anything
            if not median:
                keep &= ~np.isnan(self.raw(feature, positions))
            self.working()
        return keep

    def fit(self, positions: NDArray[np.int64]) -> tuple[tuple[Fitted, ...], list[RowRemark]]:
        by_name = {feature.name: feature for feature in self.plan}

        def fetch(name: str) -> tuple[Floats, tuple[str, ...] | None]:
            self.working()
            return self.raw(by_name[name], positions), self.labels(by_name[name])

        return preprocessing.fit(list(by_name), fetch, self.config.preprocessing)

    def part(
        self, positions: NDArray[np.int64], fitted: Sequence[Fitted], *, sample: bool = False
    ) -> Part:
        times = self.series.times_at(positions)
        if sample:
            chosen = split.sampled(times, self.config.training_options.use_sample)
            positions, times = positions[chosen], times[chosen]
            if not len(positions):
                raise DataLoadError("use_sample leaves no row to train on")
        steps = self._looked_at(positions)
        x = np.empty((len(steps), len(self.plan)), dtype=self.dtype)
        for place, (feature, one) in enumerate(zip(self.plan, fitted, strict=True)):
            values, labels = self.raw(feature, steps), self.labels(feature)
            if (one.labels is None) != (labels is None) and not np.isnan(values).all():
                was, now = ("text", "numbers") if labels is None else ("numbers", "text")
                what = f"column {feature.column} was {was} when the model was trained, and is {now}"
                raise DataLoadError(what, column=feature.column)
            x[:, place] = one.applied(values, labels)
            self.working()
        judged = self.config.labels
        alone = self.length == 1
        return Part(
            x=x if alone else Windows(x, np.searchsorted(steps, positions), self.length),
            y=self._judged(self.config.target, positions),
            times=times,
            positions=positions,
            labels=None if judged is None else self._judged(judged, positions),
        )

    def _looked_at(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """Positions, and those before them that belong to the windows that end there."""
        if self.length == 1 or not len(positions):
            return positions
        looked_at = np.zeros(positions[-1] + 1, dtype=np.bool_)
        for back in range(self.length):
            looked_at[positions - back] = True
        return np.flatnonzero(looked_at)

    def _judged(self, name: str | None, positions: NDArray[np.int64]) -> Floats:
        found = np.full(len(positions), np.nan)
        if name in self.series.columns:
            values = self.series.columns[name].values
            there = positions < len(values)  # what is still to come has none
            found[there] = values[positions[there]]
        return found


class Prepared:
    """What is trained on, what is held out, and what there is to say of both."""

    train: Part
    validation: Part
    test: Part
    fitted: tuple[Fitted, ...]
    """what is done to each feature; `rows_of` another table does it, too"""
    card: dict[str, Any]
    """what a model card says of it; plain values"""
    remarks: tuple[RowRemark, ...]
    """what a person should know"""
    memory_bytes: int
    """that the most demanding moment takes, about"""

    def __init__(
        self,
        config: Config,
        series: Series,
        plan: Sequence[Feature],
        *,
        found: Sequence[Finding] = (),
        dtype: DType,
        length: int,
        working: Callable[[], None],
    ) -> None:
        self.config, self.series = config, series
        self._plan = tuple(plan)
        self._builder = builder = _Builder(config, series, plan, dtype, length, working)
        rows = series.spacing.positions
        if config.target is not None:
            rows = rows[~np.isnan(series.columns[config.target].values[rows])]
        usable = builder.usable(rows)
        parts = split.split(rows, usable, config)
        self.findings = [*found, *leakage.look(config, series, self._plan, parts)]
        self.fitted, said = builder.fit(parts.train)
        self.train = builder.part(parts.train, self.fitted, sample=True)
        self.validation = builder.part(parts.validation, self.fitted)
        self.test = builder.part(parts.test, self.fitted)
        past = usable[usable < parts.test[0] - config.gap_steps] if len(parts.test) else usable
        asked = config.backtest
        self._cuts = [] if asked is None else list(split.folds(past, asked, config.gap_steps))
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
        for number, (past, ahead) in enumerate(self._cuts):
            fitted, _ = self._builder.fit(past)
            train = self._builder.part(past, fitted, sample=True)
            validation = self._builder.part(ahead, fitted)
            card = {"train": _told(train), "validation": _told(validation)}
            yield Fold(number=number, train=train, validation=validation, fitted=fitted, card=card)

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
            "from": told(int(self.series.times[0])),
            "to": told(int(self.series.times[-1])),
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


class _Opened(NamedTuple):
    """A table whose columns are known and whose rows are not read yet."""

    source: sources.Source
    kinds: dict[str, sources.Kind]
    time: str
    function: own.Function | None
    """the user's own, which the plan has to wait for"""
    plan: tuple[Feature, ...]
    columns: list[str]
    """to be read, beside that of the times"""


class _Read(NamedTuple):
    """Its rows."""

    table: Table
    plan: tuple[Feature, ...]
    found: list[Finding]
    """in what the user's function has made"""


def _open(config: Config, home: Path | None, judged: Sequence[str]) -> _Opened:
    source = sources.find(config, home)
    kinds = source.kinds()
    time = time_column(config, kinds)
    if time not in kinds:
        raise missing(time, kinds)
    if config.preprocess is not None:
        # Whatever it may want; what it makes is known once it has been called.
        columns = [name for name, kind in kinds.items() if kind in ("number", "text")]
        columns = [name for name in columns if name != time]
        return _Opened(source, kinds, time, own.Function(config.preprocess), (), columns)
    plan = _planned(config, time, kinds, judged)
    return _Opened(source, kinds, time, None, plan, _used(plan, judged))


def _planned(
    config: Config, time: str, known: Iterable[str], judged: Sequence[str]
) -> tuple[Feature, ...]:
    there = list(known)
    for name in judged:
        if name not in there:
            raise missing(name, there)
    plan = features.plan(config, there)
    for field, names in (
        ("features", _used(plan, ())),
        ("target", [config.target]),
        ("labels", [config.labels]),
    ):
        if time in names:
            what = f"{time} holds the times: hour_of_day and the like are made of them"
            raise ConfigValidationError(field, what)
    return plan


def _used(plan: Sequence[Feature], judged: Sequence[str]) -> list[str]:
    """Columns that features are made of, and those that are judged by."""
    made_of = (one.column for one in plan if one.column is not None)
    return list(dict.fromkeys([*made_of, *judged]))


def _judged(config: Config, known: Container[str]) -> list[str]:
    """Of the columns that forecasts or anomalies are judged by, those that are there."""
    return [name for name in (config.target, config.labels) if name is not None and name in known]


def prepare(
    config: Config,
    home: Path | None,
    *,
    dtype: DType,
    length: int,
    memory_factor: float,
    working: Callable[[], None],
    loaded: Callable[[], None],
) -> Prepared:
    """What `trainers.tables.prepare` returns; the configuration was checked."""
    judged = [name for name in (config.target, config.labels) if name is not None]
    opened = _open(config, home, judged)
    leakage.look_at_names(config, opened.plan)
    rows = opened.source.rows()
    held_out = config.validation_split + config.test_split
    # Of rows that are left out others may still need the features.
    used = config.training_options.use_sample if length == 1 else 1.0
    wanted = memory.needed(
        rows,
        columns=len(opened.columns),
        features=len(config.features),
        value=np.dtype(dtype).itemsize,
        factor=memory_factor,
        share=held_out + (1 - held_out) * used,
        function=opened.function is not None,
    )
    memory.require(wanted, rows, len(config.features))
    working()
    table, plan, found = _read(config, opened, judged, working)
    said = [*opened.source.remarks(), *check(table, config, leakage.known_ahead(plan))]
    loaded()
    digest, fill = table.sha256, config.preprocessing.missing == "ffill"
    schema = {
        name: opened.kinds.get(name, "number" if column.labels is None else "text")
        for name, column in table.columns.items()
    }
    series = series_of(table, fill=fill)
    del table
    prepared = Prepared(
        config, series, plan, found=found, dtype=dtype, length=length, working=working
    )
    prepared.remarks = (*said, *prepared.remarks)
    prepared.memory_bytes = wanted
    about: dict[str, Any] = {
        "source": opened.source.where,
        "sha256": digest,
        "time": opened.time,
        "schema": schema,
    }
    if opened.function is not None:
        about["preprocess"] = {
            "function": opened.function.asked,
            "sha256": opened.function.sha256,
        }
    lines = [one.line for one in prepared.remarks]
    prepared.card = {"data": about, **prepared.card, "remarks": lines}
    return prepared


def _read(
    config: Config, opened: _Opened, judged: Sequence[str], working: Callable[[], None]
) -> _Read:
    """The rows to train on, with what the user's function makes of them."""
    table = read(opened.source, config, opened.columns, opened.time, working)
    if opened.function is None:
        return _Read(table, opened.plan, [])
    made = opened.function(table, opened.time)
    plan = _planned(config, opened.time, [opened.time, *made], judged)
    leakage.look_at_names(config, plan)
    made = {name: made[name] for name in _used(plan, judged)}
    found = own.look(opened.function, config, table, made, plan, opened.time, working)
    return _Read(table._replace(columns=made), plan, found)


def rows_of(
    config: Config,
    home: Path | None,
    fitted: Sequence[Fitted],
    *,
    step: str | None,
    preprocess_sha256: str | None,
    dtype: DType,
    length: int,
    working: Callable[[], None],
) -> Part:
    """What `trainers.tables.rows_of` returns."""
    config = msgspec.structs.replace(config, training_start=None, training_end=None)
    opened = _open(config, home, ())
    function, plan = opened.function, opened.plan
    if function is not None and preprocess_sha256 not in (None, function.sha256):
        what = f"The source of {function.asked} is another than when the model was trained"
        raise ConfigValidationError("preprocess", what)
    columns = opened.columns
    if function is None:
        columns = _used(plan, _judged(config, opened.kinds))
    table = read(opened.source, config, columns, opened.time, working)
    if function is not None:
        made = function(table, opened.time)
        plan = _planned(config, opened.time, [opened.time, *made], ())
        used = _used(plan, _judged(config, made))
        table = table._replace(columns={name: made[name] for name in used})
    check_rows(table, config, leakage.known_ahead(plan))
    series = series_of(table, fill=config.preprocessing.missing == "ffill")
    if step not in (None, series.spacing.words) and any(one.length for one in plan):
        apart = series.spacing.words
        what = f"the step of its rows is {apart}, and that of those trained on was {step}"
        raise DataLoadError(what, step=apart, trained_step=step)
    builder = _Builder(config, series, plan, dtype, length, working)
    positions = series.spacing.positions
    if not leakage.known_ahead(plan) and series.spacing.step is not None:
        ahead = positions[-1] + 1 + np.arange(config.horizon)
        positions = np.concatenate((positions, ahead))
    usable = builder.usable(positions)
    if not len(usable):
        raise DataLoadError(f"none of {len(table.times):,} rows has all features")
    return builder.part(usable, fitted)


def _on_findings(findings: Sequence[Finding]) -> list[RowRemark]:
    allowed = {"allowed": " (allowed)"}
    return [
        RowRemark(
            code="leakage",
            line=f"leakage: {one.line}{allowed.get(one.severity, '')}",
            option="features",
        )
        for one in findings
    ]


def _on_ahead(config: Config, plan: Sequence[Feature]) -> list[RowRemark]:
    ahead = leakage.known_ahead(plan)
    if not ahead or not config.horizon or config.target is None:
        return []
    steps = f"{config.horizon} step{'s' if config.horizon > 1 else ''}"
    are = "are" if len(ahead) > 1 else "is"
    taken = f"{', '.join(ahead)} {are} taken for the time that is forecast"
    line = f"{taken}, and must be known {steps} ahead"
    return [RowRemark(code="known_ahead", line=line, option="features")]


def _told(part: Part) -> dict[str, Any]:
    if not len(part):
        return {"rows": 0, "from": None, "to": None}
    return {
        "rows": len(part),
        "from": told(int(part.times[0])),
        "to": told(int(part.times[-1])),
    }
