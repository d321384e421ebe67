"""What a run prints, read on through rotations: a look at a time, and no look waits."""

from __future__ import annotations

import os
from collections import deque
from pathlib import Path
from typing import BinaryIO, NamedTuple

from trainers import durable

PIECE_BYTES = 2**18
"""read at one look"""
LINE_MAX_BYTES = 2**16
"""a line that is longer comes in pieces"""


class Tail(NamedTuple):
    """The last lines, and how many there are in all."""

    lines: tuple[bytes, ...]
    total: int


class Output:
    """The output of one run, from its oldest line that is kept to whatever is printed next.

    Args:
        path: of the newest file; older ones bear a number behind it. Nothing need be there yet.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._files: deque[BinaryIO] = deque()
        self._rest = b""

    def close(self) -> None:
        """Close what is open."""
        while self._files:
            self._files.popleft().close()

    def fresh(self) -> list[bytes]:
        """Some more whole lines; none: there are no more now."""
        if not self._files:
            self._open()
        while self._files:
            file = self._files[0]
            newest = len(self._files) == 1
            replaced = newest and self._is_replaced(file)  # what came before that is still in it
            if piece := file.read(PIECE_BYTES):
                if lines := self._cut(piece):
                    return lines
            elif not newest:
                self._files.popleft().close()
            elif replaced:
                self._files.popleft().close()
                self._open(newest_alone=True)
                if not self._files:
                    break
            else:
                break
        return []

    def rest(self) -> list[bytes]:
        """What is left of a line that has no end, once nothing more comes."""
        rest, self._rest = self._rest, b""
        return [rest] if rest else []

    def tail(self, count: int | None) -> Tail:
        """All that is there now, and of it the last lines; all of them without a count."""
        kept: deque[bytes] = deque(maxlen=count)
        total = 0
        while lines := self.fresh():
            kept.extend(lines)
            total += len(lines)
        return Tail(tuple(kept), total)

    def _open(self, *, newest_alone: bool = False) -> None:
        try:
            if newest_alone:
                self._files.append(durable.open_regular(self._path))
                return
            known: dict[tuple[int, int], BinaryIO] = {}
            for file in durable.generations(self._path):
                if known.setdefault(durable.identity(file), file) is not file:
                    file.close()
            self._files.extend(reversed(known.values()))
        except OSError:
            return  # not there yet, or no more, or none that anybody should read

    def _is_replaced(self, file: BinaryIO) -> bool:
        try:
            status = self._path.stat()
        except OSError:
            return True
        return status.st_ino != os.fstat(file.fileno()).st_ino or status.st_size < file.tell()

    def _cut(self, piece: bytes) -> list[bytes]:
        *lines, rest = (self._rest + piece).split(b"\n")
        if len(rest) > LINE_MAX_BYTES:
            lines.append(rest)
            rest = b""
        self._rest = rest
        return lines
