"""What [notify] asks for: lines of the log posted elsewhere, and a command when all is done.

The decision log is the queue. `told.json` says up to which line of it everything has been told, so
that a power cut makes nobody miss a line. Each errand is a process of its own with a deadline
(`supervisor.errand`): the daemon's loop waits for none, and opens no connection.

The command is begun once for each end of a campaign, and once more if the machine or the supervisor
died while it ran; never a third time. That it is begun is on the disk before it is, and an orderly
stop meanwhile, as the command itself may cause, counts as its end: a machine that is switched on
again to fetch the results stays on.
"""

from __future__ import annotations

import math
import os
import re
import select
import signal
import subprocess
import zlib
from collections import deque
from contextlib import suppress
from typing import Any, NamedTuple

import msgspec

from state.records import Memory, Process
from supervisor.core.events import Event
from supervisor.core.queue import ends
from supervisor.core.settings import Notify
from supervisor.errand import Job, Result
from supervisor.host.clock import Clock
from supervisor.host.home import Home
from supervisor.host.process import start_ticks
from supervisor.journal import Journal, Line, human, tail
from supervisor.programs import program
from trainers import durable

TRIES_MAX = 2
"""of one command, for one end of a campaign"""
LINES_KEPT = 200
"""newest lines that wait to be posted; older ones are not told elsewhere any more"""
LINES_AT_ONCE = 20
REASON_MAX = 500
"""letters of a sentence that is posted"""
POST_MAX_S = 60.0
"""one errand to one place, repetitions included"""
POST_PAUSE_S = 4.0
"""between its attempts"""
SPARE_S = 30.0
"""beyond its own deadline, before the process of an errand is ended"""
REST_MIN_S, REST_MAX_S = 60.0, 3600.0
"""rest of a place that took no lines; doubled with each failure"""
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
    """place, by the checksum of its address: the last line that it has"""


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
        """place -> until when it has no errand, and how long its rest was"""

    @property
    def handles(self) -> tuple[int, ...]:
        """What becomes readable when an errand has ended."""
        return (self._errand.handle,) if self._errand is not None else ()

    @property
    def busy(self) -> bool:
        """Whether an errand runs, or would now."""
        return self._errand is not None or self._next is not None

    @property
    def due_s(self) -> float:
        """When to tend again if nothing ends before."""
        now_s = self._clock.read().monotonic_s
        dues = [until_s - now_s for until_s, _ in self._rests.values() if until_s > now_s]
        if self._errand is not None:
            dues.append(self._errand.until_s - now_s)
        return max(0.1, min(dues, default=math.inf))

    def tend(self, wanted: Notify, memory: Memory) -> list[Said]:
        """See what has ended and what is due; what there is to say of it."""
        said = self._end()
        before = max(self._began, self._read_to)
        self._read_on()
        self._next = None
        if self._errand is None:
            self._choose_post(wanted, before)
        if not self.busy:  # it may switch the machine off: first everybody hears of the end
            said += self._choose_command(wanted, memory)
        return said

    def go(self) -> None:
        """Begin what `tend` has chosen, now that the log has it."""
        if self._next is None:
            return
        (place, job), self._next, before = self._next, None, self._told
        try:
            errand = _Errand(place, job, self._clock.read().monotonic_s)
        except OSError:
            self._rest(place)
            return
        if not place and not self._remember(
            tries=self._told.tries + 1, process=errand.process(self._clock.read().boot_id)
        ):
            errand.end()  # it has been given no job yet
            self._told = before
            self._rest(place)
            return
        errand.give()
        self._errand = errand

    def leave(self) -> list[Said]:
        """Let go of a command that runs: the machine may be going down because of it."""
        errand = self._errand
        if errand is None or errand.place:
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

    def _choose_post(self, wanted: Notify, before: int) -> None:
        """Choose lines that a place waits for; one that is new hears what comes from now on."""
        for url in wanted.urls:
            place = f"{zlib.crc32(url.encode()):08x}"
            if place not in self._told.posted:
                self._remember(posted={**self._told.posted, place: before})
            lines = [line for line in self._lines if line["seq"] > self._told.posted[place]]
            chosen = [line for line in lines if line.get("event") in wanted.chosen][:LINES_AT_ONCE]
            if chosen and self._is_rested(place):
                self._next = (place, _post(url, chosen))
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
        if not errand.place:
            self._rests.pop("", None)
            self._remember(done=job.seq, tries=0, process=None)
            evidence = {"code": result.code, "output": result.output}
            return [Said(event, "when_done", f"{job.name} {result.said}", evidence)]
        if result.well:
            self._rests.pop(errand.place, None)
            self._remember(posted={**self._told.posted, errand.place: job.seq})
            return []
        first = errand.place not in self._rests
        self._rest(errand.place)
        reason = f"{job.name} {result.said}; it is tried again"
        return [Said(event, "urls", reason, {})] if first else []

    def _is_running(self, process: Process | None) -> bool:
        if process is None or process.boot_id != self._clock.read().boot_id:
            return False
        return start_ticks(process.pid) == process.start_ticks

    def _is_rested(self, place: str) -> bool:
        return self._clock.read().monotonic_s >= self._rests.get(place, (0.0, 0.0))[0]

    def _rest(self, place: str) -> None:
        rest_s = min(REST_MAX_S, 2 * self._rests.get(place, (0.0, REST_MIN_S / 2))[1])
        self._rests[place] = (self._clock.read().monotonic_s + rest_s, rest_s)

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

    def __init__(self, place: str, job: Job, now_s: float) -> None:
        self.place, self.job = place, job
        """the place that lines are posted to; empty: it is the command"""
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
        try:
            return msgspec.json.decode(content, type=Result)
        except msgspec.MsgspecError:
            return Result(well=False, said="came to no end that is known")


