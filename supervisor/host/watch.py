"""What wakes the daemon: files that change, signals, trainers that end,
helpers that answer, and the time.
"""

from __future__ import annotations

import logging
import os
import select
import signal
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

from watchdog.events import (
    FileClosedEvent,
    FileCreatedEvent,
    FileDeletedEvent,
    FileMovedEvent,
    FileSystemEvent,
    FileSystemEventHandler,
)
from watchdog.observers import Observer
from watchdog.observers.api import BaseObserver

# It warns on stderr of events that arrive while it stops; they no longer matter then.
logging.getLogger("watchdog").addHandler(logging.NullHandler())

SETTLE_S = 0.1
"""an editor saves in several steps: wait until they are all there"""


class Interest(NamedTuple):
    """Which events in a folder are worth waking for."""

    cause: str
    suffix: str
    events: tuple[type[FileSystemEvent], ...]
    """the kernel is asked for these alone: readers of the home, and our own logs, wake nobody"""


# A file that is being written is of no interest before it is closed.
REQUESTS = Interest("request", ".json", (FileCreatedEvent, FileMovedEvent, FileClosedEvent))
SETTINGS = Interest("settings", ".toml", (*REQUESTS.events, FileDeletedEvent))


class Watch:
    """One place to sleep, with everything that may end the sleep."""

    def __init__(self) -> None:
        self._ear, self._bell = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._causes: set[str] = set()
        self._lock = threading.Lock()
        self._observer: BaseObserver | None = None
        self.trouble: str | None = None
        """why changed files wake nobody, or not all of them: the regular look must do"""
        # A folder that was removed and made again has another identity, and is watched anew.
        self._watched: dict[tuple[Path, int], Any] = {}
        self._handlers: dict[tuple[Path, int], _Handler] = {}
        self.stop_asked = False
        """somebody sent SIGTERM, SIGINT or SIGHUP"""
        self.hand_over_asked = False
        """somebody sent SIGUSR1: a new supervisor will come, and the trainers train on"""

    def begin(self) -> None:
        """Take over the signals."""
        signal.set_wakeup_fd(self._bell, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup has it
                signal.signal(number, self._signalled)
        signal.signal(signal.SIGUSR1, self._signalled)

    def files(self, wanted: Mapping[Path, Interest]) -> bool:
        """Watch exactly these folders; what is of interest in one wakes with its cause.

        Returns whether one of them was not watched before.

        A folder that cannot be watched is left out: the regular look still sees
        what changed there.
        """
        try:
            observer = self._observer or self._observing()
        except (OSError, RuntimeError) as error:  # the latter: no room for one more thread
            self.trouble = _why(error)
            return False
        self._observer, trouble = observer, None
        found = {(folder, _inode(folder)): interest for folder, interest in wanted.items()}
        for place in [known for known in self._watched if known not in found]:
            observer.unschedule(self._watched.pop(place))
            del self._handlers[place]
        fresh = False
        for place, interest in found.items():
            if place not in self._watched and place[1]:
                # The same one at each try: the observer keeps those of tries that failed.
                handler = self._handlers.setdefault(place, _Handler(self, interest))
                try:
                    self._watched[place] = observer.schedule(
                        handler, str(place[0]), event_filter=list(interest.events)
                    )
                except (OSError, RuntimeError) as error:  # as above
                    trouble = _why(error)
                    continue
                fresh = True
        self.trouble = trouble
        return fresh

    def wake(self, cause: str) -> None:
        """End the sleep; callable from any thread."""
        with self._lock:
            self._causes.add(cause)
        try:
            os.write(self._bell, b"!")
        except BlockingIOError:
            pass  # the bell rings already

    def sleep(
        self,
        timeout_s: float,
        exits: Iterable[int],
        answers: Iterable[int] = (),
        alarms: Iterable[int] = (),
    ) -> str:
        """Sleep until something happens; the cause of waking up.

        Args:
            timeout_s: the longest sleep.
            exits: pidfds, readable once their process has ended.
            answers: pipes, readable once a helper has said something.
            alarms: have an urgent event where something on the machine has to wait.
        """
        poll = select.poll()
        answers, alarms = set(answers), set(alarms)
        for handle in alarms:
            poll.register(handle, select.POLLPRI)
        for handle in (self._ear, *exits, *answers):
            poll.register(handle, select.POLLIN)
        ready = {handle for handle, _ in poll.poll(max(0.0, timeout_s) * 1000)}
        if self._ear in ready:
            self._settle()
        with self._lock:
            causes, self._causes = self._causes, set()
        if ready & answers:
            causes.add("answer")
        if ready & alarms:
            causes.add("alarm")
        if ready - answers - alarms - {self._ear}:
            causes.add("exit")
        return "+".join(sorted(causes)) or "time"

    def end(self) -> None:
        """Stop watching."""
        signal.set_wakeup_fd(-1)
        if self._observer is not None:
            self._observer.stop()
            self._observer.join(timeout=5)

    @staticmethod
    def _observing() -> BaseObserver:
        observer = Observer()
        observer.start()
        return observer

    def _settle(self) -> None:
        """Wait until the bell has been silent for a moment, at most ten of them."""
        ear = select.poll()
        ear.register(self._ear, select.POLLIN)
        for _ in range(10):
            self._drain()
            if self.stop_asked or self.hand_over_asked or not ear.poll(SETTLE_S * 1000):
                return

    def _drain(self) -> None:
        try:
            while os.read(self._ear, 4096):
                pass
        except BlockingIOError:
            pass

    def _signalled(self, number: int, _frame: FrameType | None) -> None:
        if number == signal.SIGUSR1:
            self.hand_over_asked = True
        else:
            self.stop_asked = True
        self._causes.add("signal")


class _Handler(FileSystemEventHandler):
    """Rings the bell for what is of interest."""

    def __init__(self, watch: Watch, interest: Interest) -> None:
        self._watch = watch
        self._interest = interest

    def on_any_event(self, event: FileSystemEvent) -> None:
        """Wake if a file of interest, not a hidden temporary one, has changed."""
        name = Path(os.fsdecode(event.dest_path or event.src_path)).name
        if name.endswith(self._interest.suffix) and not name.startswith("."):
            self._watch.wake(self._interest.cause)


def _why(error: Exception) -> str:
    """What the system says, which may have run out of inotify instances, watches or threads."""
    return getattr(error, "strerror", None) or str(error)


def _inode(folder: Path) -> int:
    try:
        return folder.stat().st_ino if folder.is_dir() else 0
    except OSError:
        return 0
