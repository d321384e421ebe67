"""A trainer looks at the rows of a job before there is one, in a process that is bounded in all.

It is the code that will train, up to where training would begin. What may hang, weigh much or
belong to strangers is on the other side: nothing that reads rows is imported here.
"""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import msgspec

from supervisor.programs import program
from trainers.contract import Rows, Spec, Unfit

LOOK_MAX_S = 20.0
"""for a trainer to read its rows"""
DEATH_S = 0.5
"""for a process that was killed to be gone"""
SAID_MAX_BYTES = 2**20
"""the end of what it prints is kept"""
LINE_MAX_CHARS = 300
BEGINS = b'{"type":'
"""how the line begins that is its answer"""
PASSING = {
    "PackagesMissing": "what reads them is not installed here",
    "ResourceError": "the memory for that is too small",
    "SourceAway": "their database does not answer",
}
"""what says nothing of the rows, by the name of the error, and in words"""


class Unread(NamedTuple):
    """Nobody knows how the rows are."""

    why: str
    """the rest of a sentence that begins with "its rows were not looked at:\""""
    memory_bytes: int | None = None
    """about as many are needed at once; None: that is not known either"""


class Look:
    """One look, which has begun; a context manager, at whose end it is over in any case.

    Whoever makes it should live on: the process ends with the thread that started it.

    Args:
        spec: what its trainer is asked for, whose module has `rows`.
        home: the folder of the home.
    """

    def __init__(self, spec: Spec, home: Path) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="rows-")
        file = Path(self._folder.name) / "spec.json"
        file.write_bytes(msgspec.json.encode(spec))
        command = [
            *program("supervisor.helpers.bounded"),
            *program("trainers.__main__"),
            *(spec.trainer, "--run", str(home / "runs" / spec.run)),
            *("--rows", "--spec", str(file)),
        ]
        self.until_s = time.monotonic() + LOOK_MAX_S
        """by CLOCK_MONOTONIC: it is over then, whatever has become of it"""
        self._process = subprocess.Popen(
            command,
            cwd=home,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            bufsize=0,
            start_new_session=True,
        )

    def __enter__(self) -> Look:
        return self

    def __exit__(self, *_: object) -> None:
        self._kill()
        self._folder.cleanup()

    def end(self) -> None:
        """End it, and what it has started; whoever waits for it hears that at once."""
        if self._process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def wait(self) -> Rows | Unfit | Unread:
        """What it has seen; blocks until it is over."""
        said = self._said()
        try:
            code = self._process.wait(max(0.0, self.until_s - time.monotonic()))
        except subprocess.TimeoutExpired:
            self._kill()
            return Unread(f"that has taken longer than {LOOK_MAX_S:g} s")
        lines = said.splitlines()
        answer = next((line for line in reversed(lines) if line.startswith(BEGINS)), None)
        if code != 0 or answer is None:
            last = lines[-1].decode(errors="replace") if lines else ""
            how = f"ended with exit code {code}" if code >= 0 else f"was ended by signal {-code}"
            return Unread(f"whoever reads them {how}: {last}"[:LINE_MAX_CHARS].removesuffix(": "))
        found: Rows | Unfit = msgspec.json.decode(answer, type=Rows | Unfit)
        if isinstance(found, Unfit) and found.error in PASSING:
            return Unread(
                f"{PASSING[found.error]}: {found.line}", found.details.get("needed_bytes")
            )
        return found

    def _kill(self) -> None:
        """End it, and wait until it is gone, which a large one is not at once."""
        self.end()
        with suppress(subprocess.TimeoutExpired):  # one that is stuck in the kernel
            self._process.wait(DEATH_S)

    def _said(self) -> bytes:
        """The end of what it prints until it has no more to say, or its time is over."""
        assert self._process.stdout is not None  # noqa: S101 - given by PIPE, unknown to mypy
        with self._process.stdout as pipe, selectors.DefaultSelector() as ready:
            ready.register(pipe, selectors.EVENT_READ)
            said = b""
            while (left_s := self.until_s - time.monotonic()) > 0:
                if not ready.select(left_s):
                    continue
                piece = os.read(pipe.fileno(), 2**16)
                if not piece:
                    break
                said = (said + piece)[-SAID_MAX_BYTES:]
        return said
