"""Says from within a training script how far it is, and hears when it is to stop.

For scripts that training-supervisor runs by its trainer `command`. This file is all there is of it:
it needs nothing but Python 3.8, so it may be copied beside a script. Where nobody supervises, each
function does nothing. None raises anything into the training.

    import supervised

    if supervised.checkpoint_path():
        load(supervised.checkpoint_path())
    for step in range(first, last):
        loss = learn()
        supervised.report(step + 1, loss=loss)
        if supervised.stopping():
            save("model.pt")
            supervised.saved("model.pt")
            break
"""

from __future__ import annotations

import atexit
import json
import math
import os
import signal
import threading
import time
from collections.abc import Mapping
from types import FrameType
from typing import Any, SupportsFloat

__all__ = ["checkpoint_path", "report", "saved", "stopping"]

PROGRESS = "SUPERVISOR_PROGRESS"
"""environment variable: the file for what is told"""
CHECKPOINT = "SUPERVISOR_CHECKPOINT"
"""environment variable: what is to be gone on from"""
STOP_SIGNAL = "SUPERVISOR_STOP_SIGNAL"
"""environment variable: the name of the signal that asks to stop"""
EVERY_S = 0.05
"""the least time between two lines of the same names: nobody looks oftener"""
KINDS_MAX = 100
"""of lines, by their names, that are told apart"""


def report(step: SupportsFloat | None = None, **numbers: SupportsFloat | None) -> None:
    """Tell how far the training is.

    A few microseconds: of reports of the same names that come faster than twenty a second the
    newest is written. What is no number is left out.

    Args:
        step: steps so far, over all starts of the run. Where the target is in another unit, leave
            it out and call that by its name: `report(epoch=3)`.
        numbers: whatever else is measured, such as `loss=0.1`; anything that `float()` takes.
    """
    if not os.environ.get(PROGRESS):
        return
    told: dict[str, SupportsFloat | None] = {} if step is None else {"step": step}
    told.update(numbers)
    try:
        _lines.tell(_numbers(told))
    except Exception:  # noqa: BLE001, S110 - a line less is no reason to end a training
        pass


def saved(path: str | os.PathLike[str]) -> None:
    """Tell that the checkpoint at `path`, a file or a folder, is whole.

    It is kept then without being watched for a moment, with what was reported before. Where it is
    not told, it is kept all the same, a little later.
    """
    if not os.environ.get(PROGRESS):
        return
    try:
        _lines.flush()
        whole = os.path.abspath(os.fsdecode(path))  # noqa: PTH100 - that of Path keeps `..`
        _write({"saved": whole, "at": time.time()})  # noqa: TID251 - what files have, too
    except Exception:  # noqa: BLE001, S110 - as above
        pass


def stopping() -> bool:
    """Whether a stop was asked for: then save, and leave.

    The first call from the main thread begins to listen, so call it before the training, too. A
    handler that somebody else has for that signal is called as before. A process that is forked
    from this one, such as a worker that loads data, ends by the signal as if nobody listened.
    """
    try:
        _stop.listen()
    except Exception:  # noqa: BLE001, S110 - as above
        pass
    return _stop.asked


def checkpoint_path() -> str | None:
    """The checkpoint to go on from, a file or a folder; None: begin anew."""
    return os.environ.get(CHECKPOINT) or None


class _Lines:
    """Lines for the file, no more of one kind than somebody looks at.

    There is no lock here, which a fork or a signal might find held: at worst, threads that tell at
    the same time tell a line twice.
    """

    def __init__(self) -> None:
        self._written_s: dict[tuple[str, ...], float] = {}
        self._held: dict[tuple[str, ...], Mapping[str, object]] = {}

    def tell(self, numbers: Mapping[str, object]) -> None:
        """Write a line, or hold it until there is another that goes before."""
        kind, now_s = tuple(numbers), time.monotonic()
        if not kind:
            return
        if now_s - self._written_s.get(kind, -math.inf) < EVERY_S:
            self._held[kind] = numbers
            return
        self._held.pop(kind, None)
        self.flush()
        if len(self._written_s) >= KINDS_MAX:
            self._written_s = {}
        self._written_s[kind] = now_s
        _write(numbers)

    def flush(self) -> None:
        """Write what is held."""
        held, self._held = self._held, {}
        for numbers in list(held.values()):
            _write(numbers)

    def forget(self) -> None:
        """Hold nothing: it is another process's to tell."""
        self._held = {}


class _Stop:
    """Whether a stop was asked for, as the handler of a signal has heard."""

    def __init__(self) -> None:
        self.asked = False
        self._pid: int | None = None
        """of the process that listens"""
        self._before: Any = None
        """the handler that was there before"""

    def listen(self) -> None:
        """See that we hear the signal, also after somebody else has begun to listen."""
        number = getattr(signal, os.environ.get(STOP_SIGNAL, ""), None)
        if number is None or self._pid not in (None, os.getpid()):
            return
        before = signal.getsignal(number)
        if before == self._hear or threading.current_thread() is not threading.main_thread():
            return
        self._before, self._pid = before, os.getpid()
        signal.signal(number, self._hear)

    def _hear(self, number: int, frame: FrameType | None) -> None:
        # Whoever listens beside us may call us back: each is called once.
        before, self._before = self._before, None
        try:
            if self._pid != os.getpid():
                signal.signal(number, before or signal.SIG_DFL)
                os.kill(os.getpid(), number)
                return
            self.asked = True
            # Python's own for Ctrl-C would end what is to save first.
            if callable(before) and before is not signal.default_int_handler:
                before(number, frame)
        finally:
            self._before = before


def _numbers(told: Mapping[str, SupportsFloat | None]) -> dict[str, float | None]:
    """The numbers as JSON has them: what is not finite is none, and what is no number is not there.

    Each is asked once: to look at one on a GPU means to wait for it.
    """
    numbers: dict[str, float | None] = {}
    for name, value in told.items():
        if value is None or isinstance(value, int):
            numbers[name] = value if value is None else int(value)
            continue
        try:
            number = float(value)
        except Exception:  # noqa: BLE001, S112 - whatever it is, it is no number
            continue
        numbers[name] = number if math.isfinite(number) else None
    return numbers


def _write(line: Mapping[str, object]) -> None:
    """Append a line, in one go: other processes may do so, too."""
    handle = os.open(os.environ[PROGRESS], os.O_WRONLY | os.O_APPEND)
    try:
        os.write(handle, json.dumps(line).encode() + b"\n")
    finally:
        os.close(handle)


def _leave() -> None:
    """Tell what is held, at the end."""
    try:
        _lines.flush()
    except Exception:  # noqa: BLE001, S110 - as above
        pass


_lines = _Lines()
_stop = _Stop()
atexit.register(_leave)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_lines.forget)
