"""Numbers that a program writes to files of its own anyway: CSV, JSON lines, JSON, TensorBoard's.

What lay there before the program was started was told before, and is not told again. A file that is
written anew is read anew; of that, what is of an earlier step than the run has reached is nothing
new.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Protocol

import msgspec

from trainers import durable, records
from trainers.command.options import KINDS, TENSORBOARD
from trainers.command.output import LINE_MAX_BYTES
from trainers.command.progress import number_of, numbers_in, numbers_of

LOOK_S = 1.0
"""between two looks at which files there are"""
FILES_MAX = 100
READ_MAX_BYTES = 2**18
"""of one file, at one look"""
DOCUMENT_MAX_BYTES = 2**22
"""of a file that has to be read as a whole"""


class _Reader(Protocol):
    """Reads one file as it grows."""

    def read(self, path: Path) -> Iterator[dict[str, float]]:
        """What is new in it.

        Raises:
            OSError: it is gone, or cannot be read.
        """


class Files:
    """The files that a pattern of names means, each read as it grows.

    Args:
        pattern: of names, a whole path.
    """

    def __init__(self, pattern: str) -> None:
        self._pattern = pattern
        self._looked_s = 0.0
        self._readers: dict[Path, _Reader] = {
            path: _reader(path, old=True) for path in self._there()
        }

    def read(self, now_s: float, *, at_once: bool = False) -> Iterator[dict[str, float]]:
        """The numbers that were written since the last look, if it is time for one.

        Args:
            now_s: CLOCK_MONOTONIC, in seconds.
            at_once: it is always time.
        """
        if now_s - self._looked_s < LOOK_S and not at_once:
            return
        self._looked_s = now_s
        there = self._there()
        self._readers = {
            path: self._readers.get(path) or _reader(path, old=False) for path in there
        }
        for path, reader in self._readers.items():
            with suppress(OSError):
                yield from reader.read(path)

    def _there(self) -> list[Path]:
        """Those that there are, the newest last; of very many the newest."""
        found = []
        # That of Path knows no dots.
        for name in glob.glob(self._pattern, recursive=True):  # noqa: PTH207 - as above
            with suppress(OSError):
                found.append((os.stat(name).st_mtime_ns, name))  # noqa: PTH116 - as above
        return [Path(name) for _, name in sorted(found)[-FILES_MAX:]]


def _reader(path: Path, *, old: bool) -> _Reader:
    if TENSORBOARD in path.name:
        return _Events(path, old=old)
    kind = KINDS.get(path.suffix, "lines")
    if kind == "document":
        return _Document(path, old=old)
    return _Rows(path, old=old) if kind == "rows" else _Lines(path, old=old)


class _Growing:
    """A file that is read from where the last look has ended.

    Args:
        path: of it.
        old: what it has by now is known.
    """

    def __init__(self, path: Path, *, old: bool) -> None:
        self.offset = 0
        """where the next look begins: beyond the end, where that is to be passed over"""
        self._size = self._inode = 0
        if old:
            with suppress(OSError):
                status = path.stat()
                self.offset = self._size = status.st_size
                self._inode = status.st_ino

    def piece(self, path: Path, most_bytes: int) -> tuple[bytes, bool]:
        """The next bytes, and whether they are the first of a file that was written anew."""
        with durable.open_regular(path) as file:
            status = os.fstat(file.fileno())
            anew = status.st_size < self._size or status.st_ino not in (0, self._inode)
            self._size = status.st_size
            if anew:
                self.offset, self._inode = 0, status.st_ino
            return os.pread(file.fileno(), most_bytes, self.offset), anew


class _Lines:
    """A file of lines with a JSON object each."""

    def __init__(self, path: Path, *, old: bool) -> None:
        self._file = _Growing(path, old=old)

    def read(self, path: Path) -> Iterator[dict[str, float]]:
        """What its new lines tell; see `_Reader`."""
        for line in _whole_lines(self._file, path)[0]:
            yield numbers_of(line)


class _Rows:
    """A file of rows below a row of names."""

    def __init__(self, path: Path, *, old: bool) -> None:
        self._file = _Growing(path, old=old)
        self._names: list[str] = []

    def read(self, path: Path) -> Iterator[dict[str, float]]:
        """What its new rows tell; see `_Reader`."""
        import csv  # noqa: PLC0415 - few programs make it necessary

        between = "\t" if path.suffix == ".tsv" else ","
        lines, anew = _whole_lines(self._file, path)
        if not lines:
            return
        if anew:
            self._names = []
        elif not self._names:  # of a file that was there before
            with durable.open_regular(path) as file:
                lines.insert(0, file.readline(LINE_MAX_BYTES))
        text = (line.decode(errors="replace") for line in lines)
        for row in csv.reader(text, delimiter=between, skipinitialspace=True):
            if not self._names:
                self._names = [name.strip() for name in row]
                continue
            cells = zip(self._names, row, strict=False)
            yield numbers_in({name: number_of(cell) for name, cell in cells})


class _Document:
    """A file with one JSON object, or a list of which the last one is the newest."""

    def __init__(self, path: Path, *, old: bool) -> None:
        self._known = _stamp(path) if old else None

    def read(self, path: Path) -> Iterator[dict[str, float]]:
        """What it tells, if it has changed; see `_Reader`."""
        now = _stamp(path)
        if now == self._known:
            return
        content = durable.read(path, DOCUMENT_MAX_BYTES)
        try:
            told = msgspec.json.decode(content)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return  # it is half written: the next look reads the whole of it
        self._known = now
        if isinstance(told, list) and told:
            told = told[-1]
        if isinstance(told, dict):
            yield numbers_in(told)


class _Events:
    """A file of TensorBoard."""

    def __init__(self, path: Path, *, old: bool) -> None:
        self._file = _Growing(path, old=old)
        self._broken = 0
        """the inode of one that is none of TensorBoard's"""

    def read(self, path: Path) -> Iterator[dict[str, float]]:
        """What its new records tell; see `_Reader`."""
        inode = path.stat().st_ino
        if inode == self._broken:
            return
        # A record is read as a whole, so a piece has room for the largest of them.
        content, _ = self._file.piece(path, 2 * records.RECORD_MAX_BYTES)
        try:
            points, length = records.read(content)
        except records.NoRecord:
            self._broken = inode
            return
        self._file.offset += length
        for point in points:
            yield numbers_in({**point.values, "step": float(point.step)})


def _whole_lines(file: _Growing, path: Path) -> tuple[list[bytes], bool]:
    """The lines that were ended since the last look, and whether the file was written anew."""
    piece, anew = file.piece(path, READ_MAX_BYTES)
    end = piece.rfind(b"\n") + 1
    if end == 0 and len(piece) >= LINE_MAX_BYTES:
        end = len(piece)  # far too long to be looked at
    file.offset += end
    return [line for line in piece[:end].split(b"\n") if line.strip()], anew


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns
