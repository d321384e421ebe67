"""The GPUs, seen through a process that may hang or crash in the daemon's place.

NVML is a C library. When a GPU fails, its calls may never return, or may end the process that
made them. So the daemon never loads it: ``Gpus`` asks a child process, and takes the answer when it
is there. Both sides of that conversation are here: ``Gpus`` and ``_Process`` in the daemon,
``main`` and ``_Gpu`` in the child.

The conversation is one JSON line each way. The child speaks first: one reply that tells whether
NVML works at all. After that it answers each request with one reply, and is asked the next
only then.

What is deliberately absent: threads, and a second child while an earlier one still lives. A
process that is stuck in the driver cannot be killed, and there must not be more than one of it.
"""

import ctypes
import math
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Literal, TypeVar

import msgspec

from supervisor.core.readings import GpuAnswer, GpuReadings
from supervisor.programs import program

COMMAND = tuple(program("supervisor.host.gpu"))

# NVML may wake every GPU when it starts, which takes seconds for each; a late start is no hang.
START_TIMEOUT_S = 60.0
# Memory in use and temperatures are others after that. Far more than the deadline, so that an
# answer that comes at all is still of use to the look that it causes.
ANSWER_MAX_S = 30.0
REST_MIN_S = 5.0
REST_MAX_S = 3600.0

REPLY_BYTES_MAX = 2**20
# An Xid storm must not keep the process from answering.
XIDS_MAX = 64

STARTING = "NVML is still starting"

MIB = 2**20
PR_SET_PDEATHSIG = 1  # from <linux/prctl.h>

Answer = TypeVar("Answer")


class _Request(msgspec.Struct, frozen=True, kw_only=True):
    """What the daemon asks."""

    ask: Literal["read", "limit_power"]
    watts: float | None = None
    """the limit to set on each GPU; None is each GPU's own default"""


class _Reply(msgspec.Struct, frozen=True, kw_only=True):
    """What the NVML process answers."""

    gpus: tuple[GpuReadings, ...] = ()
    trouble: str | None = None
    """what could not be read or set"""
    broken: str | None = None
    """why NVML as a whole is of no use to this process"""
    absent: bool = False
    """whether this machine has no GPU, as far as NVML knows"""


class _ProcessError(Exception):
    """The NVML process is of no more use; the message says why."""


class _Newest(msgspec.Struct, frozen=True, kw_only=True):
    """The newest reading that has come."""

    reply: _Reply
    asked_s: float
    told: bool = False
    """whether a look has had it: its Xids are not told twice"""


