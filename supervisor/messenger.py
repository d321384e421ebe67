"""What [notify] asks for: lines of the log told elsewhere, and a command when all is done.

The decision log is the queue. `told.json` says up to which line of it everything has been told, so
that a power cut makes nobody miss a line. Each errand is a process of its own with a deadline
(`supervisor.errand`): the daemon's loop waits for none, and opens no connection. Whom something is
told that makes a telephone ring is left alone for a while after it, and then told of all that has
come meanwhile in one message; also over restarts.

The command is begun once for each end of a campaign, and once more if the machine or the supervisor
died while it ran; never a third time. That it is begun is on the disk before it is, and an orderly
stop meanwhile, as the command itself may cause, counts as its end: a machine that is switched on
again to fetch the results stays on.
"""

from __future__ import annotations

import math
import os
import select
import signal
import subprocess
from collections import deque
from collections.abc import Collection, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import msgspec

from state.records import Memory, Process
from supervisor import recipients
from supervisor.core.events import Event
from supervisor.core.queue import ends
from supervisor.core.settings import Notify
from supervisor.errand import Command, Job, Result
from supervisor.host.clock import Clock
from supervisor.host.home import Home
from supervisor.host.process import start_ticks
from supervisor.journal import Journal, Line, tail
from supervisor.programs import program
from supervisor.recipients import SPARE_S, Recipient, result_of
from trainers import durable

TRIES_MAX = 2
"""of one command, for one end of a campaign"""
LINES_KEPT = 200
"""newest lines that wait to be told; older ones are not told elsewhere any more"""
REST_MIN_S, REST_MAX_S = 60.0, 3600.0
"""rest of a recipient that took nothing; doubled with each failure"""
RESULT_MAX_BYTES = 65536
DEATH_S = 5.0
"""how long a killed process is waited for"""


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """The content of `told.json`."""

    done: int
    """the newest end of a campaign whose command needs nothing more: the number of its line"""
    tries: int = 0
    """how often the command of the end after that was begun"""
    process: Process | None = None
    """what ran it last"""
    posted: dict[str, int] = {}
    """recipient, by the checksum of its address: the last line that it has"""
    posted_at: dict[str, float] = {}
    """the same: when it was told that, in wall time"""


class Said(NamedTuple):
    """Something for the log about an errand."""

    event: str
    rule: str
    reason: str
    evidence: dict[str, Any]


class Messenger:
    """Runs the errands of one supervisor, one at a time.

    Args:
        home: where the log and `told.json` lie.
        journal: knows how far the log has grown.
        clock: tells the time.
    """

    def __init__(self, home: Home, journal: Journal, clock: Clock) -> None:
        self._home, self._journal, self._clock = home, journal, clock
        # What was before anybody asked for it, nobody is told of.
        self._began = journal.last
        known = _read(home)
        self._told = known or Told(done=journal.last)
        if known is None:  # from here on, an end is never taken for one from before
            self._remember()
        self._read_to = min((self._told.done, *self._told.posted.values()))
        self._lines: deque[Line] = deque(maxlen=LINES_KEPT)
        self._ended = 0
        """the newest end of a campaign in the log"""
        self._came: dict[str, int] = {}
        """of that end, where it was one of a generation: which, and how its runs have ended"""
        self._announced = (0, 0)
        """the end and the try that the log was last told of"""
        self._next: tuple[str, Job] | None = None
        self._errand: _Errand | None = None
        self._rests: dict[str, tuple[float, float]] = {}
        """recipient -> until when it has no errand after a failure, and how long its rest was"""
        self._held_until_s: float | None = None
        """when the first recipient may be told something that only waits for that"""

    @property
    def handles(self) -> tuple[int, ...]:
        """What becomes readable when an errand has ended."""
        return (self._errand.handle,) if self._errand is not None else ()

    @property
    def busy(self) -> bool:
        """Whether an errand runs, or would now, or is to in less than a minute."""
        waits = self._held_until_s is not None
        return self._errand is not None or self._next is not None or waits

    @property
    def due_s(self) -> float:
        """When to tend again if nothing ends before."""
        now_s = self._clock.read().monotonic_s
        dues = [until_s - now_s for until_s, _ in self._rests.values() if until_s > now_s]
        if self._held_until_s is not None:
            dues.append(self._held_until_s - now_s)
        if self._errand is not None:
            dues.append(self._errand.until_s - now_s)
        return max(0.1, min(dues, default=math.inf))

    def tend(self, wanted: Notify, memory: Memory) -> list[Said]:
        """See what has ended and what is due; what there is to say of it."""
        said = self._end()
        before = max(self._began, self._read_to)
        self._read_on()
        self._next = self._held_until_s = None
        if self._errand is None:
            self._choose_lines(recipients.of(wanted), wanted.chosen, before)
        if not self.busy:  # it may switch the machine off: first everybody hears of the end
            said += self._choose_command(wanted, memory)
        return said

    def go(self) -> None:
        """Begin what `tend` has chosen, now that the log has it."""
        if self._next is None:
            return
        (recipient, job), self._next, before = self._next, None, self._told
        try:
            errand = _Errand(recipient, job, self._clock.read().monotonic_s)
        except OSError:
            self._rest(recipient)
            return
        if not recipient and not self._remember(
            tries=self._told.tries + 1, process=errand.process(self._clock.read().boot_id)
        ):
            errand.end()  # it has been given no job yet
            self._told = before
            self._rest(recipient)
            return
        errand.give()
        self._errand = errand

    def leave(self) -> list[Said]:
        """Let go of a command that runs: the machine may be going down because of it."""
        errand = self._errand
        if errand is None or errand.recipient:
            return []
        self._remember(done=errand.job.seq, tries=0, process=None)
        reason = f"{errand.job.name} runs on while the supervisor leaves; it is not begun again"
        return [Said(Event.NOTIFY_ENDED, "when_done", reason, {})]

    def _read_on(self) -> None:
        if self._journal.last <= self._read_to:
            return
        new = min(self._journal.last - self._read_to, LINES_KEPT)
        for line in tail(self._home.decisions, new):
            seq = line.get("seq")
            if isinstance(seq, int) and seq > self._read_to:
                self._lines.append(line)
                if line.get("event") == Event.CAMPAIGN_DONE:
                    self._ended, self._came = seq, line.get("evidence") or {}
        self._read_to = self._journal.last

    def _choose_lines(
        self, asked: Sequence[Recipient], events: Collection[str], before: int
    ) -> None:
        """Choose lines that one waits for; who is new hears what comes from now on."""
        new = {one.key: before for one in asked if one.key not in self._told.posted}
        if new:
            self._remember(posted={**self._told.posted, **new})
        for one in asked:
            lines = [line for line in self._lines if line["seq"] > self._told.posted[one.key]]
            chosen = [line for line in lines if line.get("event") in events]
            if not chosen or not self._is_rested(one.key):
                continue
            if (left_s := self._left_alone_s(one)) > 0:
                until_s = self._clock.read().monotonic_s + left_s
                self._held_until_s = min(until_s, self._held_until_s or until_s)
                continue
            self._next = (one.key, one.job(chosen, self._home.path))
            return

    def _choose_command(self, wanted: Notify, memory: Memory) -> list[Said]:
        """Choose the command of the newest end, if there was one and it is still the end."""
        if self._ended <= self._told.done:
            return []
        if not wanted.when_done:  # who asks for one later means a later end
            self._remember(done=self._ended)
            return []
        # What comes after the end of a generation is the next one, and no reason to be silent.
        known = memory.generations
        is_past = known is not None and self._came.get("generation", known.number) < known.number
        if not (memory.resting or is_past) or not self._is_rested(""):
            return []
        if self._is_running(self._told.process):  # the supervisor before this one began it
            self._rests[""] = (self._clock.read().monotonic_s + REST_MIN_S, REST_MIN_S)
            return []
        name = wanted.when_done[0]
        if self._told.tries >= TRIES_MAX:
            self._remember(done=self._ended, tries=0, process=None)
            reason = f"{name} was cut off {TRIES_MAX} times, and is not begun again"
            return [Said(Event.NOTIFY_FAILED, "when_done", reason, {})]
        self._next = ("", _command(wanted, memory, self._home, self._ended, self._came))
        attempt = (self._ended, self._told.tries)
        if attempt == self._announced:  # it could not be started, and rested
            return []
        self._announced = attempt
        again = " again: it was cut off" if self._told.tries else ""
        reason = f"every run has ended: running {name}{again}"
        return [Said(Event.NOTIFY_STARTED, "when_done", reason, {"tries": self._told.tries + 1})]

    def _end(self) -> list[Said]:
        """What an errand came to that has ended."""
        errand = self._errand
        if errand is None:
            return []
        result = errand.result(self._clock.read().monotonic_s)
        if result is None:
            return []
        self._errand, job = None, errand.job
        event = Event.NOTIFY_ENDED if result.well else Event.NOTIFY_FAILED
        if not errand.recipient:
            self._rests.pop("", None)
            self._remember(done=job.seq, tries=0, process=None)
            evidence = {"code": result.code, "output": result.output}
            return [Said(event, "when_done", f"{job.name} {result.said}", evidence)]
        if result.well:
            self._rests.pop(errand.recipient, None)
            self._remember(
                posted={**self._told.posted, errand.recipient: job.seq},
                posted_at={**self._told.posted_at, errand.recipient: self._clock.read().wall},
            )
            return []
        first = errand.recipient not in self._rests
        self._rest(errand.recipient)
        reason = f"{job.name} {result.said}; it is tried again"
        return [Said(event, "urls", reason, {})] if first else []

    def _is_running(self, process: Process | None) -> bool:
        if process is None or process.boot_id != self._clock.read().boot_id:
            return False
        return start_ticks(process.pid) == process.start_ticks

    def _left_alone_s(self, one: Recipient) -> float:
        """How much longer nobody tells it anything; by wall time, which goes on over restarts."""
        ago_s = self._clock.read().wall - self._told.posted_at.get(one.key, -math.inf)
        return one.pace_s - ago_s if 0 <= ago_s < one.pace_s else 0.0

    def _is_rested(self, recipient: str) -> bool:
        return self._clock.read().monotonic_s >= self._rests.get(recipient, (0.0, 0.0))[0]

    def _rest(self, recipient: str) -> None:
        rest_s = min(REST_MAX_S, 2 * self._rests.get(recipient, (0.0, REST_MIN_S / 2))[1])
        self._rests[recipient] = (self._clock.read().monotonic_s + rest_s, rest_s)

    def _remember(self, **changes: Any) -> bool:
        """Write down how far everything is told; whether the disk has it."""
        self._told = msgspec.structs.replace(self._told, **changes)
        try:
            durable.write(self._home.told, msgspec.json.encode(self._told))
        except OSError:
            return False
        return True


class _Errand:
    """One process that runs one errand.

    Raises:
        OSError: it could not be started.
    """

    def __init__(self, recipient: str, job: Job, now_s: float) -> None:
        self.recipient, self.job = recipient, job
        """who is told lines; empty: it is the command"""
        self.until_s = now_s + job.max_s + SPARE_S
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(
            program("supervisor.errand"),
            stdin=pipe,
            stdout=pipe,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is for the daemon
        )
        self.handle = os.pidfd_open(self._process.pid)

    def process(self, boot_id: str) -> Process:
        """Its identity."""
        pid = self._process.pid
        return Process(boot_id=boot_id, pid=pid, start_ticks=start_ticks(pid) or 0)

    def give(self) -> None:
        """Let it begin. A job is smaller than what a pipe takes."""
        assert self._process.stdin is not None  # noqa: S101 - given by PIPE, unknown to mypy
        with suppress(OSError):  # it is gone: its end tells
            self._process.stdin.write(msgspec.json.encode(self.job))
            self._process.stdin.close()

    def end(self) -> None:
        """End it at once."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        with suppress(subprocess.TimeoutExpired):  # stuck in the kernel: it does nothing more
            self._process.wait(DEATH_S)
        for pipe in (self._process.stdin, self._process.stdout):
            with suppress(OSError):
                if pipe is not None:
                    pipe.close()
        os.close(self.handle)

    def result(self, now_s: float) -> Result | None:
        """What came of it; None: it runs still."""
        poll = select.poll()
        poll.register(self.handle, select.POLLIN)
        ended = bool(poll.poll(0))
        if not ended and now_s < self.until_s:
            return None
        content = b""
        if ended:
            assert self._process.stdout is not None  # noqa: S101 - as above
            content = os.read(self._process.stdout.fileno(), RESULT_MAX_BYTES)
        self.end()
        return result_of(content)


def _command(
    wanted: Notify, memory: Memory, home: Home, seq: int, of_generation: dict[str, int]
) -> Job:
    came = ends(memory)
    total, failed = came.total, came.failed
    more = {}
    if "generation" in of_generation:
        total, failed = of_generation["runs"], of_generation["failed"]
        more = {"SUPERVISOR_GENERATION": str(of_generation["generation"])}
    return Command(
        seq=seq,
        name=wanted.when_done[0],
        max_s=wanted.when_done_max_s,
        words=wanted.when_done,
        folder=str(home.path),
        environment={
            "SUPERVISOR_HOME": str(home.path),
            "SUPERVISOR_OUTCOME": "failed" if failed else "done",
            "SUPERVISOR_RUNS": str(total),
            "SUPERVISOR_RUNS_FAILED": str(failed),
            **more,
        },
    )


def _read(home: Home) -> Told | None:
    """How far everything is told; None where that is not known."""
    try:
        return msgspec.json.decode(durable.read(home.told), type=Told)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
