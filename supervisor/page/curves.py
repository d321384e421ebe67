"""What a run has measured: one curve for each metric, over all of its attempts."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from supervisor.page.lines import Lines
from supervisor.page.trace import Points, Trace
from trainers.contract import RunFolder

READ_BYTES = 32 * 1024 * 1024
"""of the metrics of a run are read: all that our trainers keep"""
LINE_BYTES = 256 * 1024
"""longer lines are no metrics of ours"""
METRICS_MAX = 64
"""metrics of a run that have a curve, the first that come"""
OTHERS_MAX = 1000
"""metrics without one that are counted"""
NAME_MAX = 200
"""letters in the name of a metric"""
STEP_MAX = 10**18
STEP = "step"
OWN = frozenset({STEP, "mode", "at"})
"""fields of a line that are no metric"""


class Curve(msgspec.Struct, frozen=True, kw_only=True):
    """One metric of a run."""

    name: str
    points: Points
    last: float | None
    """its newest value; None: that is not known"""


class Curves(msgspec.Struct, frozen=True, kw_only=True):
    """The metrics of a run."""

    by: Literal["step", "time"]
    """what they are drawn over: steps, or wall time in seconds since 1970"""
    curves: tuple[Curve, ...]
    left_out: int
    """metrics for which there was no room"""
    whole: bool
    """from the first step on; otherwise there was more than is read"""


class Metrics:
    """The metrics of one run, read on from where they were read last.

    A line counts unless a later one has the same step or an earlier one: what was made again after
    a crash takes the place of what was lost, so there is one curve and never two. What is neither
    a finite number nor null is no point of any.

    Args:
        folder: that of the run.
        only: the metric that is wanted; None: all of them.
        read_bytes: how much is read of them at once, the newest.
    """

    def __init__(
        self, folder: RunFolder, *, only: str | None = None, read_bytes: int = READ_BYTES
    ) -> None:
        self._lines = Lines(folder.metrics, most_bytes=read_bytes, line_bytes=LINE_BYTES)
        self._only = only
        self._traces: dict[str, Trace] = {}
        self._others: set[str] = set()
        self._step = -1

    def refresh(self) -> None:
        """Read what has been written since."""
        for raw in self._lines.fresh():
            try:
                line = msgspec.json.decode(raw)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                continue  # torn, or none of ours
            if isinstance(line, dict):
                self._read(line)

    def curves(self, by: Literal["step", "time"], pixels: int) -> Curves:
        """Every metric, with at most two points for each of so many pixels."""
        return Curves(
            by=by,
            curves=tuple(
                Curve(name=name, points=trace.points(pixels, by_time=by == "time"), last=trace.last)
                for name, trace in self._traces.items()
            ),
            left_out=len(self._others),
            whole=not self._lines.left_out,
        )

    def lately(self, name: str, since: float, until: float, pixels: int) -> Points | None:
        """One metric over a span of wall time; None: there is none of it."""
        trace = self._traces.get(name)
        if trace is None:
            return None
        return trace.points(pixels, since=since, until=until, by_time=True)

    def _read(self, line: dict[str, Any]) -> None:
        step, at = line.get(STEP), _number(line.get("at"))
        if type(step) is not int or not 0 <= step < STEP_MAX or at is None:
            return
        if step < self._step:
            for trace in self._traces.values():
                trace.cut(step)
        self._step = step
        for name, value in line.items():
            if name in OWN or self._only not in (None, name):
                continue
            number = _number(value)
            if (number is None and value is not None) or len(name) > NAME_MAX:
                continue
            if name in self._traces:
                self._traces[name].add(step, number, at)
            elif len(self._traces) < METRICS_MAX:
                self._traces[name] = Trace()
                self._traces[name].add(step, number, at)
            elif len(self._others) < OTHERS_MAX:
                self._others.add(name)


def _number(value: object) -> float | None:
    """A number, which is finite, since it comes from JSON; None: it is none, or far too large."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value)
    except OverflowError:
        return None
