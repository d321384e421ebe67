"""Rows as they were read, looked at before anything is made of them, and put on an even grid."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from trainers.contract import RowRemark
from trainers.tables.config import Config, bounds
from trainers.tables.errors import DataLoadError
from trainers.tables.sources import Kind, Source, is_text
from trainers.tables.times import MONTH, Spacing, Times, instants, nanoseconds, spacing, told

GRID_MAX = 20
"""times as many steps as rows: with more, nearly all of a series would be missing"""
NUMBERS_SHARE = 0.5
"""of the values of text: where more of them are numbers, the others are mistakes"""

_LIKE_A_NUMBER = re.compile(r"[-+]?\s*[0-9][0-9.,'_\s]*%?")

Floats = NDArray[np.float64]


class Column(NamedTuple):
    """The values of a column; of text they are places in `labels`. NaN: missing."""

    values: Floats
    labels: tuple[str, ...] | None = None


class Table(NamedTuple):
    """Rows in order of time."""

    times: Times
    columns: dict[str, Column]
    naive: bool
    """whether its times have no zone"""
    spacing: Spacing

    @property
    def sha256(self) -> str:
        """Of times, names and values alone: the same wherever and in what format they lie."""
        digest = hashlib.sha256(self.times.astype("<i8").tobytes())
        for name in sorted(self.columns):
            column = self.columns[name]
            digest.update(f"\0{name}\0{column.labels}\0".encode())
            digest.update(column.values.astype("<f8").tobytes())
        return digest.hexdigest()


class Series(NamedTuple):
    """A table with a place for each step, so that a lag is a lag in time and not in rows."""

    start: int
    """its first time"""
    spacing: Spacing
    """the positions are those of the rows"""
    times: Times
    """of the rows"""
    columns: dict[str, Column]
    """on the grid; NaN where there is no row"""
    past: dict[str, Column]
    """the same, for features: what is missing may be the last known value"""

    def times_at(self, positions: NDArray[np.int64]) -> Times:
        """The times of steps, rows or not."""
        step = self.spacing.step
        if isinstance(step, int):
            return np.asarray(self.start + positions * step, dtype=np.int64)
        if step == MONTH:
            first = np.datetime64(self.start, "ns")
            month = first.astype("datetime64[M]")
            within = first - month.astype("datetime64[ns]")
            return np.asarray(
                ((month + positions).astype("datetime64[ns]") + within).astype(np.int64)
            )
        return self.times[np.searchsorted(self.spacing.positions, positions)]


def time_column(config: Config, kinds: dict[str, Kind]) -> str:
    """The column that tells the time.

    Raises:
        DataLoadError: it is not there, or nobody says which of several it is.
    """
    if config.time is not None:
        return config.time
    found = [name for name, kind in kinds.items() if kind == "time"]
    if len(found) == 1:
        return found[0]
    if not found:
        raise DataLoadError(f"no column holds times; there are: {', '.join(list(kinds)[:20])}")
    raise DataLoadError(f"several columns hold times: {', '.join(found)}; `time` says which counts")


def read(
    source: Source, config: Config, names: Iterable[str], time: str, working: Callable[[], None]
) -> Table:
    """The rows between the first and the last time that count, with the columns that are needed.

    Raises:
        DataLoadError: something there is not as it must be.
    """
    wanted = [time, *(name for name in dict.fromkeys(names) if name != time)]
    table = source.read(wanted, time, working)
    working()
    times, naive = instants(table[time], time)
    table = table.drop_columns([time])
    if not len(times):
        raise DataLoadError(f"{source.where} has no rows")
    _check_order(times, time)
    begin, end = _between(times, config)
    columns: dict[str, Column] = {}
    for name in wanted[1:]:
        column, table = table[name], table.drop_columns([name])
        columns[name] = _column(name, column.slice(begin, end - begin), begin)
        del column  # what is converted is needed no more
        pa.default_memory_pool().release_unused()
        working()
    times = times[begin:end]
    return Table(times, columns, naive, spacing(times))


def check(table: Table, config: Config, features: Iterable[str]) -> list[RowRemark]:
    """Refuse rows that no forecast can be learnt from; what is returned a person should know.

    Args:
        table: what was read.
        config: what is asked for.
        features: columns that are features as they are, and so must vary.

    Raises:
        DataLoadError: a column is constant, not finite or of the wrong kind, or something is
            missing and nobody says what to do.
    """
    gaps = check_rows(table, config, table.columns)
    for name in {*features, config.target}:
        if name is not None:
            _check_varies(name, table.columns[name])
    said = [] if gaps is None else [RowRemark(code="gaps", line=gaps)]
    if table.naive:
        line = "times have no zone: they are taken for UTC"
        said.append(RowRemark(code="no_zone", line=line, option="time"))
    if table.spacing.step is None:
        line = "rows are not evenly spaced: horizon and gap count rows"
        said.append(RowRemark(code="uneven", line=line))
    return said


def check_rows(table: Table, config: Config, whole: Iterable[str]) -> str | None:
    """Refuse rows that no forecast can be made of; what is returned are their gaps, in words.

    Args:
        table: what was read.
        config: what is asked for.
        whole: columns that miss nothing, where nothing says what to do about it.

    Raises:
        DataLoadError: a column is not finite or of the wrong kind, or something is missing and
            nobody says what to do.
    """
    strict = config.preprocessing.missing == "error"
    for name, column in table.columns.items():
        if name in (config.target, config.labels) and column.labels is not None:
            what = f"column {name} must be numbers, and has {column.labels[0][:40]!r}"
            raise DataLoadError(what, column=name)
        _check_values(name, column, table.times, strict=strict and name in whole)
    if config.labels in table.columns:
        _check_labels(config.labels or "", table.columns[config.labels or ""].values)
    gaps = _gaps(table)
    if gaps and strict:
        raise DataLoadError(f"{gaps}; preprocessing.missing says what to do about it")
    return gaps


def series_of(table: Table, *, fill: bool) -> Series:
    """The table on its grid; with `fill`, features see the last known value.

    Raises:
        DataLoadError: hardly any of its steps are there.
    """
    positions = table.spacing.positions
    steps = int(positions[-1]) + 1
    if steps > GRID_MAX * len(positions):
        what = f"of {steps:,} steps of {table.spacing.words} only {len(positions):,} are there"
        raise DataLoadError(what, steps=steps, rows=len(positions))
    columns: dict[str, Column] = {}
    for name, column in table.columns.items():
        values = column.values
        if steps > len(positions):
            values = np.full(steps, np.nan)
            values[positions] = column.values
        columns[name] = Column(values, column.labels)
    past = columns
    if fill:
        past = {name: Column(filled(one.values), one.labels) for name, one in columns.items()}
    return Series(int(table.times[0]), table.spacing, table.times, columns, past)


def filled(values: Floats) -> Floats:
    """Each missing value as the last known one before it; NaN where there is none."""
    there = ~np.isnan(values)
    if there.all():
        return values
    last = np.maximum.accumulate(np.where(there, np.arange(len(values)), -1))
    return np.where(last >= 0, values[last], np.nan)


def _between(times: Times, config: Config) -> tuple[int, int]:
    start, end = bounds(config)
    first = 0 if start is None else int(np.searchsorted(times, nanoseconds(start), "left"))
    last = len(times) if end is None else int(np.searchsorted(times, nanoseconds(end), "right"))
    if first >= last:
        what = (
            f"no row lies between training_start and training_end: the table goes from "
            f"{told(int(times[0]))} to {told(int(times[-1]))}"
        )
        raise DataLoadError(what)
    return first, last


def _check_order(times: Times, name: str) -> None:
    apart = np.diff(times)
    if np.any(apart < 0):
        row = int(np.argmax(apart < 0)) + 2
        what = (
            f"time column {name} is not in order: row {row}, {told(times[row - 1])}, "
            f"comes after {told(times[row - 2])}"
        )
        raise DataLoadError(what, column=name, row=row)
    twice = np.flatnonzero(apart == 0)
    if len(twice):
        at = told(times[twice[0]])
        what = (
            f"{len(twice):,} rows have the time of another, the first at {at}: each time may be "
            "there once, and a clock that goes back in autumn needs its offset from UTC"
        )
        raise DataLoadError(what, column=name, row=int(twice[0]) + 2, duplicates=len(twice))


def _column(name: str, column: pa.ChunkedArray, begin: int) -> Column:
    kind = column.type
    types = pa.types
    if types.is_dictionary(kind):
        column = column.cast(kind.value_type)
        kind = column.type
    if is_text(kind):
        return _text(name, column.cast(pa.large_string()), begin)
    numeric = types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind)
    if not (numeric or types.is_boolean(kind) or types.is_null(kind)):
        what = f"column {name} must be numbers or text, and is {kind}"
        raise DataLoadError(what, column=name)
    if types.is_boolean(kind):
        column = column.cast(pa.int8())
    if types.is_decimal(kind):
        column = column.cast(pa.string())  # whose way to floats is exact to the last bit
    values = column.cast(pa.float64(), safe=False).to_numpy()
    return Column(np.array(values, dtype=np.float64))


def _text(name: str, column: pa.ChunkedArray, begin: int) -> Column:
    coded = column.dictionary_encode().unify_dictionaries().combine_chunks()
    if isinstance(coded, pa.ChunkedArray):
        coded = coded.chunk(0)
    labels = [str(label) for label in coded.dictionary.to_pylist()]
    numbers = sum(_is_number(label) for label in labels)
    if numbers == len(labels):
        return Column(_numbers(coded, labels))
    if sum(_is_like_a_number(label) for label in labels) > NUMBERS_SHARE * len(labels):
        odd = next(label for label in labels if not _is_number(label))
        row = begin + pc.index(column, pa.scalar(odd, type=column.type)).as_py() + 1
        what = f"column {name} must be numbers: row {row} has {odd[:40]!r}"
        raise DataLoadError(what, column=name, row=row)
    order = sorted(range(len(labels)), key=labels.__getitem__)
    place = np.empty(len(labels) + 1)
    place[order] = np.arange(len(labels))
    place[-1] = np.nan
    codes = coded.indices.fill_null(len(labels)).to_numpy(zero_copy_only=False)
    return Column(place[codes], tuple(labels[index] for index in order))


def _numbers(coded: pa.DictionaryArray, labels: list[str]) -> Floats:
    """Numbers that were written as text, as they are in a CSV file."""
    values = np.array([*(float(label) for label in labels), np.nan])
    places = coded.indices.fill_null(len(labels)).to_numpy(zero_copy_only=False)
    return np.asarray(values[places])


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return "_" not in text  # which is for programs


def _is_like_a_number(text: str) -> bool:
    """Whether it is one, or one to people of some country: 1,013.5 or 1.013,5 or 12 %."""
    return _is_number(text) or _LIKE_A_NUMBER.fullmatch(text) is not None


def _check_varies(name: str, column: Column) -> None:
    there = column.values[~np.isnan(column.values)]
    if not len(there):
        raise DataLoadError(f"column {name} has no values", column=name)
    if there.min() == there.max():
        value = column.labels[0] if column.labels else f"{there[0]:g}"
        what = f"column {name} is constant: it is {value} in every row"
        raise DataLoadError(what, column=name)


def _check_values(name: str, column: Column, times: Times, *, strict: bool) -> None:
    values = column.values
    gone = np.isnan(values)
    if gone.any() and strict:
        at = told(times[int(np.argmax(gone))])
        what = (
            f"column {name} misses {int(gone.sum()):,} of {len(values):,} values, the first at "
            f"{at}; preprocessing.missing says what to do about it"
        )
        raise DataLoadError(what, column=name, missing=int(gone.sum()))
    endless = np.isinf(values)
    if endless.any():
        at = told(times[int(np.argmax(endless))])
        what = f"column {name} is infinite in {int(endless.sum()):,} rows, the first at {at}"
        raise DataLoadError(what, column=name, infinite=int(endless.sum()))


def _check_labels(name: str, values: Floats) -> None:
    there = values[~np.isnan(values)]
    if not np.isin(there, (0.0, 1.0)).all():
        what = f"column {name} must say 0 or 1: whether a row is an anomaly"
        raise DataLoadError(what, column=name)


def _gaps(table: Table) -> str | None:
    """Which steps have no row, in words."""
    apart = np.diff(table.spacing.positions)
    holes = np.flatnonzero(apart > 1)
    if table.spacing.step is None or not len(holes):
        return None
    steps = int((apart[holes] - 1).sum())
    after = told(table.times[holes[0]])
    return (
        f"{steps:,} rows are missing in {len(holes):,} gaps, the first after {after}, "
        f"where rows are {table.spacing.words} apart"
    )
