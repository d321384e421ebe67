"""The lines of a log as they come: each handed out once, through rotations, within bounds."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from trainers import durable


class Lines:
    """The whole lines of a log and its older files that nobody has been given yet.

    Where the file that was read last is gone, all that is there is told once more: who is given
    the lines has to know them again.

    Args:
        path: the newest file, which need not be there.
        most_bytes: how much is read at once; of more, the newest.
        line_bytes: a longer line is passed over.
    """

    def __init__(
        self, path: Path, *, most_bytes: int, line_bytes: int = durable.LINE_MAX_BYTES
    ) -> None:
        self._path = path
        self._most_bytes = most_bytes
        self._line_bytes = line_bytes
        self._file: tuple[int, int] | None = None
        """the identity of the file that was read last"""
        self._offset = 0
        """where the first line begins in it that was not whole then"""
        self.left_out = False
        """whether something was left out, since there was too much"""

    def fresh(self) -> Iterator[bytes]:
        """What has been written since, oldest first, without ends; nothing of an unreadable log."""
        with contextlib.ExitStack() as opened:
            files: list[tuple[BinaryIO, int]] = []
            left_bytes = self._most_bytes
            try:
                for file in durable.generations(self._path):
                    opened.enter_context(file)
                    known = durable.identity(file) == self._file
                    size = os.fstat(file.fileno()).st_size
                    begin = self._offset if known and self._offset <= size else 0
                    if size - begin > left_bytes:
                        begin, known, self.left_out = size - left_bytes, True, True
                        file.seek(begin - 1)
                        begin += len(file.readline(self._line_bytes)) - 1
                    left_bytes -= size - begin
                    files.append((file, begin))
                    if known:
                        break
            except OSError:
                pass  # what could be opened is told
            for file, begin in reversed(files):
                self._file, self._offset = durable.identity(file), begin
                file.seek(begin)
                yield from self._whole(file)

    def _whole(self, file: BinaryIO) -> Iterator[bytes]:
        while raw := file.readline(self._line_bytes):
            if raw.endswith(b"\n"):
                self._offset += len(raw)
                yield raw[:-1]
            elif len(raw) < self._line_bytes:
                return  # its end is yet to be written
            else:
                while raw and not raw.endswith(b"\n"):
                    self._offset += len(raw)
                    raw = file.readline(self._line_bytes)
                self._offset += len(raw)
