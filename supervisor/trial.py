"""Changed settings on trial: the trainers look at them before they are in force.

A trainer alone knows whether its options are right, and whether a run can go on under them with
what it has learnt. To ask takes seconds, and imports what is heavy, so `check-config` does it in a
process of its own, and no look waits for it. Until it has told, and wherever it refuses, the
settings in force stay, and nothing that trains is stopped.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

import msgspec

from supervisor.host.process import give_back_protection

TRIAL_MAX_S, RUN_MAX_S = 300.0, 5.0
"""after which the trainers have not answered, and for each run that they are asked about more"""
ANSWER_MAX_BYTES = 2**20
DEATH_S = 5.0
"""how long a killed process is waited for"""


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What `check-config --json` says."""

    problems: tuple[str, ...]
    """why the settings cannot be in force; none: they can"""
    notes: tuple[str, ...] = ()
    """what a person should know of them"""
    passing: bool = False
    """nobody has refused them, and another try may tell"""


class Trial:
    """Has `check-config` look at settings that have changed, one time after the other.

    Args:
        command: `check-config --changed --json` of this home.
        monotonic_s: CLOCK_MONOTONIC, in seconds.
    """

    def __init__(
        self, command: Sequence[str], *, monotonic_s: Callable[[], float] = time.monotonic
    ) -> None:
        self._command = command
        self._monotonic_s = monotonic_s
        self._process: subprocess.Popen[bytes] | None = None
        self._handle = self._answer = -1
        self._max_s = self._until_s = 0.0

    @property
    def handles(self) -> tuple[int, ...]:
        """What becomes readable once there is a verdict."""
        return () if self._process is None else (self._handle,)

    def begin(self, runs: int) -> None:
        """Begin, in place of a trial that is under way.

        Args:
            runs: how many the trainers are asked about.
        """
        self.end()
        self._max_s = TRIAL_MAX_S + RUN_MAX_S * runs
        self._until_s = self._monotonic_s() + self._max_s
        try:
            # It takes whatever comes, and waits for nobody.
            self._answer = os.memfd_create("verdict")
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=self._answer,
                stderr=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C is for the daemon
            )
        except OSError:
            return  # no room for a process: the verdict says so
        give_back_protection(self._process.pid)
        self._handle = os.pidfd_open(self._process.pid)

    def verdict(self, within_s: float = 0.0) -> Verdict | None:
        """What came of it, once; None: it is under way still.

        Args:
            within_s: how long to wait for it.
        """
        if self._process is None:
            why = "the changes cannot be checked: no process can be started"
            return Verdict(problems=(why,), passing=True)
        poll = select.poll()
        poll.register(self._handle, select.POLLIN)
        ended = bool(poll.poll(within_s * 1000))
        if not ended and self._monotonic_s() < self._until_s:
            return None
        content, process = os.pread(self._answer, ANSWER_MAX_BYTES, 0), self._process
        self.end()
        if not ended:
            late = f"the trainers have not checked the changes within {self._max_s:.0f} s"
            return Verdict(problems=(late,), passing=True)
        try:
            return msgspec.json.decode(content, type=Verdict)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            how = f"`check-config` ended with {process.returncode}"
            why = f"the changes could not be checked: {how}"
            return Verdict(problems=(why,), passing=True)

    def end(self) -> None:
        """Have none under way."""
        if self._answer >= 0:
            os.close(self._answer)
            self._answer = -1
        if self._process is None:
            return
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        with suppress(subprocess.TimeoutExpired):  # stuck in the kernel: it does nothing more
            self._process.wait(DEATH_S)
        os.close(self._handle)
        self._process = None