class Gpus:
    """Reads and limits the GPUs; never raises.

    A look takes what has come, and asks for the next reading: ``read``. Whoever sleeps between the
    looks sleeps on ``handles`` too, for ``due_s`` at most, and looks again once ``take`` says so.
    That look asks for nothing, or looks and answers would chase each other for ever.

    A process that hangs, crashes, talks nonsense or finds NVML broken is killed, and the next one
    starts after a rest that doubles from ``REST_MIN_S`` to ``REST_MAX_S``. Only a process that
    has lived for ``REST_MAX_S`` earns a short rest again, so that one which answers once and then
    crashes does not escape the doubling. A machine without a GPU is asked again once in
    ``REST_MAX_S``.

    To be made in the daemon's main thread: the kernel ends the process with the thread that
    started it.

    Args:
        timeout_s: how long an answer may be under way, in seconds. Nobody waits for it but
            ``limit_power`` and ``read_now``.
        monotonic: the clock that the rests are measured with, in seconds.
        command: the NVML process.
    """

    def __init__(
        self,
        *,
        timeout_s: float = 5.0,
        monotonic: Callable[[], float] = time.monotonic,
        command: Sequence[str] = COMMAND,
    ) -> None:
        self._timeout_s = timeout_s
        self._monotonic = monotonic
        self._command = command
        self._process: _Process | None = None
        self._started_s = -math.inf
        self._speaking = False
        """whether the process has said that NVML works"""
        self._asked_s: float | None = None
        """when the reading was asked for that is under way; None: none is"""
        self._wanted = False
        """whether a look came after that: then the next reading is asked for at once"""
        self._since_s: float | None = None
        """since when looks have been without an answer to what they asked; None: they are not"""
        self._newest: _Newest | None = None
        self._news = False
        """whether there is more to be told than at the look before"""
        self._woke = False
        """whether that has caused the look which comes next"""
        self._unburied: _Process | None = None
        """a process that was killed and is not dead yet"""
        self._resting_until_s = -math.inf
        self._rest_s = REST_MIN_S
        self._resting = _Reply()
        """the answer to everything while no process is asked"""
        self._seen = False
        """whether a GPU was ever read: then having none is trouble, not normal"""

    @property
    def handles(self) -> tuple[int, ...]:
        """Readable once ``take`` finds something; none while no answer is under way."""
        return (self._process.handle,) if self._process is not None and self._is_busy else ()

    @property
    def due_s(self) -> float:
        """Seconds until the patience ends with what is under way; infinite where nothing is.

        A slow start is looked at in between: a look may have put off what it need not put off for
        ever.
        """
        if not self._is_busy:
            return math.inf
        now_s = self._monotonic()
        if self._asked_s is not None:
            return max(0.0, self._asked_s + self._timeout_s - now_s)
        return max(0.0, min(self._timeout_s, self._started_s + START_TIMEOUT_S - now_s))

    def take(self) -> bool:
        """Take what has come, and return whether that is worth a look. Never waits for an answer.

        Only whoever looks at once may call it: that look asks for no further answer.
        """
        self._take()
        self._woke = self._news
        return self._news

    def read(self) -> GpuAnswer:
        """Return what is known of the GPUs by now, and ask for the next reading.

        Never waits for an answer. To end a process that has failed takes ``_Process.DEATH_S`` for
        each of its two ends, at most, once in each rest.
        """
        self._take()
        # A look that something else has caused wants to know how things are since.
        if not self._woke or self._is_old():
            self._want()
        self._woke = self._news = False
        return self._answer()

    def read_now(self) -> GpuAnswer:
        """Read the GPUs and wait for it up to the deadline: for a command that does only that."""
        self._take()
        self._want()
        try:
            self._listen(self._timeout_s)
            if self._asked_s is not None:
                raise _ProcessError(self._describe_silence())
        except _ProcessError as failed:
            self._rest(_Reply(trouble=str(failed)))
        return GpuAnswer(trouble=STARTING) if self._is_busy else self._answer()

    def limit_power(self, watts: float | None) -> str | None:
        """Set the power limit of every GPU, within what each one allows.

        Waits up to one deadline for what is under way, and up to another one for its own reply:
        the trainers that start next are to find the limit in force.

        Args:
            watts: the limit for each GPU, clamped to its own constraints (the readings tell what
                was set); None gives each GPU its default back.

        Returns:
            None when every GPU has its limit, otherwise the reason why one has not, such as a
            missing permission. The limit is lost in a reboot: it is to be set at every boot.

        Raises:
            ValueError: ``watts`` is not a positive finite number.
        """
        # NaN would travel as null, which is the request for the default.
        if watts is not None and not 0 < watts < math.inf:
            message = f"a power limit must be a positive number of watts, not {watts}"
            raise ValueError(message)
        try:
            reply = self._limit_power(_Request(ask="limit_power", watts=watts))
        except _ProcessError as failed:
            self._rest(_Reply(trouble=str(failed)))
            reply = self._resting
        if reply.absent and watts is not None:
            return "there is no GPU to limit"
        return reply.trouble

    def close(self) -> None:
        """End the NVML process. Waits a moment for it, and leaves it if it cannot die."""
        if self._process is not None:
            self._process.kill()
        self._forget()

    @property
    def _is_busy(self) -> bool:
        """Whether the process owes an answer, be it the first that NVML works."""
        return self._process is not None and (not self._speaking or self._asked_s is not None)

    def _is_old(self) -> bool:
        newest = self._newest
        return newest is not None and self._monotonic() - newest.asked_s > ANSWER_MAX_S

    def _answer(self) -> GpuAnswer:
        """Return what is known by now, and take it for told."""
        now_s, newest = self._monotonic(), self._newest
        awaited_s = None if self._since_s is None else now_s - self._since_s
        if newest is None or self._is_old():
            starting = self._is_busy and not self._speaking
            slow = starting and now_s - self._started_s >= self._timeout_s
            # What the process before this one has failed of is the best that is known.
            trouble = STARTING if slow else self._resting.trouble
            return GpuAnswer(trouble=trouble, awaited_s=awaited_s)
        gpus = newest.reply.gpus
        if newest.told:
            gpus = tuple(_without_xids(gpu) for gpu in gpus)
        self._newest = msgspec.structs.replace(newest, told=True)
        return GpuAnswer(
            gpus=gpus,
            trouble=newest.reply.trouble,
            age_s=now_s - newest.asked_s,
            awaited_s=awaited_s,
        )

    def _take(self) -> None:
        """Take what has come, without waiting, and give up what has been silent for too long."""
        try:
            self._listen(0.0)
            if self._is_busy and self.due_s <= 0:
                raise _ProcessError(self._describe_silence())
        except _ProcessError as failed:
            self._rest(_Reply(trouble=str(failed)))

    def _want(self) -> None:
        """Have a reading of this moment on its way, unless this is a time of rest."""
        now_s = self._monotonic()
        if self._process is None and now_s < self._resting_until_s:
            return
        self._wanted = True
        self._since_s = now_s if self._since_s is None else self._since_s
        try:
            if self._process is None:
                self._start()
            elif not self._is_busy:
                self._ask()
        except _ProcessError as failed:
            self._rest(_Reply(trouble=str(failed)))

    def _listen(self, wait_s: float) -> None:
        """Take what comes within ``wait_s`` seconds, until nothing is under way.

        Raises:
            _ProcessError: the process is of no more use.
        """
        # Real time, whatever clock measures the rests: this waits for a real process.
        until_s = time.monotonic() + wait_s
        while self._process is not None and self._is_busy:
            reply = self._process.receive(until_s - time.monotonic())
            if reply is None:
                return
            self._hear(reply)

    def _hear(self, reply: _Reply) -> None:
        """Understand one reply.

        Raises:
            _ProcessError: NVML does not work in that process.
        """
        if not self._speaking and reply.absent:
            if self._seen:  # a driver upgrade takes the library away for a while
                message = "the GPUs that were here are gone"
                raise _ProcessError(message)
            self._rest(_Reply(absent=True), rest_s=REST_MAX_S)
            return
        if reply.broken is not None:
            raise _ProcessError(reply.broken)
        if self._speaking:
            self._keep(reply)
        self._speaking = True
        if self._wanted:
            self._ask()

    def _keep(self, reading: _Reply) -> None:
        """Keep a reading as the newest, with the Xids of one before it that no look has had."""
        assert self._asked_s is not None  # noqa: S101 - only then a reply is a reading
        before = self._newest
        unheard = {} if before is None or before.told else _xids(before.reply)
        gpus = tuple(
            msgspec.structs.replace(gpu, xids=(*unheard[gpu.index], *(gpu.xids or ())))
            if gpu.index in unheard
            else gpu
            for gpu in reading.gpus
        )
        reply = msgspec.structs.replace(reading, gpus=gpus)
        self._newest = _Newest(reply=reply, asked_s=self._asked_s)
        self._asked_s = None
        self._resting = _Reply()  # what the process before this one has failed of is over
        self._seen = self._seen or bool(gpus)
        if not self._wanted:
            self._since_s, self._news = None, True

    def _ask(self) -> None:
        """Ask for a reading, while nothing is under way.

        Raises:
            _ProcessError: the process has ended, or talks without having been asked.
        """
        self._idle_process().send(_Request(ask="read"))
        self._asked_s, self._wanted = self._monotonic(), False

    def _limit_power(self, request: _Request) -> _Reply:
        """Return the reply to that, once what was under way before is there.

        Raises:
            _ProcessError: the process is of no more use.
        """
        if self._process is None:
            if self._monotonic() < self._resting_until_s:
                return self._resting
            self._start()
        self._listen(self._timeout_s)
        if self._process is None:
            return self._resting
        if not self._speaking:
            return _Reply(trouble=STARTING)
        if self._is_busy:
            if self.due_s > 0:  # a second reading, asked for meanwhile: it has time left
                return _Reply(trouble="NVML is still reading")
            raise _ProcessError(self._describe_silence())
        process = self._idle_process()
        process.send(request)
        reply = process.receive(self._timeout_s)
        if reply is None:
            raise _ProcessError(self._describe_silence())
        if reply.broken is not None:
            raise _ProcessError(reply.broken)
        return reply

    def _idle_process(self) -> "_Process":
        """Return the process, which has said nothing since it last answered.

        Raises:
            _ProcessError: it has.
        """
        assert self._process is not None  # noqa: S101 - nobody asks without one
        said = self._process.receive(0.0)
        if said is not None:  # it would be taken for the answer to what is asked next
            message = f"the NVML process talks out of turn: {str(said)[:80]}"
            raise _ProcessError(message)
        return self._process

    def _start(self) -> None:
        """Start a process.

        Raises:
            _ProcessError: it could not be started.
        """
        if self._unburied is not None and not self._unburied.is_dead():
            message = "the NVML process is stuck in the driver: needs a reboot"
            raise _ProcessError(message)
        self._unburied = None
        self._started_s = self._monotonic()
        self._process = _Process(self._command)

    def _describe_silence(self) -> str:
        if self._speaking:
            return f"NVML did not answer within {self._timeout_s:g} s"
        return f"NVML did not start within {START_TIMEOUT_S:g} s"

    def _forget(self) -> None:
        """Forget the process and all that it owes and has told."""
        self._process, self._speaking, self._asked_s = None, False, None
        self._wanted, self._since_s, self._newest = False, None, None

    def _rest(self, answer: _Reply, *, rest_s: float | None = None) -> None:
        """End the process and start none for a while, in which ``answer`` answers everything.

        Args:
            answer: what is known in the meantime.
            rest_s: how long to rest, in seconds; the doubling rest when None.
        """
        now_s = self._monotonic()
        if rest_s is None:
            if now_s - self._started_s >= REST_MAX_S:
                self._rest_s = REST_MIN_S
            rest_s = self._rest_s
            self._rest_s = min(2 * self._rest_s, REST_MAX_S)
        self._resting_until_s = now_s + rest_s
        self._resting = answer
        if self._process is not None and not self._process.kill():
            self._unburied = self._process
        self._forget()
        self._news = True


