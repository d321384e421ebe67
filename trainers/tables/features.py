"""Features of a time series by their names: calendar, lags, rolling statistics.

What is built knows of a column nothing that is younger than the horizon before a row's time. A
column of a table is taken as it stands in its row: whoever forecasts must have it by then.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from trainers.tables.config import Config, named_lag
from trainers.tables.errors import ConfigValidationError
from trainers.tables.sources import missing
from trainers.tables.table import Series
from trainers.tables.times import DAY, HOUR, Spacing, Times, local

CALENDAR = ("hour_of_day", "day_of_week", "day_of_month", "month", "is_weekend")
CHUNK_ROWS = 65_536
"""whose windows are looked at together"""
CHUNK_VALUES = 2**22

_ROLLING = re.compile(
    r"(?P<column>.+)_rolling_(?P<statistic>mean|std|min|max)_(?P<count>[0-9]{1,9})(?P<hours>h?)"
)
_HISTORICAL = re.compile(r"historical_(?P<statistic>avg|std|min|max)_(?P<count>[0-9]{1,9})h")

Floats = NDArray[np.float64]


class Feature(NamedTuple):
    """One column of the matrix, and what it is made of."""

    name: str
    kind: Literal["column", "calendar", "lag", "rolling"]
    column: str | None = None
    """of the table, which it is made of"""
    length: int = 0
    """of a lag or a window"""
    hours: bool = False
    """that is counted in hours, not in steps"""
    statistic: str = ""

    def steps(self, spacing: Spacing) -> int:
        """How long its lag or window is.

        Raises:
            ConfigValidationError: the rows have no even step, or none that hours are made of.
        """
        if spacing.step is None:
            what = f"{self.name} needs rows that are evenly spaced, and they are not"
            raise ConfigValidationError("features", what)
        if not self.hours:
            return self.length
        steps = spacing.steps_in(self.length * HOUR)
        if steps is None:
            what = f"{self.name}: {self.length} h are no whole number of steps of {spacing.words}"
            raise ConfigValidationError("features", what)
        return steps

    def reach(self, spacing: Spacing, horizon: int) -> int:
        """How many steps before a row's time it begins to look."""
        if self.kind == "lag":
            return self.steps(spacing)
        if self.kind == "rolling":
            return horizon + self.steps(spacing) - 1
        return 0


def plan(config: Config, known: Iterable[str]) -> tuple[Feature, ...]:
    """How each feature is had: a column of that name goes before what could be built.

    Raises:
        DataLoadError: no column is called so, and nothing of that name can be built.
        ConfigValidationError: what is to be built cannot be.
    """
    there = list(known)
    return tuple(_planned(name, config, there) for name in config.features)


def values(
    feature: Feature, series: Series, positions: NDArray[np.int64], config: Config
) -> Floats:
    """A feature at some positions of the series; NaN where something that it needs is missing."""
    if feature.kind == "calendar":
        return calendar(feature.name, local(series.times_at(positions), config.zone))
    column = series.past[feature.column or ""].values
    if feature.kind == "column":
        return column[positions]
    if feature.kind == "lag":
        return _before(column, positions - feature.steps(series.spacing))
    window = feature.steps(series.spacing)
    return rolling(column, positions - config.horizon, window, feature.statistic)


def calendar(name: str, clock: Times) -> Floats:
    """A feature of the calendar, of times as clocks show them; Monday is day 0."""
    days = clock // DAY
    if name == "hour_of_day":
        return np.asarray(clock % DAY // HOUR, dtype=np.float64)
    week = (days + 3) % 7  # 1970 began on a Thursday
    if name == "day_of_week":
        return np.asarray(week, dtype=np.float64)
    if name == "is_weekend":
        return np.asarray(week >= 5, dtype=np.float64)
    dates = days.astype("datetime64[D]")
    months = dates.astype("datetime64[M]")
    if name == "month":
        return np.asarray(months.astype(np.int64) % 12 + 1, dtype=np.float64)
    within = (dates - months.astype("datetime64[D]")).astype(np.int64)
    return np.asarray(within + 1, dtype=np.float64)


def _planned(name: str, config: Config, known: list[str]) -> Feature:
    if name in known:
        return Feature(name, "column", name)
    if name in CALENDAR:
        return Feature(name, "calendar")
    if match := _HISTORICAL.fullmatch(name):
        if config.target is None:
            raise ConfigValidationError("features", f"{name} needs a target")
        statistic = {"avg": "mean"}.get(match["statistic"], match["statistic"])
        found = Feature(
            name, "rolling", config.target, int(match["count"]), hours=True, statistic=statistic
        )
    elif match := _ROLLING.fullmatch(name):
        hours = bool(match["hours"])
        count = int(match["count"])
        found = Feature(name, "rolling", match["column"], count, hours, match["statistic"])
    elif lag := named_lag(name):
        found = Feature(name, "lag", *lag)
    else:
        raise missing(name, [*known, *CALENDAR], ", and nothing of that name can be built")
    if found.column not in known:
        raise missing(found.column or "", known, f", which {name} is made of")
    least = 2 if found.statistic == "std" else 1
    if found.kind == "rolling" and found.length < least:
        raise ConfigValidationError("features", f"{name}: its window must be at least {least}")
    return found


def _before(column: Floats, at: NDArray[np.int64]) -> Floats:
    """Values at positions, NaN where these lie before the beginning."""
    found = np.full(len(at), np.nan)
    inside = (at >= 0) & (at < len(column))
    found[inside] = column[at[inside]]
    return found


def rolling(column: Floats, ends: NDArray[np.int64], window: int, statistic: str) -> Floats:
    """A statistic of the `window` values up to each end; NaN where one of them is missing.

    The standard deviation is that of a sample, as in SQL and pandas.
    """
    found = np.full(len(ends), np.nan)
    if len(column) < window:
        return found
    windows = np.lib.stride_tricks.sliding_window_view(column, window)
    rows = np.flatnonzero(ends >= window - 1)
    at_once = max(1, min(CHUNK_ROWS, CHUNK_VALUES // window))
    for begin in range(0, len(rows), at_once):
        some = rows[begin : begin + at_once]
        looked_at = windows[ends[some] - window + 1]
        if statistic == "std":
            found[some] = looked_at.std(axis=1, ddof=1)
        else:
            found[some] = getattr(looked_at, statistic)(axis=1)
    return found
