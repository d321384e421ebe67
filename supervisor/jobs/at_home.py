"""A home as a dispatcher sees it: read-only, but for requests that it leaves in the inbox."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from state.inbox import Inbox
from state.jobs.records import Json, Model
from state.records import Memory, Run
from supervisor.core import pauses
from supervisor.core.moments import Moment
from supervisor.core.queue import ENDED
from supervisor.errors import SupervisorError
from supervisor.follow import last_lines
from supervisor.host.home import Home
from supervisor.jobs.left import NotAsLeft, checked, files_left
from supervisor.jobs.mirror import LIVES, Found
from supervisor.jobs.remembered import Remembered
from supervisor.runners.local import read_heartbeat
from trainers import durable
from trainers.contract import Heartbeat, RunFolder

METRICS = "metrics.json"
"""what a trainer of models measures at its end"""
LINES = 20
"""of metrics that are looked at, the newest"""
FILES_MAX = 100_000
"""of a folder that are measured"""


class AlreadyDispatching(SupervisorError):
    """Another dispatcher serves this home."""

    exit_code = 75  # EX_TEMPFAIL

    def __init__(self, home: Path) -> None:
        super().__init__(f"a dispatcher serves {home} already: one is enough for a home")


class _Threads(msgspec.Struct, frozen=True):
    """As much of a spec as says how many threads a trainer has."""

    threads: int = 1


class Given(NamedTuple):
    """What a run that is done has left in its folder."""

    metrics: Json | None
    model: Model | None
    spoilt: str | None
    """why that is not what it has written"""


class AtHome(Remembered):
    """One home, with all that its runs say.

    Args:
        home: its paths.
    """

    def __init__(self, home: Home) -> None:
        super().__init__(home)
        self.inbox = Inbox(home.inbox)

    def hold(self) -> durable.Lock:
        """Be the one dispatcher of this home, until that is let go of or the process ends.

        Raises:
            AlreadyDispatching: there is one.
            OSError: nothing can be written in the home, or it is gone.
        """
        folder = self.home.dispatcher
        if not durable.is_folder(self.home.path):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), self.home.path)
        durable.make_folder(folder)
        try:
            return durable.hold(folder)
        except BlockingIOError:
            raise AlreadyDispatching(self.home.path) from None

    @property
    def is_up(self) -> bool:
        """Whether a supervisor runs on it."""
        return self.home.holder() is not None

    @property
    def free_bytes(self) -> int:
        """The room on its disk."""
        return shutil.disk_usage(self.home.path).free

    def found(self, run: Run, memory: Memory, moment: Moment, *, up: bool, has_left: bool) -> Found:
        """What is known of a run, with what its trainer has said.

        Args:
            run: which one.
            memory: of the home.
            moment: now.
            up: whether a supervisor runs on it.
            has_left: it is in the queue no more.
        """
        folder = self.home.run(run.id)
        memory_age_s = max(0.0, moment.wall - memory.timeline.seen_at)
        beat = read_heartbeat(folder)
        lives = run.status in LIVES and not has_left
        age_s = memory_age_s
        if lives and beat is not None:
            frozen = run.attempt.frozen_s is not None and up
            age_s = 0.0 if frozen else min(age_s, max(0.0, moment.wall - beat.written_at))
        retry_in_s = None
        if run.retry_s is not None:
            retry_in_s = max(0.0, run.retry_s - memory.timeline.now_s - memory_age_s)
        given = _of_a_model(folder) if run.status == "done" else Given(None, None, None)
        ended = run.status in ENDED
        return Found(
            run=run,
            has_left=has_left,
            beat=beat,
            age_s=age_s,
            retry_in_s=retry_in_s,
            lines=_lines(folder) if lives or ended else (),
            threads=_threads(folder),
            kept_bytes=size_of(folder.path) if ended else _of_checkpoints(beat),
            metrics=given.metrics,
            model=given.model,
            spoilt=given.spoilt,
            paused=None if has_left else _paused(run, memory, up=up),
        )

    def trained_s(self, run_id: str) -> float:
        """How long a run has trained so far, over all claims of its job."""
        beat = read_heartbeat(self.home.run(run_id))
        return 0.0 if beat is None or beat.reached is None else beat.reached.trained_s


def _paused(run: Run, memory: Memory, *, up: bool) -> str | None:
    """Who keeps a run from going on, where it is not its job that is to wait."""
    goal = memory.goal
    if not up:
        return "no supervisor is running"
    if goal.paused:
        return f"paused by {pauses.who(goal.pauses)}"
    if goal.idle_until_s is not None:
        return "the machine is left idle"
    return "the machine is needed" if run.attempt.frozen_s is not None else None


def _lines(folder: RunFolder) -> tuple[Json, ...]:
    found = []
    with contextlib.suppress(OSError):
        for raw in last_lines(folder.metrics, LINES):
            with contextlib.suppress(msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
                found.append(msgspec.json.decode(raw, type=dict[str, Any]))
    return tuple(found)


def _threads(folder: RunFolder) -> int:
    try:
        return max(1, msgspec.json.decode(durable.read(folder.spec), type=_Threads).threads)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return 1


def _of_checkpoints(beat: Heartbeat | None) -> int:
    """What a run takes at least: to measure its folder again and again takes long."""
    return 0 if beat is None or beat.checkpoint_bytes is None else beat.checkpoint_bytes


def size_of(folder: Path) -> int:
    """What the files of a folder take, as far as they are counted."""
    total, counted = 0, 0
    for where, _, files in os.walk(folder):
        for name in files:
            with contextlib.suppress(OSError):
                total += os.lstat(os.path.join(where, name)).st_size  # noqa: PTH118 - many
            counted += 1
            if counted >= FILES_MAX:
                return total
    return total


def _of_a_model(folder: RunFolder) -> Given:
    """What a finished run has left, each file read and compared."""
    model: Model | None = None
    try:
        files = files_left(folder)
        for one in files:
            size_bytes = checked(one)
            model = model or Model(sha256=one.sha256, size_bytes=size_bytes)
    except NotAsLeft as error:
        return Given(None, None, str(error))
    metrics: Json | None = None
    if all(one.name != METRICS for one in files):  # another file of that name is not for us
        return Given(None, model, None)
    with contextlib.suppress(OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        content = durable.read(folder.path / METRICS)
        metrics = msgspec.json.decode(content, type=dict[str, Any])
    return Given(metrics, model, None)