def _command(
    wanted: Notify, memory: Memory, home: Home, seq: int, of_generation: dict[str, int]
) -> Job:
    came = ends(memory)
    total, failed = came.total, came.failed
    more = {}
    if of_generation:
        total, failed = of_generation["runs"], of_generation["failed"]
        more = {"SUPERVISOR_GENERATION": str(of_generation["generation"])}
    return Job(
        seq=seq,
        name=wanted.when_done[0],
        max_s=wanted.when_done_max_s,
        command=wanted.when_done,
        folder=str(home.path),
        environment={
            "SUPERVISOR_HOME": str(home.path),
            "SUPERVISOR_OUTCOME": "failed" if failed else "done",
            "SUPERVISOR_RUNS": str(total),
            "SUPERVISOR_RUNS_FAILED": str(failed),
            **more,
        },
    )


def _post(url: str, lines: list[Line]) -> Job:
    host = os.uname().nodename
    told = [human(line) for line in lines]
    text = "\n".join(
        f"{host}: {' '.join(filter(None, (one['event'], one['subject'])))}: "
        f"{one['reason'][:REASON_MAX]}"
        for one in told
    )
    fields = ("seq", "time", "event", "rule", "run", "old", "new", "reason")
    kept = [
        {field: str(line[field])[:REASON_MAX] if field != "seq" else line[field]
         for field in fields if line.get(field) is not None}
        for line in lines
    ]  # fmt: skip
    body = {"text": text[:1900], "content": text[:1900], "host": host, "lines": kept}
    return Job(
        seq=lines[-1]["seq"], name=_host(url), max_s=POST_MAX_S, url=url,
        body=msgspec.json.encode(body).decode(), pause_s=POST_PAUSE_S,
    )  # fmt: skip


def _host(url: str) -> str:
    """Where a post goes, without what only its sender should know."""
    found = re.match(r"https?://(?:[^/?#]*@)?([^/?#]*)", url)
    return found[1] if found else "an address"


def _read(home: Home) -> Told | None:
    """How far everything is told; None where that is not known."""
    try:
        return msgspec.json.decode(durable.read(home.told), type=Told)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
