"""Commands as people type them, each forked from a process that has imported ours once.

Most of what a command takes is Python's start and its imports, and tests type hundreds. From the
fork on it is a process like any other: it runs `python -m supervisor` with arguments, environment,
folder and streams of its own, and ends as Python ends. Imports are what it does not show.
"""

from __future__ import annotations

import gc
import io
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

BEFORE_PYTHON = ("PYTHON", "LC_", "LANG", "LD_")
"""how variables begin that Python, or what loads it, looks at only once, when it starts"""
MESSAGE_MAX_BYTES = 2**17


class Commands:
    """The parent of commands, used as a context manager."""

    def __enter__(self) -> Commands:
        self._began_in = _before_python(os.environ)
        self._asked, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._parent = subprocess.Popen(
                [sys.executable, __file__, str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
            )
        return self

    def __exit__(self, *_: object) -> None:
        self._asked.close()
        self._parent.wait()

    def can_run_in(self, environment: Mapping[str, str]) -> bool:
        """Whether a fork is there what a new process would be."""
        return _before_python(environment) == self._began_in

    def run(
        self, arguments: tuple[str, ...], environment: Mapping[str, str], timeout_s: float
    ) -> subprocess.CompletedProcess[str]:
        """Run `supervisor` with these arguments to its end, with nothing on its input.

        Raises:
            subprocess.TimeoutExpired: it took longer.
        """
        words = [os.fsencode(word).hex() for word in arguments]
        folder, mask = str(Path.cwd()), os.umask(0)
        os.umask(mask)
        message = json.dumps([words, environment, folder, mask]).encode()
        (said, stdout), (complained, stderr), (told, tell) = (os.pipe() for _ in range(3))
        socket.send_fds(self._asked, [message], [stdout, stderr, tell])
        for handle in (stdout, stderr, tell):
            os.close(handle)
        output = {said: b"", complained: b"", told: b""}
        try:
            _read_all(output, timeout_s)
        except TimeoutError:
            # The parent has told the pid at once, and waits.
            os.kill(int(output[told].split()[0]), signal.SIGKILL)
            raise subprocess.TimeoutExpired(arguments, timeout_s) from None
        finally:
            for handle in output:
                os.close(handle)
        _, code = output[told].split()
        return subprocess.CompletedProcess(
            arguments, int(code), _text(output[said]), _text(output[complained])
        )


def _before_python(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if name.startswith(BEFORE_PYTHON)}


def _read_all(output: dict[int, bytes], timeout_s: float) -> None:
    """Read each of these pipes to its end.

    Raises:
        TimeoutError: the end did not come.
    """
    deadline_s = time.monotonic() + timeout_s
    left = set(output)
    while left:
        ready = select.select(left, [], [], max(0.0, deadline_s - time.monotonic()))[0]
        if not ready:
            raise TimeoutError
        for handle in ready:
            part = os.read(handle, 2**16)
            output[handle] += part
            if not part:
                left.remove(handle)


def _text(content: bytes) -> str:
    return io.TextIOWrapper(io.BytesIO(content)).read()


def _give_birth(asks: socket.socket) -> None:
    """Fork a process for each command that is asked for; it returns from here."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends the tests, and this without a word
    while True:
        message, handles, *_ = socket.recv_fds(asks, MESSAGE_MAX_BYTES, 3)
        if not message:
            os._exit(0)
        pid = os.fork()
        if pid == 0:
            asks.close()
            _become(message, handles)
            return
        *streams, tell = handles
        for handle in streams:
            os.close(handle)
        os.write(tell, f"{pid} ".encode())
        _, status = os.waitpid(pid, 0)
        os.write(tell, str(os.waitstatus_to_exitcode(status)).encode())
        os.close(tell)


def _become(message: bytes, handles: list[int]) -> None:
    words, environment, folder, mask = json.loads(message)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.dup2(handles[0], 1)
    os.dup2(handles[1], 2)
    for handle in handles:
        os.close(handle)
    os.environ.clear()
    os.environ.update(environment)
    time.tzset()
    os.chdir(folder)
    os.umask(mask)
    sys.path[0] = folder  # as `python -m` has it
    sys.argv[1:] = [os.fsdecode(bytes.fromhex(word)) for word in words]


if __name__ == "__main__":
    # For these imports alone: they are those of the checkout, as they are to `python -m`.
    sys.path[0] = str(Path(__file__).parents[1])
    import shutil  # noqa: F401 - once, for all

    import training_supervisor  # noqa: F401 - as above
    from supervisor import ask, cli, journal  # noqa: F401 - as above
    from supervisor.jobs import desk  # noqa: F401 - as above

    gc.freeze()  # what is here already lives as long as each of them: none looks through it again
    _give_birth(socket.socket(fileno=int(sys.argv[1])))
    runpy.run_module("supervisor", run_name="__main__", alter_sys=True)
