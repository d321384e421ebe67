"""What a run prints: its file kept within a size, and read on through that.

All that a run has ever printed, over all its attempts, is one row of bytes, and a *position* in it
is how many came before. Files come and go, a position stays: whoever knows one goes on from there,
with nothing twice, and is told how much is no longer kept.

The processes of a run hold its file open, so it is emptied under them once the end of it has been
copied to an older file. The first line of that tells how much was printed before it, where in the
file the copy begins, and, once it is so, that the file was emptied. So it is known at any moment
which position is where, also where the copy was made and nobody lived on to empty the file.
"""

from __future__ import annotations

import os
import re
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, NamedTuple

from trainers import durable
from trainers.contract import LEVELS, Level, Remark

PIECE_BYTES = 2**18
"""read at one look"""
LINE_MAX_BYTES = 2**16
"""a line that is longer comes in pieces"""
HEAD = re.compile(
    rb"supervisor: ([0-9]{1,18}) bytes before this are no longer kept "
    rb"\((copied|cut) from ([0-9]{1,18})\) *\n"
)
"""of an older file; `copied`: perhaps what follows is still in the newest one, too"""
HEAD_BYTES = 120
"""that line, before its end: so long, whatever it says"""
COMPARED_BYTES = 4096
"""of the end of an older file, by which it is known whether it was cut out of the newest"""
LOOKS = 8
"""that are made at once where a file is emptied meanwhile; then it is the turn of a later one"""


class Line(NamedTuple):
    """A line that a run has printed, or a piece of one that is very long."""

    text: bytes
    end: int
    """the position behind it"""

    @property
    def remark(self) -> Remark | None:
        """Who says it, when, and how grave it is; None: a program has printed it as it is."""
        return Remark.of(self.text)


class Choice:
    """Which lines are asked for; it is given all of them, in their order.

    Args:
        level: the least; what says none counts as `info`, as what programs print does elsewhere.
        since_at: wall time: from the first line on that is known to be as young; None: all.
    """

    def __init__(self, level: Level = "info", since_at: float | None = None) -> None:
        self._level, self._since_at = LEVELS.index(level), since_at

    def of(self, lines: Iterable[Line]) -> Iterator[Line]:
        """Those of these that are asked for."""
        for line in lines:
            remark = line.remark if self._level or self._since_at is not None else None
            if self._since_at is not None:
                if remark is None or remark.at is None or remark.at < self._since_at:
                    continue
                self._since_at = None
            if LEVELS.index("info" if remark is None else remark.level) >= self._level:
                yield line


class Tail(NamedTuple):
    """The last lines of those that are asked for, and how many these are in all."""

    lines: tuple[Line, ...]
    total: int


class Output:
    """The output of one run, from a position on to whatever is printed next; no look waits.

    Args:
        path: of its file, which need not be there yet.
        position: from where on; 0: from the oldest line that is kept. One that nothing has come to
            is of another output: then this one is told from its beginning.
    """

    def __init__(self, path: Path, position: int = 0) -> None:
        self._path = path
        self._position = position
        self._rest = b""
        self._older_is: tuple[int, int] | None = None
        self._has_looked = False

    @property
    def position(self) -> int:
        """Behind the last line that was told."""
        return self._position - len(self._rest)

    def fresh(self) -> list[Line]:
        """Some more whole lines; none: there are no more now."""
        while True:
            found = self._read()
            if isinstance(found, Line):  # what came before is over, whether it has an end or not
                lines = [*self.rest(), found]
                self._position = found.end
                return lines
            if not found:
                return []
            if lines := self._cut(found):
                return lines

    def rest(self) -> list[Line]:
        """What is left of a line that has no end, once nothing more comes."""
        rest, self._rest = self._rest, b""
        return [Line(rest, self._position)] if rest else []

    def tail(self, count: int | None, choice: Choice | None = None) -> Tail:
        """The last lines of all that is there now; all of them without a count."""
        kept: deque[Line] = deque(maxlen=count)
        total = 0
        chosen = choice or Choice()
        while lines := self.fresh():
            for line in chosen.of(lines):
                kept.append(line)
                total += 1
        return Tail(tuple(kept), total)

    def _read(self) -> bytes | Line:
        """What stands at the position; or the line that says what no longer does."""
        for _ in range(LOOKS):
            with _files(self._path) as files:
                position = self._position_in(files)
                gone = files.oldest - position
                piece = files.read(position) if gone <= 0 else b""
                if not files.last():
                    continue
                if position != self._position:
                    self._position, self._rest = position, b""
                self._has_looked = True
                if files.is_emptied:
                    self._older_is = files.older_is
                if gone > 0:
                    text = f"supervisor: {gone} bytes that were printed here are no longer kept"
                    return Line(text.encode(), files.oldest)
                return piece
        return b""

    def _position_in(self, files: _Files) -> int:
        """The position as these files have it."""
        position, end = self._position, files.end
        if self._has_looked and files.is_emptied and files.older_is != self._older_is:
            # What was printed while the file was being emptied is in no file, and has no position.
            position = min(position, files.begins)
        if position > end and files.newest is not None:
            position = files.begins if self._has_looked else files.oldest
        return position

    def _cut(self, piece: bytes) -> list[Line]:
        begins = self.position
        self._position += len(piece)
        *whole, rest = (self._rest + piece).split(b"\n")
        lines: list[Line] = []
        for text in whole:
            begins += len(text) + 1
            lines.append(Line(text, begins))
        if len(rest) > LINE_MAX_BYTES:
            lines.append(Line(rest, self._position))
            rest = b""
        self._rest = rest
        return lines


