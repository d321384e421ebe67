"""A warm parent: a process that has imported everything once, and forks trainers that step at once.

Importing what learns takes seconds; a fork of a process that has done so takes milliseconds. So
beside its trainers the supervisor may keep one such process for each kind of trainer::

    python -m trainers atari --warm RUNS/................

It asks over the socket that is the parent's stdin (`contract.WarmRequest`). What the trainer's
`warm_up` loads is loaded piece by piece while nothing is asked. A forked trainer is what
``python -m trainers atari --run RUN_DIR`` would be: a session of its own, its run folder, its
output, nothing open but that, and the same name and marker for everybody who looks.

The marker is why the place of the run's name is as long as any name. A process shows others the
environment that it was started with, which a fork shares, and which can only be overwritten where
it lies. The parent writes the run's marker there before it forks, and takes it back afterwards, so
that no trainer ever lives without its marker, whoever dies when.

A fork copies one thread and every lock. So the parent has one thread, and ends rather than fork
with more. It never touches a GPU: a process that was forked after that could not.

The parent ends with the supervisor, and its trainers live on.
"""

from __future__ import annotations

import ctypes
import gc
import os
import select
import signal
import socket
import struct
import sys
import traceback
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

import msgspec

from trainers import attempt, registry
from trainers.contract import EXIT_AGAIN, MARKER, WarmReply, WarmRequest

PACE_S = 0.5
"""pause before each piece that is loaded: those who train meanwhile need the processor"""
REQUEST_MAX_BYTES = 2**17
TROUBLE_MAX_CHARS = 500
OOM_SCORE_ADJ = Path("/proc/self/oom_score_adj")
AUTOGROUP = Path("/proc/self/autogroup")
PR_SET_PDEATHSIG = 1  # from <linux/prctl.h>


class _CannotServe(Exception):
    """This process is no parent; the message says why."""


class _Orphaned(Exception):
    """The supervisor is gone."""


def fork_trainers(trainer: str, any_run: Path) -> Path:
    """Fork a trainer whenever the supervisor asks, for as long as that lives.

    Args:
        trainer: the name of the trainers.
        any_run: stands for their run folders, and is as long as any of them.

    Returns:
        In each forked trainer: its run folder. Never in the parent.
    """
    supervisor = socket.socket(fileno=0)
    try:
        _end_with(supervisor)
        return _serve(supervisor, trainer, _Marker(any_run))
    except _Orphaned:
        os._exit(0)
    except BaseException as error:  # noqa: BLE001 - whatever it was, the supervisor hears of it
        reason = str(error) if isinstance(error, _CannotServe) else repr(error)
        with suppress(OSError):
            _answer(supervisor, WarmReply(trouble=reason[:TROUBLE_MAX_CHARS]))
        os._exit(EXIT_AGAIN)


def leave(code: int) -> NoReturn:
    """End a forked trainer, which has said its last words, with this exit code.

    At once: what the parent has loaded would take long to clear away, and some of it complains.
    """
    with suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)


def _serve(supervisor: socket.socket, trainer: str, marker: _Marker) -> Path:
    request, _ = _hear(supervisor)
    attempt.limit_threads(1)
    warm_up = getattr(registry.load(trainer), "warm_up", None)
    if warm_up is None:
        raise _CannotServe(f"the trainer {trainer!r} has nothing to warm up")
    pieces: Iterator[None] = warm_up(request.specs)
    more = _load(pieces)
    _answer(supervisor, WarmReply())
    usual = OOM_SCORE_ADJ.read_text(encoding="ascii")
    # When memory runs out, what only saves time goes before what trains.
    _adjust_oom_score("1000")
    while True:
        if more and not select.select([supervisor], [], [], PACE_S)[0]:
            more = _load(pieces)
            continue
        request, output = _hear(supervisor)
        if request.ask == "code":
            pid, status = os.waitpid(request.pid, os.WNOHANG)
            code = os.waitstatus_to_exitcode(status) if pid else None
            _answer(supervisor, WarmReply(code=code))
            continue
        if (threads := len(os.listdir("/proc/self/task"))) != 1:  # noqa: PTH208 - numbers
            raise _CannotServe(f"it has {threads} threads, and cannot be forked")
        run = marker.any_run.with_name(request.run)
        marker.show(run)
        pid = os.fork()
        if pid == 0:
            _become_trainer(supervisor, run, output, request.nice, usual)
            return run
        marker.show(marker.any_run)
        os.close(output)
        _answer(supervisor, WarmReply(pid=pid))