def _xids(reply: _Reply) -> dict[int, tuple[int, ...]]:
    """Return the Xids that a reading tells, by GPU."""
    return {gpu.index: gpu.xids for gpu in reply.gpus if gpu.xids}


def _without_xids(gpu: GpuReadings) -> GpuReadings:
    """Return that GPU as it is once its Xids are told: none since."""
    return msgspec.structs.replace(gpu, xids=()) if gpu.xids else gpu


class _Process:
    """One NVML process, from its start to its end.

    Its own session keeps the terminal's Ctrl-C from it: the daemon decides when it ends.

    Raises:
        _ProcessError: it could not be started.
    """

    # How long a killed process may take to die before the daemon goes on without it.
    DEATH_S = 0.5

    def __init__(self, command: Sequence[str]) -> None:
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                bufsize=0,
                start_new_session=True,
            )
        except OSError as error:
            message = f"the NVML process did not start: {error}"
            raise _ProcessError(message) from error
        assert self._process.stdin is not None  # noqa: S101 - given by PIPE, unknown to mypy
        assert self._process.stdout is not None  # noqa: S101 - as above
        self._requests = self._process.stdin
        self._replies = self._process.stdout
        self._received = b""

    @property
    def handle(self) -> int:
        """Readable once the process has said something, or has ended."""
        return self._replies.fileno()

    def send(self, request: _Request) -> None:
        """Hand over one request. Never blocks: the pipe holds far more than one.

        Raises:
            _ProcessError: nobody is there to read it.
        """
        try:
            self._requests.write(msgspec.json.encode(request) + b"\n")
        except OSError as error:
            raise _ProcessError(self._describe_end()) from error

    def receive(self, timeout_s: float) -> _Reply | None:
        """Return the next reply, or None when it is not there within ``timeout_s`` seconds.

        Raises:
            _ProcessError: the process has ended, or what it said is no reply.
        """
        # Real time, as in `Gpus._listen`.
        deadline_s = time.monotonic() + timeout_s
        readable = select.poll()
        readable.register(self._replies, select.POLLIN)
        while b"\n" not in self._received:
            left_ms = max(0.0, deadline_s - time.monotonic()) * 1000
            if not readable.poll(left_ms):
                return None
            chunk = os.read(self._replies.fileno(), 2**16)
            if not chunk:
                raise _ProcessError(self._describe_end())
            self._received += chunk
            if len(self._received) > REPLY_BYTES_MAX:
                message = "the NVML process talks without end"
                raise _ProcessError(message)

        line, _, rest = self._received.partition(b"\n")
        self._received = b""
        try:
            reply = msgspec.json.decode(line, type=_Reply)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            message = f"the NVML process talks nonsense: {line[:80]!r}"
            raise _ProcessError(message) from error
        if rest:  # whatever comes next would be taken for the answer to another request
            message = f"the NVML process talks out of turn: {rest[:80]!r}"
            raise _ProcessError(message)
        return reply

    def kill(self) -> bool:
        """Kill the process and return whether it is dead.

        SIGKILL waits for a process that is stuck in the driver; the daemon does not.
        """
        self._process.kill()
        self._requests.close()
        self._replies.close()
        try:
            self._process.wait(self.DEATH_S)
        except subprocess.TimeoutExpired:
            return False
        return True

    def is_dead(self) -> bool:
        """Return whether the process is gone, and bury it if so."""
        return self._process.poll() is not None

    def _describe_end(self) -> str:
        """Return how the process ended, in words."""
        try:
            status = self._process.wait(self.DEATH_S)
        except subprocess.TimeoutExpired:
            return "the NVML process closed its pipes"
        if status < 0:
            return f"the NVML process was ended by signal {-status} ({signal.strsignal(-status)})"
        return f"the NVML process ended with exit status {status}"


