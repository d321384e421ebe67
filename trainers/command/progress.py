"""How far a program is, from what it prints and from what it writes to a file.

A pattern is anybody's, and one that backtracks without end is easily written. Python's matcher
looks for signals while it works, so a timer of the processor time of this process ends it; after a
few such lines the pattern is not asked any more. That holds in the main thread alone, where all of
this is called.
"""

from __future__ import annotations

import math
import os
import re
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from types import FrameType

import msgspec

from trainers import durable
from trainers.command.options import SECONDS, Options, Progress, score_name, step_names
from trainers.command.output import LINE_MAX_BYTES
from trainers.contract import EPISODES, Score
from trainers.said import COUNT_MAX, KEY_MAX_CHARS
from trainers.session import TAKEN, Session

MATCH_S = 0.25
"""processor time that a pattern may take for one line"""
SLOW_MAX = 3
"""lines that took longer, after which the pattern is not asked any more"""
LOG_S = 1.0
"""the least time between two lines of metrics"""
STILL_S = 240.0
"""for how long a step has to stand still until other numbers count as a sign of life: less is no
hang anyway, and what a run shows of its own gaps is to hold"""
NUMBERS_MAX = 100
"""of one line"""
READ_MAX_BYTES = 2**16
"""of the file, at one look"""
FILE_MAX_BYTES = 2**24
"""at which the file is emptied, once it is read"""


class _TooSlow(Exception):
    """A pattern has not come to an end within its time."""


class Pattern:
    """Finds numbers in lines, in bounded time.

    Args:
        pattern: a regular expression with named groups.
        notice: takes what a person should know.
    """

    def __init__(self, pattern: str, notice: Callable[[str], object]) -> None:
        self._pattern = re.compile(pattern)
        self._notice = notice
        self._slow = 0
        self._matching = False
        signal.signal(signal.SIGVTALRM, self._interrupt)

    def find(self, line: str) -> dict[str, float]:
        """The numbers of its groups; nothing where it does not match."""
        if self._slow >= SLOW_MAX:
            return {}
        found: Mapping[str, str | None] = {}
        try:
            self._matching = True
            signal.setitimer(signal.ITIMER_VIRTUAL, MATCH_S)
            match = self._pattern.search(line)
            self._matching = False
            found = match.groupdict() if match else {}
        except _TooSlow:
            self._slow += 1
            what = "is not asked any more" if self._slow == SLOW_MAX else "has passed over a line"
            self._notice(f"progress.pattern takes too long and {what}: make it simpler")
        finally:
            self._matching = False
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        return {
            name: number for name, text in found.items() if (number := number_of(text)) is not None
        }

    def _interrupt(self, _signal: int, _frame: FrameType | None) -> None:
        if self._matching:  # otherwise it has just come to an end
            self._matching = False
            raise _TooSlow


class Saved(msgspec.Struct, frozen=True):
    """A line by which a program says that something which it has saved is whole."""

    saved: str
    """where it lies: a whole path"""
    at: float
    """when it was, in seconds since 1970: it counts if nothing has changed since"""