def _load(pieces: Iterator[None]) -> bool:
    """Load the next piece; whether there may be more."""
    more = next(pieces, False) is None
    # What is loaded stays. Otherwise the collector of each trainer would copy all of its pages.
    gc.collect()
    gc.freeze()
    return more


def _end_with(supervisor: socket.socket) -> None:
    """Be killed with the supervisor.

    Raises:
        _Orphaned: it has died before we asked for that.
    """
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    credentials = supervisor.getsockopt(
        socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")
    )
    if os.getppid() != struct.unpack("3i", credentials)[0]:
        raise _Orphaned


def _hear(supervisor: socket.socket) -> tuple[WarmRequest, int]:
    """The next request, and the file that came with it (-1: none).

    Raises:
        _Orphaned: nobody will ask any more.
    """
    content, handles, _, _ = socket.recv_fds(supervisor, REQUEST_MAX_BYTES, 1)
    if not content:
        raise _Orphaned
    return msgspec.json.decode(content, type=WarmRequest), handles[0] if handles else -1


def _answer(supervisor: socket.socket, reply: WarmReply) -> None:
    supervisor.send(msgspec.json.encode(reply), socket.MSG_NOSIGNAL)


def _adjust_oom_score(score: str) -> None:
    with suppress(OSError):  # the system does not let us
        OOM_SCORE_ADJ.write_text(score, encoding="ascii")


def _become_trainer(
    supervisor: socket.socket, run: Path, output: int, nice: int, oom_score_adj: str
) -> None:
    """Be what a trainer is that was started by its command line."""
    try:
        _adjust_oom_score(oom_score_adj)
        supervisor.detach()  # closed below, like everything else of the parent's
        os.setsid()
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        for name in os.listdir("/proc/self/fd"):  # noqa: PTH208 - numbers
            if int(name) > 2:
                with suppress(OSError):  # the one that listed them
                    os.close(int(name))
        os.chdir(run)
        os.environ[MARKER] = str(run)
        with suppress(Exception):  # for people alone
            _show_command(run)
        if nice:
            with suppress(OSError):  # the system does not let us: it trains all the same
                os.setpriority(os.PRIO_PROCESS, 0, nice)
                # Beside other sessions the niceness of the session counts, where there is one.
                AUTOGROUP.write_text(str(nice), encoding="ascii")
    except BaseException:  # noqa: BLE001 - nothing of the parent's may run here
        traceback.print_exc()
        os._exit(EXIT_AGAIN)


class _Marker:
    """The marker of this process, as others see it.

    Args:
        any_run: what the process was started with.

    Raises:
        _CannotServe: others would not see a change.
    """

    def __init__(self, any_run: Path) -> None:
        self.any_run = any_run
        self._length = len(os.fsencode(any_run))
        libc = ctypes.CDLL(None)
        libc.getenv.restype = ctypes.c_void_p
        # The place that the kernel filled at our start; `os.environ` is a copy.
        self._place: int | None = libc.getenv(MARKER.encode())
        if self._place is None or not self._is_seen(os.fsencode(any_run)):
            raise _CannotServe("this process was not started as a warm parent")

    def show(self, run: Path) -> None:
        """Be a process of `run`, from here on and in what is forked."""
        content = os.fsencode(run)
        if len(content) > self._length:
            raise _CannotServe(f"the path {run} is longer than was foretold")
        assert self._place is not None  # noqa: S101 - otherwise there is no such object
        ctypes.memmove(self._place, content.ljust(self._length, b"\0"), self._length)
        if not self._is_seen(content):
            raise _CannotServe("others do not see its marker any more")

    def _is_seen(self, run: bytes) -> bool:
        shown = b"\0" + Path("/proc/self/environ").read_bytes()
        return b"\0" + MARKER.encode() + b"=" + run + b"\0" in shown


def _show_command(run: Path) -> None:
    """Be called what a trainer of `run` is called, in lists of processes."""
    words = Path("/proc/self/cmdline").read_bytes().split(b"\0")
    words[words.index(b"--warm") :] = [b"--run", os.fsencode(run)]
    fields = Path("/proc/self/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    start, end = int(fields[45]), int(fields[46])  # arg_start and arg_end in proc(5)
    # The last byte stays a NUL: the kernel takes anything else for a command that goes on.
    name = b"\0".join(words)[: end - start - 1]
    if start:  # unknown where a sandbox hides it
        ctypes.memmove(start, name.ljust(end - start, b"\0"), end - start)
    sys.argv[1:] = [os.fsdecode(word) for word in words[words.index(b"--run") - 1 :]]
