"""A child that may hang, crash or weigh much, in the daemon's place.

``Helper`` is the daemon's side, ``serve`` the child's. The conversation is one JSON line each way.
The child speaks first: one reply, once it is ready. After that it answers each request with one
reply, and is asked the next only then.

A child that hangs, crashes or talks nonsense is killed, and the next one starts after a rest. What
is deliberately absent: threads, and a second child while an earlier one still lives. A process
that is stuck in the kernel cannot be killed, and there must not be more than one of it.
"""

import ctypes
import math
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Generic, NoReturn, TypeVar

import msgspec

REST_MIN_S = 5.0
REST_MAX_S = 3600.0

REPLY_BYTES_MAX = 2**20

PR_SET_PDEATHSIG = 1  # from <linux/prctl.h>

Request = TypeVar("Request", bound=msgspec.Struct)
Reply = TypeVar("Reply", bound=msgspec.Struct)


class HelperFailed(Exception):
    """The child was of no more use, and is no more; the message says why."""


class Helper(Generic[Request, Reply]):
    """Asks a child, and waits for it no longer than it is told to.

    ``start`` has the first reply under way, and ``ask`` each later one. Whoever sleeps meanwhile
    sleeps on ``handles`` too, for ``due_s`` at most; then ``receive`` has the reply. Where that has
    none and ``due_s`` is 0, the time to ``give_up`` has come, but nobody has to.

    Whatever raises ``HelperFailed`` has ended the child, and a rest has begun in which none starts.
    It doubles from ``REST_MIN_S`` to ``REST_MAX_S``. Only a child that has lived for ``REST_MAX_S``
    earns a short rest again, so that one which answers once and then crashes does not escape the
    doubling.

    To be used in the daemon's main thread: the kernel ends the child with the thread that started
    it.

    Args:
        command: the child; what it runs calls ``serve``.
        reply: what it says.
        name: what it is called in messages: "NVML" did not answer, or "the NVML process" ended.
        stuck_in: what holds it where it cannot be killed.
        timeout_s: how long a reply may be under way, in seconds.
        start_timeout_s: the same of the first one.
        monotonic: the clock that deadlines and rests are measured with, in seconds.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        reply: type[Reply],
        name: str,
        stuck_in: str = "the kernel",
        timeout_s: float = 5.0,
        start_timeout_s: float = 60.0,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._command = command
        self._reply = reply
        self._name = name
        self._stuck_in = stuck_in
        self.timeout_s = timeout_s
        self._start_timeout_s = start_timeout_s
        self._monotonic = monotonic
        self._child: _Child[Reply] | None = None
        self.started_s = -math.inf
        """when the newest child was started"""
        self._spoken = False
        """whether it has said its first reply"""
        self._asked_s: float | None = None
        """when it was asked for the reply that is under way; None: it was not, or is starting"""
        self._unburied: _Child[Reply] | None = None
        """a child that was killed and is not dead yet"""
        self._resting_until_s = -math.inf
        self._rest_s = REST_MIN_S

    @property
    def is_up(self) -> bool:
        """Whether there is a child."""
        return self._child is not None

    @property
    def is_starting(self) -> bool:
        """Whether there is one that owes its first reply."""
        return self.is_up and not self._spoken

    @property
    def is_busy(self) -> bool:
        """Whether there is one that owes a reply, be it the first."""
        return self.is_starting or self._asked_s is not None

    @property
    def handles(self) -> tuple[int, ...]:
        """Readable once ``receive`` finds something; none while nothing is under way."""
        return (self._child.handle,) if self._child is not None and self.is_busy else ()

    @property
    def due_s(self) -> float:
        """Seconds until the patience ends with what is under way; infinite where nothing is.

        A slow start is looked at in between, each time that a reply would be due: somebody may
        have put off what need not be put off for ever.
        """
        if not self.is_busy:
            return math.inf
        now_s = self._monotonic()
        if self._asked_s is not None:
            return max(0.0, self._asked_s + self.timeout_s - now_s)
        return max(0.0, min(self.timeout_s, self.started_s + self._start_timeout_s - now_s))

    def start(self) -> bool:
        """Start a child where there is none, and return whether there is one now.

        In a time of rest none is started.

        Raises:
            HelperFailed: it could not be started, or an earlier one cannot die.
        """
        if self._child is None and self._monotonic() >= self._resting_until_s:
            with self._or_rest():
                if self._unburied is not None and not self._unburied.is_dead():
                    message = (
                        f"the {self._name} process is stuck in {self._stuck_in}: needs a reboot"
                    )
                    raise HelperFailed(message)
                self._unburied = None
                self.started_s = self._monotonic()
                self._child = _Child(self._command, self._reply, f"the {self._name} process")
        return self.is_up

    def ask(self, request: Request) -> None:
        """Hand over a request, while nothing is under way.

        Raises:
            HelperFailed: the child has ended, or talks without having been asked.
        """
        assert self._child is not None  # noqa: S101 - nobody asks without one
        assert not self.is_busy  # noqa: S101 - nor a second time
        with self._or_rest():
            said = self._child.receive(0.0)
            if said is not None:  # it would be taken for the answer to what is asked now
                message = f"the {self._name} process talks out of turn: {str(said)[:80]}"
                raise HelperFailed(message)
            self._child.send(request)
        self._asked_s = self._monotonic()

    def receive(self, wait_s: float = 0.0) -> Reply | None:
        """Return the reply that is under way, or None where none is or it does not come.

        Args:
            wait_s: how long to wait for it, in seconds of real time whatever the clock says: this
                waits for a real process.

        Raises:
            HelperFailed: the child has ended, or what it said is no reply.
        """
        if self._child is None or not self.is_busy:
            return None
        with self._or_rest():
            reply = self._child.receive(wait_s)
        if reply is not None:
            self._spoken, self._asked_s = True, None
        return reply

    def give_up(self, why: str | None = None) -> NoReturn:
        """End a child that is of no more use.

        Args:
            why: what is wrong with it; None: it is silent.

        Raises:
            HelperFailed: always.
        """
        why = why or self._describe_silence()
        self.rest()
        raise HelperFailed(why)

    def rest(self, rest_s: float | None = None) -> None:
        """End the child, if there is one, and start none for a while.

        Waits ``_Child.DEATH_S`` for its end, at most.

        Args:
            rest_s: how long, in seconds; None: the doubling rest.
        """
        now_s = self._monotonic()
        if rest_s is None:
            if now_s - self.started_s >= REST_MAX_S:
                self._rest_s = REST_MIN_S
            rest_s = self._rest_s
            self._rest_s = min(2 * self._rest_s, REST_MAX_S)
        self._resting_until_s = now_s + rest_s
        self.close()

    def close(self) -> None:
        """End the child. Waits a moment for it, and leaves it if it cannot die."""
        if self._child is not None and not self._child.kill():
            self._unburied = self._child
        self._child, self._spoken, self._asked_s = None, False, None

    @contextmanager
    def _or_rest(self) -> Iterator[None]:
        """A rest begins where this fails."""
        try:
            yield
        except HelperFailed:
            self.rest()
            raise

    def _describe_silence(self) -> str:
        if self.is_starting:
            return f"{self._name} did not start within {self._start_timeout_s:g} s"
        return f"{self._name} did not answer within {self.timeout_s:g} s"


class _Child(Generic[Reply]):
    """One child, from its start to its end.

    Its own session keeps the terminal's Ctrl-C from it: the daemon decides when it ends.

    Raises:
        HelperFailed: it could not be started.
    """

    # How long a killed process may take to die before the daemon goes on without it.
    DEATH_S = 0.5

    def __init__(self, command: Sequence[str], reply: type[Reply], called: str) -> None:
        self._reply = reply
        self._called = called
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                bufsize=0,
                start_new_session=True,
            )
        except OSError as error:
            message = f"{called} did not start: {error}"
            raise HelperFailed(message) from error
        assert self._process.stdin is not None  # noqa: S101 - given by PIPE, unknown to mypy
        assert self._process.stdout is not None  # noqa: S101 - as above
        self._requests = self._process.stdin
        self._replies = self._process.stdout
        self._received = b""

    @property
    def handle(self) -> int:
        """Readable once the child has said something, or has ended."""
        return self._replies.fileno()

    def send(self, request: msgspec.Struct) -> None:
        """Hand over one request. Never blocks: the pipe holds far more than one.

        Raises:
            HelperFailed: nobody is there to read it.
        """
        try:
            self._requests.write(msgspec.json.encode(request) + b"\n")
        except OSError as error:
            raise HelperFailed(self._describe_end()) from error

    def receive(self, timeout_s: float) -> Reply | None:
        """Return the next reply, or None when it is not there within ``timeout_s`` seconds.

        Raises:
            HelperFailed: the child has ended, or what it said is no reply.
        """
        deadline_s = time.monotonic() + timeout_s
        readable = select.poll()
        readable.register(self._replies, select.POLLIN)
        while b"\n" not in self._received:
            left_ms = max(0.0, deadline_s - time.monotonic()) * 1000
            if not readable.poll(left_ms):
                return None
            chunk = os.read(self._replies.fileno(), 2**16)
            if not chunk:
                raise HelperFailed(self._describe_end())
            self._received += chunk
            if len(self._received) > REPLY_BYTES_MAX:
                message = f"{self._called} talks without end"
                raise HelperFailed(message)

        line, _, rest = self._received.partition(b"\n")
        self._received = b""
        try:
            reply = msgspec.json.decode(line, type=self._reply)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            message = f"{self._called} talks nonsense: {line[:80]!r}"
            raise HelperFailed(message) from error
        if rest:  # whatever comes next would be taken for the answer to another request
            message = f"{self._called} talks out of turn: {rest[:80]!r}"
            raise HelperFailed(message)
        return reply

    def kill(self) -> bool:
        """Kill the child and return whether it is dead.

        SIGKILL waits for a process that is stuck in the kernel; the daemon does not.
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
        """Return whether the child is gone, and bury it if so."""
        return self._process.poll() is not None

    def _describe_end(self) -> str:
        """Return how the child ended, in words."""
        try:
            status = self._process.wait(self.DEATH_S)
        except subprocess.TimeoutExpired:
            return f"{self._called} closed its pipes"
        if status < 0:
            return f"{self._called} was ended by signal {-status} ({signal.strsignal(-status)})"
        return f"{self._called} ended with exit status {status}"


# Below: the child's side.


def serve(
    request: type[Request], begin: Callable[[], tuple[Reply, Callable[[Request], Reply] | None]]
) -> None:
    """Be a child of that kind: say the first reply, then answer requests until the daemon goes.

    Args:
        request: what is asked.
        begin: makes everything ready, and returns the first reply and what answers requests;
            None where there is nothing to ask here.
    """
    die_with_parent()
    # Whatever a library prints must not be taken for a reply: it goes to the log.
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)

    def say(reply: Reply) -> None:
        replies.write(msgspec.json.encode(reply) + b"\n")
        replies.flush()

    first, answer = begin()
    say(first)
    if answer is None:
        return
    for line in sys.stdin.buffer:
        say(answer(msgspec.json.decode(line, type=request)))


def die_with_parent() -> None:
    """Ask the kernel to kill this process with the daemon, even inside a call that hangs.

    What a helper starts asks for the same, so that it does not outlive the helper. The end of the
    requests says it, too, to a process that still listens.
    """
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
