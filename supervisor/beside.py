"""The API beside a supervisor in the foreground, for as long as that lives."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from supervisor.host import api
from supervisor.host.home import Home
from trainers import durable

MIND = """\
until "$@"; do
    case $? in 75 | 78) rest=60 ;; *) rest=5 ;; esac
    timeout $rest cat && exit
done
"""
"""begins a command again, whatever has ended it, until the pipe is closed that is its input; what
somebody else does already, or a person has to mend, it tries less often"""
LEAVING_S = 30.0
"""for the API to end"""


@contextmanager
def served(home: Home, command: Sequence[str], *, on_screen: bool) -> Iterator[None]:
    """Have the API served in here, and not a moment longer, however this process ends.

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
            shell.wait(LEAVING_S)
        except subprocess.TimeoutExpired:
            os.killpg(shell.pid, signal.SIGKILL)