# Below: the NVML process.


class _Gpu:
    """One GPU, as the NVML process sees it.

    Args:
        nvml: the ``pynvml`` module, initialised.
        index: the GPU's place in NVML's order.
    """

    def __init__(self, nvml: ModuleType, index: int) -> None:
        self._nvml = nvml
        self._index = index
        self.trouble: str | None = None
        """the first error of the last reading that is not a mere lack of a feature"""
        try:
            handle = nvml.nvmlDeviceGetHandleByIndex(index)
            # One set for each GPU: an event names its GPU by a handle, and NVML may refuse to
            # say whose handle it is once that GPU is lost, which is what the event is about.
            events = nvml.nvmlEventSetCreate()
            nvml.nvmlDeviceRegisterEvents(handle, nvml.nvmlEventTypeXidCriticalError, events)
        except nvml.NVMLError:
            events = None
        self._events = events

    def read(self) -> GpuReadings:
        """Return what this GPU tells; ``trouble`` says afterwards why something is missing."""
        nvml = self._nvml
        self.trouble = None
        xids = self._hear_xids()
        handle = self._ask(nvml.nvmlDeviceGetHandleByIndex, self._index)
        if handle is None:
            return GpuReadings(index=self._index, xids=xids)

        # Only the second version tells the driver's reserve from what processes use.
        memory = self._ask(nvml.nvmlDeviceGetMemoryInfo, handle, nvml.nvmlMemory_v2)
        if memory is None:
            memory = self._ask(nvml.nvmlDeviceGetMemoryInfo, handle)
        utilization = self._ask(nvml.nvmlDeviceGetUtilizationRates, handle)
        power_mw = self._ask(nvml.nvmlDeviceGetPowerUsage, handle)
        power_limit_mw = self._ask(nvml.nvmlDeviceGetPowerManagementLimit, handle)
        return GpuReadings(
            index=self._index,
            uuid=self._ask(nvml.nvmlDeviceGetUUID, handle),
            name=self._ask(nvml.nvmlDeviceGetName, handle),
            memory_used_mib=None if memory is None else memory.used // MIB,
            memory_total_mib=None if memory is None else memory.total // MIB,
            pids=self._read_pids(handle),
            utilization_percent=None if utilization is None else utilization.gpu,
            temperature_c=self._ask(
                nvml.nvmlDeviceGetTemperature, handle, nvml.NVML_TEMPERATURE_GPU
            ),
            temperature_limit_c=self._ask(
                nvml.nvmlDeviceGetTemperatureThreshold,
                handle,
                nvml.NVML_TEMPERATURE_THRESHOLD_SLOWDOWN,
            ),
            power_w=None if power_mw is None else power_mw / 1000,
            power_limit_w=None if power_limit_mw is None else power_limit_mw / 1000,
            ecc_uncorrected=self._ask(
                nvml.nvmlDeviceGetTotalEccErrors,
                handle,
                nvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED,
                nvml.NVML_VOLATILE_ECC,
            ),
            xids=xids,
        )

    def _read_pids(self, handle: object) -> tuple[int, ...] | None:
        """Return the processes that hold memory of this GPU, or None where it does not tell."""
        nvml = self._nvml
        # By version: the binding's unversioned names answer an old driver with an error that is
        # no NVMLError.
        computing = self._ask(nvml.nvmlDeviceGetComputeRunningProcesses_v3, handle)
        drawing = self._ask(nvml.nvmlDeviceGetGraphicsRunningProcesses_v3, handle)
        if computing is None:
            return None
        return tuple(sorted({process.pid for process in (*computing, *(drawing or ()))}))

    def limit_power(self, watts: float | None) -> str | None:
        """Set the power limit, or the default when ``watts`` is None; return why not."""
        nvml = self._nvml
        try:
            handle = nvml.nvmlDeviceGetHandleByIndex(self._index)
            if watts is None:
                limit_mw = nvml.nvmlDeviceGetPowerManagementDefaultLimit(handle)
            else:
                least_mw, most_mw = nvml.nvmlDeviceGetPowerManagementLimitConstraints(handle)
                limit_mw = min(max(round(watts * 1000), least_mw), most_mw)
            # Setting needs root even where nothing changes; looking does not.
            if nvml.nvmlDeviceGetPowerManagementLimit(handle) != limit_mw:
                nvml.nvmlDeviceSetPowerManagementLimit(handle, limit_mw)
        except nvml.NVMLError_NotSupported as error:
            # A GPU that cannot be limited has its default limit already.
            return None if watts is None else f"GPU {self._index}: {_reason(nvml, error)}"
        except nvml.NVMLError as error:
            return f"GPU {self._index}: {_reason(nvml, error)}"
        return None

    def _ask(self, call: Callable[..., Answer], *arguments: object) -> Answer | None:
        """Return what one NVML call answers, or None where this GPU does not tell.

        After the first real error nothing more is asked: each call to a GPU in trouble may take
        the driver seconds.
        """
        nvml = self._nvml
        if self.trouble is not None:
            return None
        try:
            return call(*arguments)
        except nvml.NVMLError as error:
            # These say that this GPU or driver has no such reading, not that something is wrong.
            if error.value not in {
                nvml.NVML_ERROR_NOT_SUPPORTED,
                nvml.NVML_ERROR_NO_PERMISSION,
                nvml.NVML_ERROR_NOT_FOUND,
                nvml.NVML_ERROR_FUNCTION_NOT_FOUND,
                nvml.NVML_ERROR_INVALID_ARGUMENT,
                nvml.NVML_ERROR_ARGUMENT_VERSION_MISMATCH,
                nvml.NVML_ERROR_NO_DATA,
                nvml.NVML_ERROR_VGPU_ECC_NOT_SUPPORTED,
                nvml.NVML_ERROR_DEPRECATED,  # as NVIDIA foretells for some on newer GPUs
                nvml.NVML_ERROR_INSUFFICIENT_SIZE,  # more processes than a moment before
            }:
                self.trouble = f"GPU {self._index}: {_reason(nvml, error)}"
            return None

    def _hear_xids(self) -> tuple[int, ...] | None:
        """Return the Xid codes since the last call, or None where they cannot be heard."""
        if self._events is None:
            return None
        nvml = self._nvml
        xids: list[int] = []
        try:
            while len(xids) < XIDS_MAX:
                xids.append(nvml.nvmlEventSetWait(self._events, 1).eventData)
        except nvml.NVMLError_Timeout:
            pass  # nothing more has happened
        except nvml.NVMLError:
            return tuple(xids) or None
        return tuple(xids)


