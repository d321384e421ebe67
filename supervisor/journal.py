"""The log of decisions, the log of looks, and the lines that a person sees.

`decisions.jsonl` has one line for each thing that was decided or happened, with
the facts that it was decided from. Lines are numbered; they come from the
memory's outbox, which is saved together with the goal, so a power cut neither
loses a line nor writes one twice. `monitor.jsonl` has one line for each look.
"""

from __future__ import annotations

import os
import select
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TextIO

import msgspec

from state.records import LOG_VERSION
from state.renames import in_words_of_today
from supervisor.core.events import Event
from supervisor.core.moments import when
from supervisor.host.home import Home
from supervisor.terminal import RESET, coloured, mark, printable
from trainers import durable
from trainers.contract import NewerFile

if TYPE_CHECKING:
    from state.records import Memory
    from supervisor.core.seen import Seen, Turn

Line = dict[str, Any]

TAIL_BYTES = 64 * 1024
"""read at first from the end of a log; more only if that is not enough"""
NEWER_LINE = "a newer version has written this line, and knows alone what it says"
NUMBER_WIDTH = 5
EVENT_WIDTH = 18
SUBJECT_WIDTH = 16


class Journal:
    """Writes every log of the daemon.

    Args:
        home: where the logs lie.
        screen: where a person reads along.
    """

    def __init__(self, home: Home, screen: TextIO | None = None) -> None:
        self._home = home
        self.max_bytes = 16 * 1024 * 1024
        self.kept = 3
        self._screen = screen or sys.stdout
        self._eyes = _descriptor(self._screen)
        self._render = renderer(self._screen)
        self.last = _newest_seq(home.decisions)
        """the number of the newest line of the decision log"""
        self._failing: set[Path] = set()
        self._turns = False
        """whether the turn before stands in the log of turns"""

    def deliver(self, outbox: Iterable[Line]) -> bool:
        """Write the lines that are not in the log yet; whether all of them are there now."""
        for line in outbox:
            if line["seq"] <= self.last:
                continue
            if not self._append(self._home.decisions, encode(line), sync=True):
                return False
            self.last = line["seq"]
            self.show(line)
        return True

    def monitor(self, line: Line) -> None:
        """Write down one look."""
        self._append(self._home.monitor, encode(line), sync=False)

    def turn(self, memory: Memory, seen: Seen, came: Turn) -> None:
        """Write down a turn, so that it can be made again; the first of a file with its memory."""
        from supervisor.core.recorded import record  # noqa: PLC0415 - few ever want it

        turns = self._home.turns
        first = not self._turns or not turns.exists()  # one that is full has just been moved away
        self._turns = self._append(turns, record(memory, seen, came, whole=first), sync=False)

    def show(self, line: Mapping[str, Any]) -> None:
        """Show a line to whoever reads along, and keep nothing of it.

        A reader that has stopped reading (a pager, Ctrl-S) misses lines: the
        supervision does not wait for it.
        """
        if self._eyes is not None:
            eyes = select.poll()
            eyes.register(self._eyes, select.POLLOUT)
            if not eyes.poll(0):
                return
        try:
            self._screen.write(f"{self._render(line)}\n")
            self._screen.flush()
        except OSError:
            pass  # nobody reads along any more

    def _append(self, path: Path, content: bytes, *, sync: bool) -> bool:
        try:
            durable.append(path, content, max_bytes=self.max_bytes, kept=self.kept, sync=sync)
        except OSError as error:
            if path not in self._failing:
                self._failing.add(path)
                reason = f"cannot write {path.name}: {error.strerror}; going on in memory"
                self.show({"event": Event.DISK_FAILED, "reason": reason})
            return False
        if path in self._failing:
            self._failing.remove(path)
            self.show(
                {"event": Event.DISK_RECOVERED, "reason": f"{path.name} can be written again"}
            )
        return True


def encode(line: Mapping[str, Any]) -> bytes:
    """A line as strict JSON: what is not finite becomes null."""
    return msgspec.json.encode(line)


def tail(
    path: Path, count: int, takes: Callable[[Mapping[str, Any]], bool] | None = None
) -> list[Line]:
    """The last `count` lines of a log and its older files, oldest first; torn ones are left out.

    Args:
        path: the log.
        count: how many lines at most.
        takes: whether a line is one of those that are asked for. Without it no more of each file
            is read than a bounded end; with it the newest files are read whole, until there are
            enough such lines.

    Raises:
        UnreadableFile: the log is no regular file.
    """
    lines: list[Line] = []
    seen: set[tuple[int, int]] = set()
    for file in durable.generations(path):
        with file:
            if (identity := durable.identity(file)) in seen:  # it was rotated while it was read
                continue
            seen.add(identity)
            left = count - len(lines)
            found = _last_lines(file, left) if takes is None else _last_taken(file, left, takes)
            lines = [*found, *lines]
        if len(lines) >= count:
            break
    return lines