def rotate(path: Path, max_bytes: int) -> None:
    """Keep an output that others hold open within its size: the newest half of it stays.

    They append, so it can be emptied under them; what is printed in the instant between is lost,
    and so is what is printed faster than it can be copied.

    Raises:
        OSError: the disk is full or read-only, or something else lies there; it is as it was.
    """
    with durable.open_regular(path, writable=True) as newest:
        handle, size = newest.fileno(), os.fstat(newest.fileno()).st_size
        if size < max_bytes:
            return
        with _files(path) as files:
            begins = files.begins
        cut = size - max_bytes // 2
        content = os.pread(handle, size - cut, cut)
        line_end = content.find(b"\n") + 1
        if line_end < len(content):
            cut, content = cut + line_end, content[line_end:]
        end = size
        fresh, older = path.with_name(f".{path.name}.new"), _older(path)
        durable.fill(fresh, _head(begins + cut, "copied", cut) + content, sync=False)
        try:
            with durable.open_regular(fresh, writable=True) as copy:
                # What came meanwhile comes along, but for a flood that no disk could keep up with.
                while end < size + max_bytes and (piece := os.pread(handle, PIECE_BYTES, end)):
                    durable.add(copy.fileno(), piece, copy.seek(0, os.SEEK_END))
                    end += len(piece)
                fresh.replace(older)
                os.ftruncate(handle, 0)
                os.pwrite(copy.fileno(), _head(begins + cut, "cut", cut), 0)
        except BaseException:
            fresh.unlink(missing_ok=True)
            raise


def mark(handle: int, line: str) -> None:
    """Add a line of ours to an open output; what a dead process has not ended is ended before.

    Raises:
        OSError: the disk is full or read-only; the output is as it was.
    """
    size = os.fstat(handle).st_size
    torn = size > 0 and os.pread(handle, 1, size - 1) != b"\n"
    durable.add(handle, (b"\n" if torn else b"") + line.encode() + b"\n", size)


class _Files(NamedTuple):
    """Both files of an output at one moment."""

    path: Path
    newest: BinaryIO | None
    older: BinaryIO | None
    older_is: tuple[int, int] | None
    head_bytes: int
    """of the older file, which no run has printed"""
    older_begins: int
    """the position of what it holds"""
    begins: int
    """the position of the first byte of the newest"""
    is_emptied: bool
    """whether what is in the older one is no longer in the newest"""

    @property
    def oldest(self) -> int:
        """The first position that is kept."""
        return min(self.older_begins, self.begins)

    @property
    def end(self) -> int:
        """Behind all that is there."""
        return self.begins + (0 if self.newest is None else _size(self.newest))

    def read(self, position: int) -> bytes:
        """What stands there."""
        file, offset, most = self.newest, position - self.begins, PIECE_BYTES
        if offset < 0:
            file, offset = self.older, self.head_bytes + position - self.older_begins
            most = min(most, self.begins - position)
        return b"" if file is None else os.pread(file.fileno(), most, offset)

    def last(self) -> bool:
        """Whether no file was moved or emptied since."""
        with _files(self.path) as now:
            return (now.older_is, now.is_emptied) == (self.older_is, self.is_emptied)


def _head(position: int, how: str, cut: int) -> bytes:
    text = f"supervisor: {position} bytes before this are no longer kept ({how} from {cut})"
    return text.ljust(HEAD_BYTES).encode() + b"\n"


@contextmanager
def _files(path: Path) -> Iterator[_Files]:
    """Look at both files."""
    with ExitStack() as stack:
        older, newest = _opened(_older(path), stack), _opened(path, stack)
        if older is None:
            yield _Files(path, newest, None, None, 0, 0, 0, is_emptied=True)
            return
        head = HEAD.match(os.pread(older.fileno(), HEAD_BYTES + 1, 0))
        head_bytes = head.end() if head else 0  # versions before wrote none
        older_begins, cut = (int(head[1]), int(head[3])) if head else (0, 0)
        size = _size(older) - head_bytes
        is_emptied = not (
            head and head[2] == b"copied" and newest and _has(newest, older, size, cut + size)
        )
        begins = older_begins + size if is_emptied else older_begins - cut
        yield _Files(
            path, newest, older, durable.identity(older), head_bytes, older_begins, begins,
            is_emptied=is_emptied,
        )  # fmt: skip


def _has(newest: BinaryIO, older: BinaryIO, size: int, end: int) -> bool:
    """Whether the newest file has at `end` what the older one, of that size, ends with."""
    if _size(newest) < end:
        return False
    size = min(COMPARED_BYTES, size)
    ends = os.pread(older.fileno(), size, _size(older) - size)
    return ends == os.pread(newest.fileno(), size, end - size)


def _opened(path: Path, stack: ExitStack) -> BinaryIO | None:
    with suppress(OSError):  # not there yet, or no more, or none that anybody should read
        file = durable.open_regular(path)
        stack.callback(file.close)
        return file
    return None


def _older(path: Path) -> Path:
    return path.with_name(f"{path.name}.1")


def _size(file: BinaryIO) -> int:
    return os.fstat(file.fileno()).st_size
