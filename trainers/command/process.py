"""The program as a process: found, started, listened to, stopped, and its whole tree ended."""

from __future__ import annotations

import errno
import fcntl
import os
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from trainers import durable
from trainers.command.options import Known, Options, environment_of, expanded, written
from trainers.contract import MARKER, TRAINERS_DIR, BadSpec

PROGRESS = "SUPERVISOR_PROGRESS"
"""environment variable of a program: the file for its JSON lines"""
CHECKPOINT = "SUPERVISOR_CHECKPOINT"
"""environment variable of a program: what it is to go on from, where there is anything"""
STOP_SIGNAL = "SUPERVISOR_STOP_SIGNAL"
"""environment variable of a program: the name of the signal that asks it to stop"""
INTERPRETERS = ("python", "bash", "sh", "dash", "zsh", "perl", "ruby", "Rscript", "node", "julia")
"""programs whose first argument is mostly a file that must be there"""
PIPE_BYTES = 2**20
"""what it can print while nobody reads"""
PIECE_BYTES = 2**16
PIECES_MAX = 16
"""of its output, in one turn"""
BUSY_S = 0.01
"""longest time between two looks at the output of a program that prints a lot"""
SWEEPS = 5
"""how often a tree is looked for again while it is being ended"""
WAIT_S = 5.0
"""for what was killed to be gone"""
PROC = Path("/proc")


class Call(NamedTuple):
    """A program, and all that it is started with."""

    words: list[str]
    cwd: Path
    environment: dict[str, str]


def call(
    known: Known, options: Options, words: Sequence[str], where: str, *, more: Sequence[str] = ()
) -> Call | None:
    """What is started, with everything filled in and looked at; None: not all is known here.

    Args:
        known: what the words in braces stand for.
        options: of the program.
        words: the program and its arguments.
        where: the option that they stand in.
        more: words of `resume` that are added.

    Raises:
        BadSpec: it can never be started; the message says what to do.
    """
    cwd = _working_folder(known, options)
    environment = _environment(known, options, cwd)
    if options.shell:
        lines = [known.line(tuple(words), where), known.line(tuple(more), "resume")]
        if None in lines or cwd is None or environment is None:
            return None
        script = " ".join(line for line in lines if line)
        return Call(["/bin/sh", "-c", script], cwd, environment)
    filled = known.words(tuple(words), where) + known.words(tuple(more), "resume")
    if environment is not None and filled[0] is not None:
        filled[0] = _program(filled[0], cwd, environment, where)
        _refuse_missing_script(filled, cwd, where)
    if None in filled or cwd is None or environment is None:
        return None
    return Call([word for word in filled if word is not None], cwd, environment)


def _working_folder(known: Known, options: Options) -> Path | None:
    """Where the program stands."""
    if options.cwd is None:
        return known.work
    named = known.fill(options.cwd, "cwd")
    if named is None:
        return None
    cwd = expanded(named, "cwd")
    if not cwd.is_absolute():
        raise BadSpec(f"options.cwd: {named} must be a whole path, such as {{home}}/{named}")
    if not cwd.is_dir():
        raise BadSpec(f"options.cwd: there is no folder {cwd} to be seen: make it, or mend it")
    return cwd


def _environment(known: Known, options: Options, cwd: Path | None) -> dict[str, str] | None:
    """The environment of the program: ours, and over it what the options say."""
    environment = dict(os.environ)
    environment.pop(TRAINERS_DIR, None)
    environment.pop(durable.UMASK, None)
    # What is printed into a pipe waits in the program for more, in Python too.
    environment["PYTHONUNBUFFERED"] = "1"
    if options.env_file is not None:
        named = known.fill(options.env_file, "env_file")
        if named is None:
            return None
        environment |= environment_of((cwd or Path()) / expanded(named, "env_file"))
    for key, value in options.env.items():
        text = known.fill(written(value), "env")
        if text is None:
            return None
        environment[key] = text
    # We may ourselves be what somebody supervises so.
    environment.pop(CHECKPOINT, None)
    if known.values["checkpoint"] is not None:
        environment[CHECKPOINT] = str(known.values["checkpoint"])
    environment[STOP_SIGNAL] = options.stop_signal
    return environment


def _program(named: str, cwd: Path | None, environment: Mapping[str, str], where: str) -> str:
    """The path of a program."""
    if "/" not in named:
        found = shutil.which(named, path=environment.get("PATH", os.defpath))
        if found is None:
            raise BadSpec(
                f"options.{where}: there is no program {named!r} in PATH: write its whole path, "
                f"as `command -v {named}` tells it"
            )
        return found
    path = expanded(named, where)
    if not path.is_absolute():
        if cwd is None or not cwd.is_dir():
            return named  # the folder is made when it is started
        path = cwd / path
    if not path.is_file():
        raise BadSpec(f"options.{where}: there is no program {path} to be seen: mend its path")
    if not os.access(path, os.X_OK):
        raise BadSpec(
            f"options.{where}: {path} is not executable: `chmod +x {path}`, or write its "
            "interpreter before it"
        )
    return str(path)


def _refuse_missing_script(words: Sequence[str | None], cwd: Path | None, where: str) -> None:
    """Refuse `python train.py` where there is no such file, as the first start would."""
    program, script = words[0], words[1] if len(words) > 1 else None
    if program is None or script is None or not is_interpreter(Path(program), script):
        return
    if not Path(script).is_absolute() and cwd is None:
        return
    path = (cwd or Path()) / script
    if not path.is_file():
        advice = "mend its path"
        if not Path(script).is_absolute():
            advice = (
                f"write its whole path, such as {{home}}/{script} where it lies beside the "
                "settings, or set cwd"
            )
        raise BadSpec(f"options.{where}: there is no file {path} to be seen: {advice}")


