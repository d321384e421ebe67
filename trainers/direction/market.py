"""Quotes and features as they are read, and what became of the price; this imports NumPy and Arrow.

What is known at a moment is the last of its quotes: of several with one time the others are left
out, before anything is built.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from trainers.contract import RowRemark
from trainers.direction.boosting import DOWN, FLAT, UP
from trainers.direction.features import RETURNS, v1
from trainers.direction.options import MEMORY_FACTOR, V1, Rule
from trainers.tables import Config, DataLoadError, memory, sources
from trainers.tables.sources import Source, missing
from trainers.tables.table import Column, Table
from trainers.tables.times import SECOND, Spacing, Times, instants, told

Floats = NDArray[np.float64]
Rows = NDArray[np.int64]

TIME = "time"
BASIS_POINT = 1e-4
ROUNDING = 1e-9
"""of a price: what differs by less is the same price, calculated in another way"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Market:
    """What was quoted, a row for each moment."""

    times: Times
    """strictly rising"""
    mid: Floats
    spread: Floats
    x: Floats
    """(rows, features); NaN where nobody knows yet"""
    sha256: str
    """of all that is read, whatever it lies in"""
    remarks: tuple[RowRemark, ...]
    memory_bytes: int
    """that it takes to learn from it, about"""

    @property
    def known(self) -> NDArray[np.bool_]:
        """Which rows have all features."""
        return np.asarray(~np.isnan(self.x).any(axis=1))


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of the price within the horizon after each row of a market."""

    known: NDArray[np.bool_]
    """which rows have one"""
    moved: Floats
    """mid price at the end of the horizon by that of the row, minus 1; NaN: nobody knows"""
    classes: Rows
    """of the rows that have one; else flat"""
    remarks: tuple[RowRemark, ...] = ()


def outcome(market: Market, rule: Rule) -> Outcome:
    """What became of the price after each row.

    At the end of the horizon holds the last quote at or before it. A row has an outcome where the
    horizon ends within the table, and where there is a quote within it: without one nobody can
    tell a price that stood still from quotes that were lost.
    """
    times, horizon = market.times, rule.horizon_s * SECOND
    last = np.searchsorted(times, times + horizon, side="right") - 1
    within = times + horizon <= times[-1]
    silent = within & (last == np.arange(len(times)))
    known = within & ~silent
    change = market.mid[last] - market.mid
    said = (
        f"{int(silent.sum()):,} quotes are the last for more than {rule.horizon_s} s, and are left "
        "out: whether the price stood still nobody knows"
    )
    moved = np.where(known, change / market.mid, np.nan)
    return Outcome(
        known=known, moved=moved, classes=np.where(known, _classes(change, market, rule), FLAT),
        remarks=(RowRemark(code="silent", line=said),) if silent.any() else (),
    )  # fmt: skip


def moved_before(market: Market, rule: Rule) -> Rows:
    """The class of the move over the horizon *before* each row; flat where that is not known."""
    first = np.searchsorted(market.times, market.times - rule.horizon_s * SECOND, side="right") - 1
    there = first >= 0
    change = market.mid - market.mid[np.maximum(first, 0)]
    return np.where(there, _classes(change, market, rule), FLAT)


def cost(market: Market, rule: Rule) -> Floats:
    """What a trade that begins at each row costs, there and back, as a share of the price."""
    if rule.cost_bps is not None:
        return np.full(len(market.times), rule.cost_bps * BASIS_POINT)
    return market.spread / market.mid


def _classes(change: Floats, market: Market, rule: Rule) -> Rows:
    if rule.flat_bps is None:
        limit = market.spread / 2
    else:
        limit = market.mid * (rule.flat_bps * BASIS_POINT)
    limit = limit + ROUNDING * market.mid
    return np.where(change > limit, UP, np.where(change < -limit, DOWN, FLAT))


def read(
    places: Sequence[str],
    home: Path | None,
    features: Sequence[str],
    working: Callable[[], None] = lambda: None,
) -> Market:
    """The features in some files, or those of the quotes in them.

    Args:
        places: files, or folders of them; each file is by itself, as a day is.
        home: in which relative paths begin; None: the working directory.
        features: in the order of the columns of `x`.
        working: is called every now and then meanwhile.

    Raises:
        DataLoadError: a file, a column or a row is not what it must be.
        ResourceError: the machine has too little memory for it.
    """
    found = [_source(file) for place in places for file in _files(place, home)]
    rows = sum(source.rows() for source in found)
    wanted = memory.needed(
        rows,
        columns=4,
        features=len(features),
        value=memory.VALUE_BYTES,
        factor=MEMORY_FACTOR,
        share=1.0,
    )
    memory.require(wanted, rows, len(features), what="quotes", less="fewer days need less")
    days = []
    for source in found:
        working()
        days.append(_day(source, features, working))
    days.sort(key=lambda day: int(day.times[0]))
    for before, after in pairwise(days):
        if after.times[0] <= before.times[-1]:
            what = f"two files have quotes of {told(int(after.times[0]))}"
            raise DataLoadError(what)
    times, mid, spread, x = (
        np.concatenate([getattr(day, name) for day in days]) for name in _Day.__slots__
    )
    columns = {"mid_price": mid, "spread": spread}
    columns |= {f"feature {name}": x[:, place] for place, name in enumerate(features)}
    content = Table(
        times,
        {name: Column(values) for name, values in columns.items()},
        False,
        Spacing(None, times),
    )
    unknown = int(np.isnan(x).any(axis=1).sum())
    if unknown == len(times):
        raise DataLoadError(f"none of {len(times):,} quotes has all features")
    said = f"{unknown:,} of {len(times):,} quotes lack a feature, and are left out"
    return Market(
        times=times, mid=mid, spread=spread, x=x, sha256=content.sha256,
        remarks=(
            (RowRemark(code="left_out", line=said, option="model"),)
            if unknown > RETURNS * len(days)
            else ()
        ),
        memory_bytes=wanted,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Day:
    """What is in one file."""

    times: Times
    mid: Floats
    spread: Floats
    x: Floats


def _files(place: str, home: Path | None) -> list[Path]:
    """The files at a place, in folders below it, too."""
    path = (home or Path.cwd()) / place
    if not path.exists():
        raise DataLoadError(f"Table not found: {place}", table=place)
    if not path.is_dir():
        return [path]
    found = sorted(
        one
        for one in path.rglob("*")
        if one.suffix in sources.SUFFIXES and one.name[0] not in "._" and one.is_file()
    )
    if not found:
        raise DataLoadError(f"{place} has no file that ends in .parquet or .csv", table=place)
    return found


def _source(file: Path) -> Source:
    return sources.find(Config(data=str(file)), None)


def _day(source: Source, features: Sequence[str], working: Callable[[], None]) -> _Day:
    """The features in a file, or those of the quotes in it."""
    kinds = source.kinds()
    quotes = "mid_price" not in kinds and ("bid" in kinds or "ask" in kinds)
    base = ("bid", "ask") if quotes else ("mid_price", "spread")
    built = V1 if quotes else ()
    wanted = list(dict.fromkeys([*base, *(name for name in features if name not in built)]))
    for name in (TIME, *wanted):
        if name not in kinds:
            raise missing(name, kinds, f" in {Path(source.where).name}")
        if name != TIME and kinds[name] != "number":
            what = f"column {name} must be numbers, and is {kinds[name]}"
            raise DataLoadError(what, column=name)
    table = source.read([TIME, *wanted], TIME, working)
    times, _ = instants(table[TIME], TIME)
    if not len(times):
        raise DataLoadError(f"{source.where} has no rows")
    _check_order(times)
    columns = {name: _values(table, name) for name in wanted}
    for name, values in columns.items():
        _check_values(name, values, times, whole=name in base)
    if quotes:
        _check_quotes(columns["bid"], columns["ask"], times)
    else:
        _check_prices(columns["mid_price"], columns["spread"], times)
    last = np.append(np.diff(times) > 0, True)
    columns = {name: values[last] for name, values in columns.items()}
    if quotes:
        columns |= v1(columns["bid"], columns["ask"])
    x = np.stack([columns[name] for name in features], axis=1)
    return _Day(times[last], columns["mid_price"], columns["spread"], x)


def _values(table: pa.Table, name: str) -> Floats:
    try:
        column = table[name].cast(pa.float64(), safe=False)
    except pa.ArrowException as error:
        what = f"column {name} must be numbers: {' '.join(str(error).split())[:200]}"
        raise DataLoadError(what, column=name) from error
    return np.array(column.to_numpy(), dtype=np.float64)


def _check_order(times: Times) -> None:
    back = np.diff(times) < 0
    if back.any():
        row = int(np.argmax(back)) + 1
        what = (
            f"time is not in order: row {row + 1}, {told(int(times[row]))}, "
            f"comes after {told(int(times[row - 1]))}"
        )
        raise DataLoadError(what, row=row + 1)


def _check_values(name: str, values: Floats, times: Times, *, whole: bool) -> None:
    for wrong, what in ((np.isinf(values), "is infinite"), (np.isnan(values), "is missing")):
        if wrong.any() and (whole or what == "is infinite"):
            raise _refused(f"column {name} {what}", wrong, times)


def _check_quotes(bid: Floats, ask: Floats, times: Times) -> None:
    for name, prices in (("bid", bid), ("ask", ask)):
        _check_positive(name, prices, times)
    if (crossed := bid > ask).any():
        row = int(np.argmax(crossed))
        what = f"bid is above ask, {bid[row]:g} above {ask[row]:g},"
        raise _refused(what, crossed, times)


def _check_prices(mid: Floats, spread: Floats, times: Times) -> None:
    _check_positive("mid_price", mid, times)
    if (crossed := spread < 0).any():
        raise _refused("column spread is below 0", crossed, times)


def _check_positive(name: str, prices: Floats, times: Times) -> None:
    if (wrong := prices <= 0).any():
        raise _refused(f"column {name} is no price above 0", wrong, times)


def _refused(what: str, wrong: NDArray[np.bool_], times: Times) -> DataLoadError:
    at = told(int(times[int(np.argmax(wrong))]))
    rows = int(wrong.sum())
    return DataLoadError(f"{what} in {rows:,} of {len(times):,} rows, the first at {at}", rows=rows)


def part_told(times: Times) -> dict[str, Any]:
    """How many rows a part has, and from when to when."""
    return {"rows": len(times), "from": told(int(times[0])), "to": told(int(times[-1]))}
