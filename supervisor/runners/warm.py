"""Warm parents: processes that have imported what trainers need, and fork them in milliseconds.

`trainers.warm` is the other side, and tells how a forked trainer is made. A parent is a
convenience. Whatever is wrong with one, it is ended, and the trainer starts cold. Each wait has an
end, so one that hangs costs one start some seconds.
"""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import msgspec

from trainers import contract
from trainers.contract import ANY_RUN, Spec, WarmReply, WarmRequest

ANSWER_S = 5.0
"""a fork takes milliseconds; after this long it is not waited for"""
LOAD_S = 300.0
"""the longest that imports may take, on a slow disk beside trainers that need the processor"""
DEATH_S = 5.0
"""how long a killed process is waited for"""
REST_MIN_S, REST_MAX_S = 60.0, 3600.0
"""rest after a parent that was of no use; doubled with each, until a trainer of one has stepped"""
STALE_REST_S = 10.0
"""rest after a parent whose code has changed"""
REPLY_MAX_BYTES = 4096
SPECS_MAX = 16
"""runs whose needs are loaded ahead"""
PAGE_MIB = os.sysconf("SC_PAGE_SIZE") / 2**20

FILES_MAX = 1000
"""files of the user's own trainers, and entries of each folder of them, that are watched"""

Spawn = Callable[[Sequence[str], Path, int, int, Path | None], "subprocess.Popen[bytes]"]
"""starts the program of all trainers: with these words, for this run folder, with this stdin and
output, and with this folder of the user's own trainers"""


class WarmLost(Exception):
    """A parent was of no use, and has been ended; the message says why."""


class Forked(NamedTuple):
    """A trainer that a parent has forked."""

    pid: int
    code: Callable[[], int | None]
    """its exit code, or a signal's number, negative; None: nobody knows. To be asked once it has
    ended"""


class WarmParents:
    """One parent for each kind of trainer that may have to start.

    Args:
        runs: the folder of run folders.
        spawn: starts a process.
        trainers_dir: the folder of the user's own trainers now.
    """

    def __init__(
        self,
        runs: Path,
        spawn: Spawn,
        trainers_dir: Callable[[], Path | None] = lambda: None,
    ) -> None:
        self._any_run = runs / ANY_RUN
        self._spawn = spawn
        self._trainers_dir = trainers_dir
        self._parents: dict[str, _Parent] = {}
        self._wanted: dict[str, list[Spec]] = {}
        self._memory_max_mib = 0.0
        self._rests: dict[str, tuple[float, float]] = {}
        """trainer -> until when it has no parent, and how long its rest was"""
        self._troubles: list[str] = []

    def want(self, specs: Sequence[Spec], memory_max_mib: float) -> None:
        """Be ready to start such runs; a parent of trainers that none of them has is ended."""
        self._memory_max_mib = memory_max_mib
        self._wanted = {}
        for spec in specs:
            self._wanted.setdefault(spec.trainer, []).append(spec)
        for trainer in self._parents.keys() - self._wanted.keys():
            self._parents.pop(trainer).end()

    def tend(self, *, calm: bool) -> None:
        """See how the parents are; where it is `calm`, start those that are missing."""
        for trainer, parent in list(self._parents.items()):
            try:
                parent.check(self._memory_max_mib)
            except WarmLost as error:
                self._lose(trainer, str(error))
            else:
                if parent.is_stale(self._trainers_dir()):
                    self._parents.pop(trainer).end()
                    # Whoever installs something writes for a while.
                    self._rests[trainer] = (time.monotonic() + STALE_REST_S, REST_MIN_S / 2)
        for trainer in (self._wanted.keys() - self._parents.keys()) if calm else ():
            if time.monotonic() >= self._rests.get(trainer, (0.0, 0.0))[0]:
                specs = tuple(self._wanted[trainer][:SPECS_MAX])
                try:
                    self._parents[trainer] = _Parent(
                        trainer, specs, self._any_run, self._spawn, self._trainers_dir()
                    )
                except OSError as error:
                    self._lose(trainer, f"it cannot be started: {error.strerror}")

    def is_ready(self, trainer: str) -> bool:
        """Whether such a trainer would be forked if it had to start now."""
        self.tend(calm=False)
        parent = self._parents.get(trainer)
        return parent is not None and parent.loaded

    def fork(self, trainer: str, run_id: str, nice: int, output: int) -> Forked | None:
        """Fork a trainer of that run; None: no parent is ready for that.

        Raises:
            WarmLost: the parent was ended. What it may have forked carries the run's marker.
        """
        if not self.is_ready(trainer):
            return None
        parent = self._parents[trainer]
        try:
            pid = parent.fork(run_id, nice, output)
        except WarmLost as error:
            self._lose(trainer, str(error))
            raise
        return Forked(pid, lambda: self._code_of(pid, trainer, parent))

    def judge(self, trainer: str, *, good: bool) -> None:
        """Trust or give up the parent of these trainers, by the fate of one that it has forked."""
        if good:
            self._rests.pop(trainer, None)
        elif trainer in self._parents:
            self._lose(trainer, "a trainer that it forked has ended before its first step")

    def troubles(self) -> tuple[str, ...]:
        """What went wrong since the last call."""
        told, self._troubles = tuple(self._troubles), []
        return told

    def close(self) -> None:
        """End the parents; their trainers live on."""
        while self._parents:
            self._parents.popitem()[1].end()

    def _code_of(self, pid: int, trainer: str, parent: _Parent) -> int | None:
        if self._parents.get(trainer) is not parent:
            return None
        try:
            return parent.code(pid)
        except WarmLost as error:
            self._lose(trainer, str(error))
            return None

    def _lose(self, trainer: str, reason: str) -> None:
        if trainer in self._parents:
            self._parents.pop(trainer).end()
        rest_s = min(REST_MAX_S, 2 * self._rests.get(trainer, (0.0, REST_MIN_S / 2))[1])
        self._rests[trainer] = (time.monotonic() + rest_s, rest_s)
        self._troubles.append(
            f"the warm parent of {trainer} trainers: {reason}; they start cold, and it is "
            f"tried again in {rest_s:.0f} s"
        )


