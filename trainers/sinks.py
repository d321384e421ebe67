"""Where that goes which a trainer says: its output, its heartbeat, its metrics and its curves.

Whoever reads it may be away, and the disk may be full: a word that cannot be said is an error of
the disk at most, for the session to tell, and never the end of a training.

Curves are files of TensorBoard. Its own writer would take a light trainer twice the memory and a
quarter of a second at each start, and so they are written here (`trainers.records`).
"""

from __future__ import annotations

import os
import re
import sys
import time
from collections import Counter
from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import ClassVar, NamedTuple, Protocol

import msgspec

from trainers import durable, records
from trainers.contract import HEARTBEAT_MAX_BYTES, Heartbeat, Level, Remark, RunFolder

METRICS_MAX_BYTES = 16 * 1024 * 1024
"""`metrics.jsonl` is renamed to `metrics.jsonl.1` beyond this size"""
CURVES_THIN_BYTES = 16 * 1024 * 1024
"""each time that the curves of a run grow by as much, half as many of its lines are added"""

EVENTS = re.compile(r"events\.out\.tfevents\.([0-9]{10})(?:\..*)?")
"""a file of TensorBoard, which reads them in the order of their names; ours or another program's"""
KINDS_MAX = 1000
"""sets of names that are told apart"""
NUMBER_MAX = 9_999_999_999


class Line(NamedTuple):
    """What a trainer has measured at one place of its run."""

    step: int
    at: float
    """wall time, seconds since 1970"""
    own: Mapping[str, object]
    """what the session says in every line; the step is there, too"""
    values: Mapping[str, float | None]
    file_only: Collection[str]
    """names of values that are no curve"""


class Sink(Protocol):
    """A place for lines."""

    what: ClassVar[str]
    """what is kept there, for people"""

    def write(self, line: Line) -> None:
        """Add a line.

        Raises:
            UnreadableFile: something else is in its place.
            OSError: the disk or the rights forbid it; at most this line is missing.
        """


class Metrics:
    """`metrics.jsonl`: every line, as JSON."""

    what: ClassVar[str] = "metrics"

    def __init__(self, path: Path) -> None:
        self._path = path

    def write(self, line: Line) -> None:
        """Append a line; see `Sink`."""
        content = msgspec.json.encode({**line.own, **line.values})
        durable.append(self._path, content, max_bytes=METRICS_MAX_BYTES)


class Curves:
    """TensorBoard's files: one curve over all attempts.

    Each attempt has a file of its own. It begins with the step from which on TensorBoard forgets
    what earlier ones have written, since these steps are made again. Nothing is kept open, so there
    is nothing that a kill could lose.

    Args:
        folder: where they lie; made with the first line.
        began: the step that this attempt goes on from.
    """

    what: ClassVar[str] = "curves of TensorBoard"

    def __init__(self, folder: Path, began: int) -> None:
        self._folder = folder
        self._began = began
        self._path: Path | None = None
        self._size_bytes = 0
        """of all that was written for the run"""
        self._lines: Counter[frozenset[str]] = Counter()
        """by their names: of several kinds of lines each is thinned for itself"""

    def write(self, line: Line) -> None:
        """Add a point to the curve of each value that is known; see `Sink`."""
        points = b"".join(
            records.point(name, value)
            for name, value in line.values.items()
            if value is not None and name not in line.file_only
        )
        if not points:
            return
        durable.make_folder(self._folder)
        path = self._path = self._path or self._next(int(line.at))
        kind = frozenset(line.values)
        if len(self._lines) > KINDS_MAX:
            self._lines.clear()
        self._lines[kind] += 1
        # The name is the newest and stays that: a reader has done with those before.
        if (self._lines[kind] - 1) % 2 ** (self._size_bytes // CURVES_THIN_BYTES):
            return
        record = records.event(line.step, line.at, records.summary(points))
        handle = durable.open_log(path)
        try:
            size = os.fstat(handle).st_size
            if size == 0:
                record = self._head(line) + record
            durable.add(handle, record, size)
        finally:
            os.close(handle)
        self._size_bytes += len(record)

    def _head(self, line: Line) -> bytes:
        # What was said at the very step that was gone on from is the past, unless it is said again.
        forgotten = min(self._began + 1, line.step)
        head = records.event(0, line.at, records.FORMAT)
        return head + records.event(forgotten, line.at, records.START)

    def _next(self, now_s: int) -> Path:
        """A name behind all that are there, also where the clock was set back."""
        number = now_s
        with os.scandir(self._folder) as entries:
            for entry in entries:
                if there := EVENTS.fullmatch(entry.name):
                    number = max(number, int(there[1]) + 1)
                    self._size_bytes += entry.stat(follow_symlinks=False).st_size
        return self._folder / f"events.out.tfevents.{min(number, NUMBER_MAX):010d}"


def write_heartbeat(folder: RunFolder, heartbeat: Heartbeat) -> None:
    """Replace the heartbeat; on a full disk in place, and otherwise not at all."""
    content = msgspec.json.encode(heartbeat)
    try:
        durable.write(folder.heartbeat, content, sync=False)
    except OSError:
        # A full disk must not look like a hang. Overwriting the old file in place needs no
        # new block; a reader that meets it half written sees an unreadable one, and the next.
        with suppress(OSError), durable.open_regular(folder.heartbeat, writable=True) as file:
            size = min(os.fstat(file.fileno()).st_size, HEARTBEAT_MAX_BYTES)
            os.pwrite(file.fileno(), content.ljust(size), 0)


def wall_time_s() -> float:
    """Seconds since 1970."""
    return time.time()  # noqa: TID251 - the one reading of the wall clock here; for people only


def tell(text: str) -> None:
    """Report to the run's output; a reader that went away must not end the training."""
    with suppress(OSError, ValueError, AttributeError):  # closed, without the letters, or none
        sys.stdout.write(f"{Remark('trainers', wall_time_s(), 'info', text).line}\n")
        sys.stdout.flush()


def pass_on(piece: bytes) -> None:
    """Add what a program of the trainer has printed to the run's output; `flush` follows."""
    with suppress(OSError, ValueError, AttributeError):
        sys.stdout.buffer.write(piece)


def flush() -> None:
    """Bring what was passed on to the output."""
    with suppress(OSError, ValueError, AttributeError):
        sys.stdout.flush()


def say(text: str, level: Level) -> None:
    """Tell a person what went wrong."""
    with suppress(OSError, ValueError, AttributeError):
        sys.stderr.write(f"{Remark('trainers', wall_time_s(), level, text).line}\n")
        sys.stderr.flush()