def read(path: Path) -> Iterator[Line]:
    """Every whole line of a log and its older files, oldest first.

    Raises:
        UnreadableFile: the log is no regular file.
        NewerFile: a newer version has written a line of it.
    """
    for raw in durable.all_lines(path):
        yield from known(path, parse([raw]))


def known(path: Path, lines: Iterable[Line]) -> Iterator[Line]:
    """`lines` of the log `path`, to be judged by what stands in them.

    Raises:
        NewerFile: a newer version has written one.
    """
    for line in lines:
        if is_newer(line):
            why = f"line {line.get('seq')} has version {line['version']}, this one knows"
            raise NewerFile(path, f"{why} {LOG_VERSION}")
        yield line


def is_newer(line: Mapping[str, Any]) -> bool:
    """Whether a newer version has written a line, which may mean something else then."""
    version = line.get("version", LOG_VERSION)
    return not isinstance(version, int) or version > LOG_VERSION


def _newest_seq(path: Path) -> int:
    try:
        numbers = [line.get("seq") for line in tail(path, 1)]
    except durable.UnreadableFile:
        return 0  # to write there will fail, and tell
    return max((number for number in numbers if isinstance(number, int)), default=0)


def _last_lines(file: BinaryIO, count: int) -> list[Line]:
    size, window = file.seek(0, os.SEEK_END), TAIL_BYTES
    while True:
        file.seek(max(0, size - window))
        lines = parse(file.read(window).splitlines())
        if len(lines) >= count or window >= min(size, durable.READ_MAX_BYTES):
            return lines[-count:]
        window = min(8 * window, durable.READ_MAX_BYTES)


def _last_taken(
    file: BinaryIO, count: int, takes: Callable[[Mapping[str, Any]], bool]
) -> deque[Line]:
    """The last `count` lines of a file that are asked for; all of it is read, line by line."""
    found: deque[Line] = deque(maxlen=count)
    for raw in durable.lines(file):
        found.extend(line for line in parse([raw]) if takes(line))
    return found


def parse(raw: Iterable[bytes]) -> list[Line]:
    """The lines that are whole."""
    lines: list[Line] = []
    for one in raw:
        try:
            line = msgspec.json.decode(one)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            continue
        if isinstance(line, dict):
            lines.append(_today(line))
    return lines


def _today(line: Line) -> Line:
    """A line with what an older version called otherwise in the words of today."""
    version = line.get("version", 1)
    older = isinstance(version, int) and version < LOG_VERSION
    return in_words_of_today(line) if older else line


def human(line: Mapping[str, Any]) -> dict[str, str]:
    """What of a line is for a person: its number, when, what, of whom, and the sentence."""
    moved = line.get("old") and line.get("old") != line.get("new")
    subject = f"{line['old']} -> {line['new']}" if moved else line.get("run", "")
    return {
        "seq": f"{printable(line.get('seq', '')):>{NUMBER_WIDTH}}",
        "time": when(printable(line.get("time", ""))),
        "event": printable(line.get("event", "?")),
        "subject": printable(subject),
        "reason": NEWER_LINE if is_newer(line) else printable(line.get("reason", "")),
    }


def renderer(screen: TextIO) -> Callable[[Mapping[str, Any]], str]:
    """What makes of a line the text for a person, in colour where that is wanted."""
    if not coloured(screen):
        return plain
    # structlog brings asyncio, and rich where it is installed: a service never pays for them.
    from structlog.dev import (  # noqa: PLC0415 - see above
        Column,
        ConsoleRenderer,
        KeyValueColumnFormatter,
    )

    def column(style: str, width: int = 0) -> KeyValueColumnFormatter:
        return KeyValueColumnFormatter(
            key_style=None, value_style=style, reset_style=RESET, value_repr=str, width=width
        )

    render = ConsoleRenderer(
        columns=[
            Column("seq", column(mark("cyan"))),
            Column("time", column(mark("dim"))),
            Column("event", column(mark("bold"), EVENT_WIDTH)),
            Column("subject", column(mark("blue"), SUBJECT_WIDTH)),
            Column("reason", column("")),
            Column("", column("")),
        ]
    )
    return lambda line: str(render(None, "", human(line)))


def plain(line: Mapping[str, Any]) -> str:
    """A line for a person, without colour."""
    seq, time, event, subject, reason = human(line).values()
    return f"{seq} {time} {event:<{EVENT_WIDTH}} {subject:<{SUBJECT_WIDTH}} {reason}"


def _descriptor(screen: TextIO) -> int | None:
    try:
        return screen.fileno()
    except (OSError, ValueError):  # a screen in memory
        return None
