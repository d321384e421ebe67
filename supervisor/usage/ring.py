"""Our own history of who is online: one line a sample, in a ring of files that stays small."""

from __future__ import annotations

from pathlib import Path

import msgspec

from supervisor.usage.grid import Point
from trainers import durable

MAX_BYTES = 1024 * 1024
KEPT = 5
"""older files beside the newest: about a year of one source in all"""


class _Sample(msgspec.Struct, frozen=True, kw_only=True):
    source: str
    at: float
    value: float


class Ring:
    """The samples of this home.

    Args:
        folder: where they lie; made with the first one.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._path = folder / "online.jsonl"

    def add(self, source: str, point: Point) -> None:
        """Write one down, durably. One writer at a time: whoever holds the folder.

        Raises:
            OSError: the disk is full or read-only.
        """
        sample = _Sample(source=source, at=point.at, value=point.value)
        line = msgspec.json.encode(sample)
        durable.append(self._path, line, max_bytes=MAX_BYTES, kept=KEPT, sync=True)

    def read(self, source: str, since: float) -> tuple[Point, ...]:
        """What was sampled from then on; torn lines are passed over.

        Raises:
            OSError: the files cannot be read.
        """
        found = []
        try:
            for raw in durable.all_lines(self._path):
                try:
                    sample = msgspec.json.decode(raw, type=_Sample)
                except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
                    continue
                if sample.source == source and sample.at >= since:
                    found.append(Point(sample.at, sample.value))
        except FileNotFoundError:
            return ()
        return tuple(found)
