"""Real failures as worlds: from files of crashes, of availability, or of a whole cluster.

Files that are understood, as CSV with a header or as a JSON list of objects:
    `down_h`, and if known `up_h`: the machine went down, and was back;
    other units by other endings: `_ms`, `_s`, `_min`, `_h`, `_days`;
    `node`: which machine, if there are several.
Besides: a JSON list of numbers or a CSV of one column, which are crashes in hours; the traces
of Bamboo (`milliseconds,add|remove,node`, NSDI 2023), and of InfiniteHBD (`fault_start` and
`fault_end` in days, SIGCOMM 2025). Times count from the beginning of the trace, or are
seconds since 1970 and count from the first.

How a trace becomes a machine with modes. A trace does not say what the load was, so it is
read in two ways, and both are run: its crashes come *whatever the mode* (then falling back
never helps), or *in heavier modes* alone (then they would not have come in the lightest).
Three machines are made of it: each *node* for itself, if it went down at least four times;
the *fleet*, a machine that goes down whenever any node does; and the *chain*, one that lives
through the nodes' lives one after the other. The nodes of a cluster fail every few months,
which gives no policy anything to decide. So time runs faster, until there are as many crashes a
day as `NODE_PER_DAY` and `PER_DAY` say; it is never slowed down. Outages are as long as they
were where time runs as it did. Elsewhere (days of a technician, quickened, are no reboots), for
a fleet, whose outages overlap, and where a trace tells none, the world's own downtimes count.
"""

from __future__ import annotations

import csv
import io
import itertools
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from supervisor.errors import SupervisorError
from supervisor.simulation.families import machine
from supervisor.simulation.worlds import Strike, World, luck

CRASHES_LEAST = 4
"""a node that went down less often has no life to decide about"""
NODE_PER_DAY = 4.0
PER_DAY = (24.0, 96.0)
"""crashes a day, on average, in the life of a node, and in those of fleet and chain"""
NEW_H = 0.1
"""in a chain: from the end of one node's life to the beginning of the next"""
MACHINES = 8
"""machines of different speeds and downtimes that live through each fleet and chain"""
DAYS_MAX = 60.0
SPAN_LEAST_H = 1e-3
EPOCH_H = 100_000.0
"""times of more than eleven years are dates"""
PER_HOUR = {"ms": 3.6e6, "s": 3600.0, "min": 60.0, "h": 1.0, "days": 1 / 24}
"""how many of each unit are an hour"""


class UnknownTrace(SupervisorError):
    """A file that cannot be read as a trace of failures."""

    exit_code = 2

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(f"{path} is no trace of failures: {why}")


class TooCalm(SupervisorError):
    """A trace in which hardly anything happens."""

    exit_code = 2

    def __init__(self) -> None:
        super().__init__(
            f"no machine of the trace went down {CRASHES_LEAST} times, nor did all of them together"
        )


class Trace(msgspec.Struct, frozen=True):
    """When one machine went down, in hours since the beginning, and for how long."""

    name: str
    hours: float
    """how long it was watched"""
    strikes: tuple[Strike, ...]
    """in their order, none within another"""

    @property
    def per_day(self) -> float:
        """How often it went down."""
        return 24 * len(self.strikes) / self.hours


def read(path: Path) -> tuple[Trace, ...]:
    """The machines of a trace.

    Raises:
        UnknownTrace: the file is missing, or nothing that is understood.
    """
    try:
        raw = path.read_text(encoding="utf-8-sig")  # some programs put a mark first
    except OSError as error:
        raise UnknownTrace(path, (error.strerror or str(error)).lower()) from None
    except UnicodeDecodeError:
        raise UnknownTrace(path, "it is no text") from None
    try:
        outages = _outages(_records(raw))
    except ValueError as error:
        raise UnknownTrace(path, str(error)) from None
    if not outages:
        raise UnknownTrace(path, "nothing in it ever goes down")
    return _traces(outages)


def worlds(traces: Sequence[Trace], seed: int = 1) -> tuple[World, ...]:
    """Every machine that can be made of the traces, in both readings.

    Raises:
        TooCalm: there is none.
    """
    made: list[World] = []
    nodes = [trace for trace in traces if len(trace.strikes) >= CRASHES_LEAST]
    lives = [("node", quickened(node, NODE_PER_DAY), 1) for node in nodes]
    for name, whole in (("fleet", fleet(traces)), ("chain", chain(traces))):
        if len(traces) > 1 and len(whole.strikes) >= CRASHES_LEAST:
            # One that crashes often enough by itself is not quickened, so it comes but once.
            paced = dict.fromkeys(quickened(whole, per_day) for per_day in PER_DAY)
            lives += [(f"{name} {one.per_day:.0f}/d", one, MACHINES) for one in paced]
    if not lives:
        raise TooCalm
    for (name, trace, count), (reading, struck) in itertools.product(
        lives, (("any mode", 0), ("heavier modes", 1))
    ):
        for number in range(count):
            rng = luck(seed, name, trace.name, number)
            days = min(DAYS_MAX, trace.hours / 24)
            made.append(
                msgspec.structs.replace(
                    machine(rng, f"{name}, {reading}"),
                    strikes=tuple(strike for strike in trace.strikes if strike.at_h < days * 24),
                    struck=struck,
                    days=days,
                )
            )
    return tuple(made)


def fleet(traces: Iterable[Trace]) -> Trace:
    """A machine that goes down whenever any of them does; how long each takes is left open."""
    traces = tuple(traces)
    at_h = sorted({strike.at_h for trace in traces for strike in trace.strikes})
    hours = max(trace.hours for trace in traces)
    return Trace("fleet", hours, tuple(Strike(when_h, 0.0) for when_h in at_h))


