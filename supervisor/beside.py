"""Processes beside one another: who minds whom, and how each hears that it is to end."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import FrameType

from supervisor.host import api
from supervisor.host.home import Home
from trainers import durable

MIND = """\
rest=5
until "$@"; do
    code=$?
    timeout $rest cat && exit
    case $code in 75 | 78) rest=60 ;; *) rest=5 ;; esac
done
"""
"""begins a command again, whatever has ended it, until the pipe is closed that is its input; what
somebody else does already, or a person has to mend, it tries less often, but for the first time: a
server that was left behind may only need a moment to end"""
SERVER_LEAVING_S = 30.0
"""for what answers over HTTP to end"""
LEAVING_S = 10.0
"""for a process to end that is asked to"""
LOOK_S = 5.0
"""between two looks whether somebody does what one is kept for"""
REST_MAX_S = 60.0
"""between two starts of one that ends by itself"""
AGAIN_LATER = 75
"""the exit code of what may go well at the next try"""

Say = Callable[[str], None]
"""tells a person something, in one line"""


@contextmanager
def served(home: Home, command: Sequence[str], *, on_screen: bool) -> Iterator[None]:
    """Have the page and the API served in here, and not a moment longer, however this process ends.

    A shell minds it, and the pipe between is all that we have of it: no look of the supervisor is
    taken up with it.

    Args:
        home: whose.
        command: which serves it until its input is at its end.
        on_screen: whether its lines are told where ours are; else in a file of the home.

    Raises:
        OSError: nothing can be written in the home.
    """
    durable.make_folder(home.api)
    with ExitStack() as stack:
        log = None if on_screen else stack.enter_context((home.api / api.LOG).open("wb"))
        shell = subprocess.Popen(
            ["sh", "-c", MIND, "sh", *command],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            start_new_session=True,  # Ctrl-C is for us; it ends once we have
        )
    try:
        yield
    finally:
        assert shell.stdin is not None  # noqa: S101 - it is a pipe
        shell.stdin.close()
        try:
            shell.wait(SERVER_LEAVING_S)
        except subprocess.TimeoutExpired:
            os.killpg(shell.pid, signal.SIGKILL)


class Kept:
    """A process beside us, as a context manager: one that ends is started again.

    Args:
        command: which is it; its standard input ends with us, whatever has become of us.
        locked: the folder that it holds; while somebody else does, it is not needed.
    """

    def __init__(self, command: Sequence[str], locked: Path) -> None:
        self._command, self._folder = command, locked
        self._stop = threading.Event()
        self._child: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._keep, daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        child = self._child
        if child is not None:
            child.terminate()
            try:
                child.wait(LEAVING_S)
            except subprocess.TimeoutExpired:
                child.kill()
        self._thread.join(LEAVING_S)

    def _keep(self) -> None:
        rest_s = 1.0
        while not self._stop.is_set():
            if self._is_held():
                self._stop.wait(LOOK_S)
                continue
            code: int | None = None
            with (
                suppress(OSError),  # too many processes, or too little memory: it is tried again
                # Its end of the pipe tells it that we are gone, whatever has become of us.
                subprocess.Popen(self._command, stdin=subprocess.PIPE) as self._child,
            ):
                code = self._child.wait()
            rest_s = 1.0 if code == AGAIN_LATER else min(REST_MAX_S, 2 * rest_s)
            self._stop.wait(rest_s)

    def _is_held(self) -> bool:
        """Whether somebody holds the folder."""
        try:
            return durable.is_held(self._folder)
        except FileNotFoundError:
            return False


def migrated(command: Sequence[str]) -> int:
    """Bring the store up to this version, in a process that ends with what it has imported."""
    return subprocess.run(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=False
    ).returncode


def outlive_nobody(leave: Callable[[], None]) -> None:
    """Leave once whoever holds our standard input lets go of it, or has died."""
    while os.read(0, 1024):
        pass
    leave()


def heed(act: Callable[[], object]) -> None:
    """Do that when somebody wants us to end."""

    def heard(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - as Python calls it
        act()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, heard)
