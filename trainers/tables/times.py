"""Times as nanoseconds since 1970 in UTC, read from whatever a table calls a time."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from trainers.tables.errors import DataLoadError

SECOND = 10**9
HOUR = 3600 * SECOND
DAY = 24 * HOUR
MONTH = "month"
EVEN_SHARE = 0.5
"""of all rows follow the one before in the step of the table; else there is none"""

ROWS_AT_ONCE = 50_000
"""that are looked at one by one: as objects they take much"""

Times = NDArray[np.int64]

_SPANS = ((DAY, "d"), (HOUR, "h"), (60 * SECOND, "min"), (SECOND, "s"), (10**6, "ms"))
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_UNITS = ((10**11, SECOND), (10**14, 10**6), (10**17, 10**3))
"""a number of seconds, milliseconds or microseconds is below this; all others are nanoseconds"""


class Spacing(NamedTuple):
    """How far apart rows are."""

    step: int | str | None
    """nanoseconds, or "month"; None: it is not even, and rows are counted instead of time"""
    positions: NDArray[np.int64]
    """of each row, counted in steps from the first one"""

    @property
    def words(self) -> str:
        """The step as a person says it."""
        if not isinstance(self.step, int):
            return self.step or "row"
        for unit, name in _SPANS:
            if self.step % unit == 0:
                return f"{self.step // unit} {name}"
        return f"{self.step} ns"

    def steps_in(self, span: int) -> int | None:
        """How many steps a span of nanoseconds has; None: no whole number of them."""
        if not isinstance(self.step, int) or span % self.step or span < self.step:
            return None
        return span // self.step


def nanoseconds(moment: datetime) -> int:
    """A time that has a zone, exactly."""
    return (moment - _EPOCH) // timedelta(microseconds=1) * 1000


def told(instant: int) -> str:
    """A time as it is written in messages and cards."""
    moment = _EPOCH + timedelta(microseconds=int(instant) // 1000)
    return moment.isoformat().replace("+00:00", "Z")


def instants(column: pa.ChunkedArray, name: str) -> tuple[Times, bool]:
    """The times of a column, and whether they have no zone, so that they are taken for UTC.

    Raises:
        DataLoadError: one of them is missing or no time, or some have a zone and others have none.
    """
    if column.null_count:
        row = pc.index(column.is_null(), pa.scalar(value=True)).as_py() + 1
        raise DataLoadError(f"time column {name}: row {row} has no time", column=name, row=row)
    kind = column.type
    if pa.types.is_dictionary(kind):
        column = column.cast(kind.value_type)
        kind = column.type
    if pa.types.is_string_view(kind):
        column = column.cast(kind := pa.large_string())
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return _of_text(column, name)
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        return _of_numbers(column, name), True
    if not (pa.types.is_timestamp(kind) or pa.types.is_date(kind)):
        raise DataLoadError(f"time column {name}: {kind} is no time", column=name)
    zone = getattr(kind, "tz", None)
    try:
        whole = column.cast(pa.timestamp("ns", tz=zone))
    except pa.ArrowInvalid as error:
        raise DataLoadError(f"time column {name}: {_line(error)}", column=name) from error
    return _numpy(whole), zone is None


def spacing(times: Times) -> Spacing:
    """The even step of times in order, if they have one; some steps may be missing."""
    rows = np.arange(len(times), dtype=np.int64)
    if len(times) < 2:
        return Spacing(None, rows)
    apart = np.diff(times)
    steps, counts = np.unique(apart, return_counts=True)
    step = int(steps[np.argmax(counts)])
    usual = counts.max() >= EVEN_SHARE * len(apart)
    if usual and step > 0 and not np.any(steps % step):
        return Spacing(step, (times - times[0]) // step)
    months = _months(times)
    return Spacing(None, rows) if months is None else Spacing(MONTH, months)


def local(times: Times, zone: str) -> Times:
    """The same moments as clocks in a zone show them, still as nanoseconds since 1970."""
    if zone == "UTC" or not len(times):
        return times
    info = ZoneInfo(zone)
    days = times // DAY
    known = np.arange(days.min(), days.max() + 2)
    offsets = np.array([_offset(int(day) * DAY, info) for day in known], dtype=np.int64)
    first = days - known[0]
    shift = offsets[first]
    for row in np.flatnonzero(shift != offsets[first + 1]):  # the clocks change on that day
        shift[row] = _offset(int(times[row]), info)
    return np.asarray(times + shift, dtype=np.int64)


def zone_of(values: Sequence[Any]) -> bool | None:
    """Whether times in text have a zone; None: some have one and some have none, or are no times.

    Raises:
        ValueError: the first that is no time.
    """
    having = {datetime.fromisoformat(value).tzinfo is not None for value in values}
    return having.pop() if len(having) == 1 else None


def _offset(instant: int, zone: ZoneInfo) -> int:
    there = datetime.fromtimestamp(instant / SECOND, zone).utcoffset()
    return 0 if there is None else there // timedelta(seconds=1) * SECOND


def _months(times: Times) -> NDArray[np.int64] | None:
    """Positions by month, where all are of one day and hour of different months."""
    moments = times.astype("datetime64[ns]")
    months = moments.astype("datetime64[M]")
    within = moments - months.astype("datetime64[ns]")
    count = months.astype(np.int64)
    if np.any(within != within[0]) or np.any(np.diff(count) <= 0):
        return None
    return np.asarray(count - count[0], dtype=np.int64)


def _of_text(column: pa.ChunkedArray, name: str) -> tuple[Times, bool]:
    for zone in (None, "UTC"):
        try:
            return _numpy(column.cast(pa.timestamp("ns", tz=zone))), zone is None
        except pa.ArrowInvalid:
            continue  # the other one, or one by one, which finds what is wrong
    found, first, row = np.empty(len(column), dtype=np.int64), True, 0
    naive = True
    for batch in pa.table([column], names=[name]).to_batches(max_chunksize=ROWS_AT_ONCE):
        for value in batch[0].to_pylist():
            row += 1
            try:
                moment = datetime.fromisoformat(value.strip())
            except ValueError:
                odd = repr(value[:40])
                what = f"time column {name}: row {row} has {odd}, which is no time in ISO 8601"
                raise DataLoadError(what, column=name, row=row) from None
            if first:
                naive, first = moment.tzinfo is None, False
            if (moment.tzinfo is None) != naive:
                having = "a zone" if naive else "no zone"
                what = (
                    f"time column {name}: row {row}, {value!r}, has {having}, unlike rows before it"
                )
                raise DataLoadError(what, column=name, row=row)
            found[row - 1] = nanoseconds(moment.replace(tzinfo=UTC) if naive else moment)
    return found, naive


def _of_numbers(column: pa.ChunkedArray, name: str) -> Times:
    values = column.to_numpy()
    if not np.all(np.isfinite(values)):
        raise DataLoadError(f"time column {name}: some times are not finite", column=name)
    largest = float(np.max(np.abs(values), initial=0))
    unit = next((unit for below, unit in _UNITS if largest < below), 1)
    if values.dtype.kind == "f":
        return np.asarray(np.round(values * unit), dtype=np.int64)
    return np.asarray(values.astype(np.int64) * unit, dtype=np.int64)


def _numpy(column: pa.ChunkedArray) -> Times:
    return np.array(column.cast(pa.int64()).to_numpy(), dtype=np.int64)


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
