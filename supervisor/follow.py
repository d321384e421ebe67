"""The end of a file that somebody else writes, and what is appended to it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from supervisor.clock import pause
from trainers import durable

TAIL_BYTES = 1024 * 1024
"""of a file are searched for its last lines"""
LOOK_S = 0.2


def last_lines(path: Path, count: int) -> list[bytes]:
    """The last `count` lines; none where there is no such file."""
    try:
        with durable.open_regular(path) as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL_BYTES))
            return file.read().splitlines()[-count:]
    except FileNotFoundError:
        return []


def follow(path: Path) -> Iterator[bytes]:
    """Whole lines that are appended from now on, through rotations."""
    file = _reopened(path, at_end=True)
    rest = b""
    while True:
        if file is not None:
            *lines, rest = (rest + file.read()).split(b"\n")
            yield from lines
            if _was_replaced(path, file):
                # What came between the last look and the rotation is still in there.
                yield from (rest + file.read()).splitlines()
                file.close()
                file, rest = None, b""
        if file is None:
            file = _reopened(path)
            if file is not None:
                continue
        pause(LOOK_S)


def _reopened(path: Path, *, at_end: bool = False) -> BinaryIO | None:
    try:
        file = durable.open_regular(path)
    except FileNotFoundError:
        return None
    if at_end:
        file.seek(0, os.SEEK_END)
    return file


def _was_replaced(path: Path, file: BinaryIO) -> bool:
    try:
        status = path.stat()
    except FileNotFoundError:
        return True
    return status.st_ino != os.fstat(file.fileno()).st_ino or status.st_size < file.tell()
