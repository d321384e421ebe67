"""Runs that have left the queue: one line each, appended, and never changed.

They come from the memory, where they are saved together with the queue that they have left, so a
power cut loses none; at worst it writes one twice. The newest line of a run counts. What is in the
queue again, as after `retry`, has a line here all the same: the memory goes before.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import msgspec

from state.records import Left
from trainers import durable
from trainers.contract import NewerFile, decode

ARCHIVE = "archive.jsonl"
"""the name of the file"""
MAX_BYTES = 4 * 1024 * 1024
KEPT = 3
"""older files beside the newest: some 20,000 runs in all"""


class _Asked(msgspec.Struct, frozen=True):
    id: str


class _Run(msgspec.Struct, frozen=True):
    asked: _Asked


class _Line(msgspec.Struct, frozen=True):
    """As much of a line as tells whose it is."""

    run: _Run


class Archive:
    """The file of runs that have left.

    Args:
        path: where it lies; made with the first one.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def add(self, left: Left) -> None:
        """Write one down, durably.

        Raises:
            OSError: the disk is full or read-only, or something else lies there.
        """
        durable.append(
            self._path, msgspec.json.encode(left), max_bytes=MAX_BYTES, kept=KEPT, sync=True
        )

    def find(self, runs: Collection[str] | None = None) -> dict[str, Left]:
        """How runs were when they left last, by their id, in the order in which they left.

        Args:
            runs: ids of those that are asked for; None: all.

        Raises:
            OSError: the file cannot be read.
        """
        newest: dict[str, bytes] = {}
        asked_for = None if runs is None else frozenset(runs)
        try:
            for raw in durable.all_lines(self._path):
                run = _whose(raw)
                if run is not None and (asked_for is None or run in asked_for):
                    newest.pop(run, None)
                    newest[run] = raw
        except FileNotFoundError:
            return {}
        found: dict[str, Left] = {}
        for run, raw in newest.items():
            try:
                found[run] = decode(self._path, raw, Left)
            except (NewerFile, msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
                continue
        return found


def _whose(raw: bytes) -> str | None:
    """Whose line it is; None: it is torn, or none of ours."""
    try:
        return msgspec.json.decode(raw, type=_Line).run.asked.id
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
