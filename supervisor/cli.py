"""The command `supervisor`: what every command has in common, and the exit codes.

Every command but `run` works whether or not the daemon is up: what is read is
read from the home, what is asked is left in the inbox. `supervisor.commands` has them.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path

from modes import UnknownMode
from modes.toml_file import InvalidFile
from state.store import NewerState
from supervisor.commands import build_parser
from supervisor.context import EXIT_REFUSED, OF_THE_MACHINE, Context
from supervisor.errors import SupervisorError
from supervisor.host.home import HomeUnusable
from supervisor.terminal import screen as screen_of
from trainers import durable
from trainers.contract import NewerFile

AT_ANY_HOME = frozenset((*OF_THE_MACHINE, "simulate"))
"""commands that ask nothing of the home that is meant where none is named"""
BEGINNINGS = frozenset(("run", "tune", "trainers", "check-config", "doctor", "import-settings"))
"""commands that a home may begin with"""


class TooManyProcesses(SupervisorError):
    """The system starts no process, or no thread, for us."""

    exit_code = 75  # EX_TEMPFAIL

    def __init__(self) -> None:
        super().__init__(
            "no process or thread can be started: a limit on them is reached (look at `ulimit -u` "
            "and at pids.max of the control group); `show-state` and `stop` need none"
        )


def main(arguments: list[str] | None = None) -> int:
    """Run one command; its exit code."""
    for stream in (0, 1, 2):  # closed by whoever started us; a file of ours must not get its number
        _ensure_open(stream)
    durable.close_to_others()
    os.environ["PYTHON_COLORS"] = "0"  # newer versions of Python colour help and tracebacks
    with redirect_stdout(screen_of(sys.stdout)), redirect_stderr(screen_of(sys.stderr)):
        return _answer(arguments)


def _answer(arguments: list[str] | None) -> int:
    parser = build_parser()
    options = parser.parse_args(arguments)
    if options.command is None:
        parser.print_help()
        return EXIT_REFUSED
    context: Context | None = None
    try:
        with _limits_told():
            context = Context(options)
            if options.command not in AT_ANY_HOME:
                context.greet_stranger(begins=options.command in BEGINNINGS)
            code = options.act(context)
            sys.stdout.flush()
            return int(code)
    except (SupervisorError, InvalidFile, NewerState, NewerFile, UnknownMode) as error:
        for line in str(error).split("\n"):
            print(f"supervisor: {line}", file=sys.stderr)
        return int(getattr(error, "exit_code", 1))
    except UnicodeEncodeError as error:  # a word that was given to us, in whatever bytes
        wrong = error.object[error.start : error.end]
        print(f"supervisor: {wrong!a} cannot be written as {error.encoding}", file=sys.stderr)
        return EXIT_REFUSED
    except BrokenPipeError:
        # Whoever read our output has had enough, as `head` does.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return 130
    except OSError as error:
        where = os.fsdecode(error.filename or "")
        told = f"{where}: {error.strerror}" if where else f"{error.strerror or error}"
        print(f"supervisor: {told}", file=sys.stderr)
        home = context.home if context is not None else None
        # What lies in a run's folder is that run's alone.
        unusable = home and Path(where).is_relative_to(home.path)
        unusable = unusable and home and not Path(where).is_relative_to(home.runs)
        return HomeUnusable.exit_code if unusable else 1


@contextmanager
def _limits_told() -> Iterator[None]:
    """Say what Python and the system say in their own words.

    Raises:
        TooManyProcesses: there was no room for one more.
    """
    try:
        yield
    except RuntimeError as error:  # as the module threading has it
        if "can't start new thread" not in str(error):
            raise
        raise TooManyProcesses from error
    except BlockingIOError as error:  # of a fork; that of a stream has words of its own
        if error.strerror != os.strerror(errno.EAGAIN):
            raise
        raise TooManyProcesses from error


def _ensure_open(stream: int) -> None:
    try:
        os.fstat(stream)
    except OSError:
        # The lowest free number, which is this one: those below it are open.
        os.open(os.devnull, os.O_RDWR)
        name = ("stdin", "stdout", "stderr")[stream]
        setattr(sys, name, open(stream, "w" if stream else "r", closefd=False))  # noqa: SIM115