class File:
    """The file that a program may write JSON lines to.

    Args:
        path: of it; made anew.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._offset = 0
        self._rest = b""
        self._skipping = False
        """whether the line that is read is far too long to be looked at"""
        durable.fill(path, b"", sync=False)

    def read(self) -> Iterator[dict[str, float] | Saved]:
        """What each line tells that was written since the last look: numbers, mostly."""
        try:
            with durable.open_regular(self.path, writable=True) as file:
                size = os.fstat(file.fileno()).st_size
                if size < self._offset:
                    self._offset, self._rest = 0, b""
                if size == self._offset:
                    return
                # One that does not append writes behind a hole after the file was emptied.
                self._offset = os.lseek(file.fileno(), self._offset, os.SEEK_DATA)
                piece = os.pread(file.fileno(), READ_MAX_BYTES, self._offset)
                self._offset += len(piece)
                if self._offset >= size >= FILE_MAX_BYTES:
                    file.truncate(0)
                    self._offset = 0
        except OSError:
            return  # it was removed: whoever does that has nothing to tell
        *lines, self._rest = (self._rest + piece.lstrip(b"\0")).split(b"\n")
        for line in lines:
            if not self._skipping:
                yield _saved_in(line) or numbers_of(line)
            self._skipping = False
        if len(self._rest) > LINE_MAX_BYTES:
            self._skipping, self._rest = True, b""


class Teller:
    """Tells a session how far its program is.

    Args:
        session: of the run.
        options: of the program.
        monotonic_s: CLOCK_MONOTONIC, in seconds.
    """

    def __init__(
        self, session: Session, options: Options, monotonic_s: Callable[[], float]
    ) -> None:
        self._session = session
        self._progress = options.progress or Progress()
        self._monotonic_s = monotonic_s
        target = session.spec.target
        self._unit = target.unit if target is not None else None
        self._asked_for = options.progress is not None
        self._by_time = options.progress is None or self._unit == SECONDS
        self._began, self._began_s = session.step, monotonic_s()
        self._stepped_s = self._began_s
        self._step_name: str | None = None
        self.score: Score | None = None
        """how good the run is, as the program told last in this attempt"""
        self._told: dict[str, float] = {}
        """the newest of all numbers that it told"""
        self._unlogged: dict[str, float] = {}
        self._logged_s = -math.inf
        pattern = self._progress.pattern
        self._pattern = Pattern(pattern, session.notice) if pattern is not None else None

    @property
    def counts(self) -> str:
        """What a step of this run is: seconds, or what the program tells."""
        return SECONDS if self._by_time else "told"

    def line(self, line: str) -> None:
        """Take a line of its output."""
        if self._pattern is not None and (numbers := self._pattern.find(line)):
            self.numbers(numbers)

    def numbers(self, numbers: dict[str, float], *, again: bool = False) -> None:
        """Take numbers that it tells.

        Args:
            numbers: by their names.
            again: they may have been told before; those of an earlier step were.
        """
        if not numbers:
            return
        name = self._step_name_in(numbers)
        step = self._session.step
        if name is not None and self._by_time:
            if not self._asked_for:
                self._session.notice(
                    "the program tells steps, and seconds count: set progress = {} in its options"
                )
        elif name is not None:
            count = _count(numbers[name])
            if count is not None and count >= step:
                step = count
            else:
                self._session.alive()  # steps that were made before are made again
                if again:
                    return
        self._look_for_life(step, numbers)
        key, score = self._progress.score, None
        if key is not None and key in numbers:
            better = self._progress.better
            score = self.score = Score(name=score_name(key), value=numbers[key], better=better)
        episodes = self._episodes_in(numbers)
        loss = numbers.get("loss")
        self._session.progress(step, episodes=episodes, score=score, loss=loss)
        told = {key: value for key, value in numbers.items() if key not in (name, *TAKEN)}
        self._unlogged.update(told)
        if self._monotonic_s() - self._logged_s >= LOG_S:
            self.flush()

    def tick(self) -> None:
        """Let time pass: in a run that tells no progress it is all that counts."""
        step = self._session.step
        if self._by_time:
            step = max(step, self._began + int(self._monotonic_s() - self._began_s))
        self._session.progress(step)

    def flush(self) -> None:
        """Write down what was told and is not in the metrics yet."""
        if self._unlogged:
            self._session.log(self._unlogged)
            self._unlogged = {}
            self._logged_s = self._monotonic_s()

    def _look_for_life(self, step: int, numbers: dict[str, float]) -> None:
        """See in numbers that change that it works on, though its epoch may last for hours."""
        now_s = self._monotonic_s()
        if step != self._session.step:
            self._stepped_s = now_s
        elif self._told | numbers != self._told and now_s - self._stepped_s >= STILL_S:
            self._session.alive()
        self._told |= numbers

    def _step_name_in(self, numbers: Mapping[str, float]) -> str | None:
        """Which of the numbers is the step: always the one that it was at first."""
        if self._step_name is None:
            unit = None if self._unit == SECONDS else self._unit
            named = self._progress.step
            known = step_names(unit) if named is None else (named,)
            self._step_name = next((name for name in known if name in numbers), None)
        return self._step_name if self._step_name in numbers else None

    def _episodes_in(self, numbers: Mapping[str, float]) -> int | None:
        value = next((numbers[name] for name in ("episode", EPISODES) if name in numbers), None)
        count = None if value is None else _count(value)
        return count if count is not None and count >= self._session.episodes else None


def _count(number: float) -> int | None:
    """A number as a count; None where it is none."""
    return int(number) if math.isfinite(number) and 0 <= number <= COUNT_MAX else None


def number_of(text: str | None) -> float | None:
    """A number as people print it: with commas, or at the end of a sentence."""
    if text is None:
        return None
    with suppress(ValueError):
        return float(text.replace(",", "").rstrip(".%"))
    return None


def _loosely(line: bytes) -> object:
    """A line of JSON in which a number may be none, as Python writes it."""
    if b"NaN" not in line and b"Infinity" not in line:
        return None
    import json  # noqa: PLC0415 - few programs make it necessary, and it takes memory

    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def _saved_in(line: bytes) -> Saved | None:
    """What a line says of something saved; None: it is no such line."""
    if b'"saved"' not in line:
        return None
    try:
        said = msgspec.json.decode(line, type=Saved)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
    return said if "\0" not in said.saved else None


def numbers_of(line: bytes) -> dict[str, float]:
    """The numbers in a line of JSON; nothing, if it is no such line."""
    if len(line) > LINE_MAX_BYTES:
        return {}
    try:
        told = msgspec.json.decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        told = _loosely(line)
    return numbers_in(told) if isinstance(told, dict) else {}


def numbers_in(told: Mapping[str, object]) -> dict[str, float]:
    """What of it is a number that has a usable name."""
    return {
        key: float(value)
        for key, value in list(told.items())[:NUMBERS_MAX]
        if isinstance(value, int | float)
        and not isinstance(value, bool)
        and not abs(value) > COUNT_MAX**2  # what has no room in a float; a NaN has
        and 0 < len(key) <= KEY_MAX_CHARS
        and key.isascii()
        and key.isprintable()
    }