def is_interpreter(program: Path, word: str) -> bool:
    """Whether the word behind the program is the file that it runs."""
    name = program.name.rstrip("0123456789.")
    return name in INTERPRETERS and "." in Path(word).name and not word.startswith("-")


class Program:
    """A program that was started.

    Args:
        it: what is started.
        progress: the file for its JSON lines.
        run: the run's folder, by which all that it starts is known.

    Raises:
        BadSpec: the system cannot run such a file.
        OSError: it cannot be started now.
    """

    def __init__(self, it: Call, progress: Path, run: Path) -> None:
        self._run = run
        environment = {**it.environment, PROGRESS: str(progress), MARKER: str(run)}
        ours, theirs = os.pipe2(os.O_CLOEXEC)
        with suppress(OSError):  # what somebody may have is limited
            fcntl.fcntl(ours, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        try:
            self._process = subprocess.Popen(
                it.words,
                cwd=it.cwd,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=theirs,
                stderr=theirs,
                umask=usual_umask(),
            )
        except OSError as error:
            os.close(ours)
            raise _not_started(it, error) or error from None
        finally:
            os.close(theirs)
        os.set_blocking(ours, False)
        self._room = fcntl.fcntl(ours, fcntl.F_GETPIPE_SZ)
        """how much it can print while nobody reads"""
        self._output: int | None = ours
        self._handle = os.pidfd_open(self._process.pid)
        self._poll = select.poll()
        self._poll.register(self._handle, select.POLLIN)
        self._watched = True
        """whether its end is waited for"""
        self._busy = False
        """whether it has printed so much that it may have to wait for us"""

    @property
    def code(self) -> int | None:
        """Its exit code, or a signal's number, negative; None: it lives."""
        return self._process.poll()

    def wait(self, within_s: float) -> None:
        """Wait until it ends, or the time is over; only a moment while it prints a lot.

        What it prints wakes nobody: of a program that prints a line now and then, that would be
        most of the work.
        """
        if self._watched and self.code is not None:
            self._watched = False
            self._poll.unregister(self._handle)
        self._poll.poll((BUSY_S if self._busy else within_s) * 1000)

    def printed(self) -> Iterator[bytes]:
        """What it has printed since; not all of it where that is a lot."""
        self._busy, read = False, 0
        for _ in range(PIECES_MAX):
            if self._output is None:
                return
            try:
                piece = os.read(self._output, PIECE_BYTES)
            except BlockingIOError:
                self._busy = read >= self._room // 2
                return
            if not piece:
                os.close(self._output)
                self._output = None
                return
            read += len(piece)
            yield piece
        self._busy = True

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal, or what it has left once it has ended itself."""
        if self.code is None:
            self._process.send_signal(number)
            self._process.send_signal(signal.SIGCONT)  # one that somebody has stopped hears nothing
            return
        for handle in _marked(self._run):
            _send(handle, number)

    @property
    def leaves(self) -> bool:
        """Whether something of it lives, itself or what it has started."""
        if self.code is None:
            return True
        handles = list(_marked(self._run))
        for handle in handles:
            os.close(handle)
        return bool(handles)

    def end(self) -> None:
        """End it at once, and all that it has started, wherever that has moved."""
        if self.code is None:
            self._process.kill()
        for _ in range(SWEEPS):  # what forks meanwhile is found the next time
            handles = list(_marked(self._run))
            if not handles:
                break
            for handle in handles:
                _send(handle, signal.SIGKILL)
            time.sleep(0.01)
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(WAIT_S)

    def close(self) -> None:
        """Let go of what it printed into."""
        os.close(self._handle)
        if self._output is not None:
            os.close(self._output)
            self._output = None


def usual_umask() -> int:
    """The umask of the user, which we have tightened for what we make ourselves."""
    with suppress(ValueError):
        return int(os.environ.get(durable.UMASK, ""), 8) & 0o777
    return -1


def _not_started(it: Call, error: OSError) -> BadSpec | None:
    """What no other start would mend; None: another might."""
    if error.errno == errno.ENOEXEC:
        return BadSpec(f"{it.words[0]} is no program: give it a first line such as #!/bin/sh")
    if error.errno in (errno.ENOENT, errno.EACCES, errno.ENOTDIR):
        why = f"{it.words[0]} cannot be run in {it.cwd}: {error.strerror}"
        return BadSpec(f"{why}: see that it and the interpreter in its first line are there")
    return None


def _marked(run: Path) -> Iterator[int]:
    """Each living process of the run but this one, by a handle that the caller closes."""
    mark = os.fsencode(f"{MARKER}={run}")
    for name in os.listdir(PROC):  # noqa: PTH208 - there may be thousands
        if not name.isdigit() or int(name) == os.getpid():
            continue
        handle = None
        try:
            handle = os.pidfd_open(int(name))
            # Read with the handle held, so that both are of one process.
            marked = mark in (PROC / name / "environ").read_bytes().split(b"\0")
        except OSError:
            marked = False
        if marked and handle is not None and not _ended(handle):
            yield handle
        elif handle is not None:
            os.close(handle)


def _ended(handle: int) -> bool:
    poll = select.poll()
    poll.register(handle, select.POLLIN)
    return bool(poll.poll(0))


def _send(handle: int, number: signal.Signals) -> None:
    """Send a signal by a handle, which is closed."""
    with suppress(ProcessLookupError, PermissionError):
        signal.pidfd_send_signal(handle, number)
    os.close(handle)