class _Parent:
    """One parent, from its start to its end.

    Raises:
        OSError: it could not be started.
    """

    def __init__(
        self,
        trainer: str,
        specs: tuple[Spec, ...],
        any_run: Path,
        spawn: Spawn,
        trainers_dir: Path | None,
    ) -> None:
        self._sources = _sources(trainers_dir)
        self._line, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            self._line.settimeout(ANSWER_S)
            self._line.send(msgspec.json.encode(WarmRequest(ask="load", specs=specs)))
            words = (trainer, "--warm", str(any_run))
            self._process = spawn(words, any_run, theirs.fileno(), subprocess.DEVNULL, trainers_dir)
        except BaseException:
            self._line.close()
            raise
        finally:
            theirs.close()
        self._started_s = time.monotonic()
        self.loaded = False
        """whether it has said that it has loaded what every attempt needs"""

    def is_stale(self, trainers_dir: Path | None) -> bool:
        """Whether it may have imported other code than a trainer would that starts now."""
        return self._sources != _sources(trainers_dir)

    def check(self, memory_max_mib: float) -> None:
        """See how it is.

        Raises:
            WarmLost: it has ended, or is too large.
        """
        self._line.setblocking(False)
        try:
            self._hear()  # that it is ready, or its last words
            self.loaded = True
        except BlockingIOError:
            if not self.loaded and time.monotonic() - self._started_s > LOAD_S:
                raise WarmLost(f"it has not loaded within {LOAD_S:.0f} s") from None
        finally:
            self._line.settimeout(ANSWER_S)
        resident_mib = _resident_mib(self._process.pid)
        if resident_mib > memory_max_mib:
            raise WarmLost(f"it has grown to {resident_mib:.0f} MiB, of at most {memory_max_mib:g}")

    def fork(self, run_id: str, nice: int, output: int) -> int:
        """Fork a trainer; its pid.

        Raises:
            WarmLost: it has not, or has not said so.
        """
        pid = self._ask(WarmRequest(ask="fork", run=run_id, nice=nice), output).pid
        if pid is None:
            raise WarmLost("it has answered something else")
        return pid

    def code(self, pid: int) -> int | None:
        """How a trainer that it has forked has ended; None where that is not to be known.

        Raises:
            WarmLost: it does not say.
        """
        return self._ask(WarmRequest(ask="code", pid=pid)).code

    def end(self) -> None:
        """End it at once; it holds nothing that must be saved."""
        self._line.close()
        self._process.kill()
        try:
            self._process.wait(DEATH_S)
        except subprocess.TimeoutExpired:
            pass  # stuck in the kernel: it will die before it could do anything else

    def _ask(self, request: WarmRequest, *handles: int) -> WarmReply:
        try:
            socket.send_fds(self._line, [msgspec.json.encode(request)], handles)
        except OSError as error:
            raise WarmLost("it does not listen any more") from error
        return self._hear()

    def _hear(self) -> WarmReply:
        try:
            content = self._line.recv(REPLY_MAX_BYTES)
        except BlockingIOError:
            raise
        except TimeoutError as error:
            raise WarmLost(f"it has not answered for {ANSWER_S:.0f} s") from error
        except OSError:
            content = b""
        if not content:
            raise WarmLost(self._how_it_ended())
        try:
            reply = msgspec.json.decode(content, type=WarmReply)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise WarmLost("it has answered something else") from error
        if reply.trouble is not None:
            raise WarmLost(reply.trouble)
        return reply

    def _how_it_ended(self) -> str:
        try:
            code = self._process.wait(ANSWER_S)  # it has let go of the line: that is all but over
        except subprocess.TimeoutExpired:
            return "it does not listen any more"
        return f"it has ended with {f'code {code}' if code >= 0 else f'signal {-code}'}"


def _sources(trainers_dir: Path | None) -> frozenset[tuple[Path, int]]:
    """Changes whenever a trainer's code does, or a package is installed beside it."""
    trainers = Path(contract.__file__).parent
    packages = Path(msgspec.__file__).parent.parent
    paths = [packages, *_python_files(trainers)]
    if trainers_dir is not None:
        paths += [trainers_dir, *islice(_python_files(trainers_dir), FILES_MAX)]
    return frozenset((path, _changed_at(path)) for path in paths)


def _python_files(folder: Path, *, links: bool = True) -> Iterator[Path]:
    """The modules of a folder, and those of the packages in it.

    What is no package is not entered: it may hold data without end. Nor is a link in a package,
    which may lead back.
    """
    try:
        with os.scandir(folder) as there:
            entries = list(islice(there, FILES_MAX))
    except OSError:
        return
    for entry in entries:
        path = Path(entry.path)
        if entry.name.endswith(".py"):
            yield path
        elif (links or not entry.is_symlink()) and _is_file(path / "__init__.py"):
            yield from _python_files(path, links=False)


def _is_file(path: Path) -> bool:
    return os.path.isfile(path)  # noqa: PTH113 - that of Path raises where the rights forbid it


def _changed_at(path: Path) -> int:
    """When a file was changed; 0 where it is gone, or leads nowhere."""
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


def _resident_mib(pid: int) -> float:
    """Memory of a process, shared pages included; 0 where there is none."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]) * PAGE_MIB
    except OSError:
        return 0.0