def chain(traces: Iterable[Trace]) -> Trace:
    """A machine that lives through all their lives, one after the other."""
    strikes: list[Strike] = []
    begin_h = 0.0
    for trace in traces:
        strikes += [Strike(begin_h + strike.at_h, strike.off_h) for strike in trace.strikes]
        begin_h += trace.hours
        if trace.strikes and trace.strikes[-1].at_h >= trace.hours:  # it never came back
            strikes[-1] = Strike(begin_h, NEW_H)
            begin_h += NEW_H
    return Trace("chain", begin_h, tuple(strikes))


def quickened(trace: Trace, per_day: float) -> Trace:
    """The trace in quicker time, so that it crashes that often; as it is if it does already."""
    factor = trace.per_day / per_day
    if factor >= 1:
        return trace
    strikes = tuple(Strike(strike.at_h * factor, 0.0) for strike in trace.strikes)
    return Trace(trace.name, trace.hours * factor, strikes)


# How files say it


class _Outage(msgspec.Struct, frozen=True):
    """One record: a machine that appears, goes down, comes back. All but one may be unknown."""

    node: str
    down_h: float | None = None
    up_h: float | None = None


def _records(raw: str) -> list[Any]:
    """The rows of a file: objects, numbers, or lists of words."""
    if raw.lstrip()[:1] in ("[", "{"):
        try:
            rows = msgspec.json.decode(raw)
        except msgspec.DecodeError as error:
            raise ValueError(f"its JSON is broken: {error}") from None
        if not isinstance(rows, list):
            raise ValueError("its JSON is not a list")
        return rows
    table = [[cell.strip() for cell in row] for row in csv.reader(io.StringIO(raw)) if any(row)]
    if not table:
        raise ValueError("it is empty")
    head, *rest = table
    if any(_is_time(title) for title in head):
        return [dict(zip(head, row, strict=False)) for row in rest]
    return [row[0] if len(row) == 1 else row for row in table]


def _outages(rows: Iterable[Any]) -> list[_Outage]:
    outages = []
    for number, row in enumerate(rows, 1):
        try:
            outages.append(_outage(row))
        except (ValueError, TypeError, KeyError, IndexError):
            raise ValueError(f"record {number} is {str(row)[:80]!r}") from None
    times = [t for one in outages for t in (one.down_h, one.up_h) if t is not None]
    if any(not math.isfinite(t) or t < 0 for t in times):
        raise ValueError("a time is negative or not finite")
    first = min(times, default=0.0)
    if first < EPOCH_H:
        return outages
    return [
        _Outage(
            one.node,
            None if one.down_h is None else one.down_h - first,
            None if one.up_h is None else one.up_h - first,
        )
        for one in outages
    ]


def _outage(row: Any) -> _Outage:
    match row:
        case int() | float() | str() if not isinstance(row, bool):
            return _Outage("machine", down_h=float(row))
        case [ms, "add", node]:
            return _Outage(node, up_h=float(ms) / PER_HOUR["ms"])
        case [ms, "remove", node]:
            return _Outage(node, down_h=float(ms) / PER_HOUR["ms"])
        case {"node_id": node, "event_time": days, "event_type": "fault_start"}:
            return _Outage(str(node), down_h=float(days) * 24)
        case {"node_id": node, "event_time": days, "event_type": "fault_end"}:
            return _Outage(str(node), up_h=float(days) * 24)
        case dict():
            times = {
                title.partition("_")[0]: float(value) / PER_HOUR[title.partition("_")[2]]
                for title, value in row.items()
                if _is_time(title) and value not in ("", None)
            }
            if "down" not in times:
                raise ValueError("no time at which it went down")
            return _Outage(str(row.get("node", "machine")), times["down"], times.get("up"))
        case _:
            raise ValueError("not understood")


def _is_time(title: str) -> bool:
    name, _, unit = title.partition("_")
    return name in ("down", "up") and unit in PER_HOUR


def _traces(outages: Iterable[_Outage]) -> tuple[Trace, ...]:
    """Each node's outages in their order, from its first appearance on."""
    moments: dict[str, list[tuple[float, bool]]] = {}
    """node: when it went down (True) or came up (False)"""
    for outage in outages:
        known = moments.setdefault(outage.node, [])
        known += [(outage.down_h, True)] if outage.down_h is not None else []
        known += [(outage.up_h, False)] if outage.up_h is not None else []
    end_h = max(at_h for known in moments.values() for at_h, _ in known)
    return tuple(
        # Of two at once the outage comes first: it was a short one.
        _trace(node, sorted(known, key=lambda moment: (moment[0], not moment[1])), end_h)
        for node, known in moments.items()
    )


def _trace(node: str, moments: list[tuple[float, bool]], end_h: float) -> Trace:
    # A node that first comes up did not exist before, and one that goes for good exists no more.
    (first_h, first_down), (last_h, last_down) = moments[0], moments[-1]
    begin_h = 0.0 if first_down else first_h
    if not first_down and last_down:
        end_h = last_h
    told = not all(down for _, down in moments)
    strikes: list[Strike] = []
    up = True
    for at_h, down in moments:
        if down and (up or not told):
            strikes.append(Strike(at_h - begin_h, 0.0))
        elif not down and not up:
            strikes[-1] = Strike(strikes[-1].at_h, at_h - begin_h - strikes[-1].at_h)
        up = not down
    return Trace(node, max(end_h - begin_h, SPAN_LEAST_H), tuple(strikes))