def main() -> None:
    """Be the NVML process: say whether NVML works, then answer requests until the daemon goes."""
    _die_with_parent()
    # Whatever the library prints must not be taken for a reply: it goes to the log.
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)

    def reply(message: _Reply) -> None:
        replies.write(msgspec.json.encode(message) + b"\n")
        replies.flush()

    import pynvml as nvml  # noqa: PLC0415 - in this process only; the daemon stays light

    try:
        nvml.nvmlInit()
        gpus = [_Gpu(nvml, index) for index in range(nvml.nvmlDeviceGetCount())]
    except nvml.NVMLError_LibraryNotFound:
        reply(_Reply(absent=True))
        return
    except nvml.NVMLError as error:
        reply(_Reply(broken=_reason(nvml, error)))
        return
    reply(_Reply(absent=not gpus))

    for line in sys.stdin.buffer:
        reply(_answer(gpus, msgspec.json.decode(line, type=_Request)))


def _answer(gpus: Sequence[_Gpu], request: _Request) -> _Reply:
    """Return the reply to one request."""
    if request.ask == "limit_power":
        refusals = [gpu.limit_power(request.watts) for gpu in gpus]
        return _Reply(trouble=_joined(refusals))
    readings = tuple(gpu.read() for gpu in gpus)
    trouble = _joined([gpu.trouble for gpu in gpus])
    if all(gpu.trouble for gpu in gpus):
        # Nothing is left to read here. Another process may find NVML well again, and while none
        # holds the GPUs open, they can be reset.
        return _Reply(broken=trouble)
    return _Reply(gpus=readings, trouble=trouble)


def _joined(reasons: Sequence[str | None]) -> str | None:
    """Return all the reasons in one line, or None when there are none."""
    return "; ".join(reason for reason in reasons if reason) or None


def _reason(nvml: ModuleType, error: Exception) -> str:
    """Return an NVML error in words, with what helps where something does."""
    if isinstance(error, nvml.NVMLError_LibRmVersionMismatch):
        return "driver/library version mismatch: needs a reboot"
    if isinstance(error, nvml.NVMLError_GpuIsLost):
        return "GPU is lost: needs a reboot"
    if isinstance(error, nvml.NVMLError_DriverNotLoaded):
        return "the NVIDIA driver is not loaded"
    if isinstance(error, nvml.NVMLError_NoPermission):
        return "no permission: needs root"
    return str(error)


def _die_with_parent() -> None:
    """Ask the kernel to kill this process with the daemon, even inside a hung NVML call.

    The end of the requests says the same to a process that still listens.
    """
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
