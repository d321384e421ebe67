"""A world for one test: processes and mounts of its own, none of which outlives it.

The test runs as process 1 of new pid and mount namespaces. When it ends, however it ends, the
kernel ends every process in there, every mount goes with the last of them, and every loop
device with its mount. The keeper stands outside with one hand in: it notices when the tests
themselves are killed, and thaws what would keep processes from dying. In such a world alone are
disks mounted, so that none is left.
"""

import contextlib
import ctypes
import functools
import json
import os
import select
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import IO, NamedTuple, NoReturn

import pytest

from testkit.disks import Disk, thaw

CLONE_NEWNS = 0x00020000
CLONE_NEWPID = 0x20000000
MS_REC = 0x4000
MS_PRIVATE = 0x40000
PR_SET_PDEATHSIG = 1

_libc = ctypes.CDLL(None, use_errno=True)


class Outcome(NamedTuple):
    """What became of a test, and the words for it."""

    kind: str
    """passed, failed or skipped"""
    text: str


def live(body: Callable[[], None], describe: Callable[[], str]) -> Outcome:
    """Run `body` in a world of its own.

    Args:
        body: the test.
        describe: puts the exception that is being handled into words.
    """
    leash, grip = os.pipe()  # its other end closes with this process, however that ends
    report, words = os.pipe()
    keeper = os.fork()
    if keeper == 0:
        os.close(grip)
        os.close(report)
        _end_with(lambda: _keep(leash, lambda: _speak(words, body, describe)))
    os.close(leash)
    os.close(words)
    with os.fdopen(report) as said:
        text = said.read()
    os.close(grip)
    os.waitpid(keeper, 0)
    return Outcome(*json.loads(text)) if text else Outcome("failed", "it was killed")


@functools.cache
def can_be_made() -> bool:
    """Whether this machine lets us make worlds."""
    return os.geteuid() == 0 and live(lambda: None, str).kind == "passed"


def a_disk(place: Path, kind: str = "ext4") -> Disk:
    """A disk, or a test that says loudly that it had none."""
    if not can_be_made():
        pytest.skip("NOT TESTED: a disk of its own; this needs root and new namespaces")
    if shutil.which(f"mkfs.{kind}") is None:
        pytest.skip(f"NOT TESTED: {kind}; there is no mkfs.{kind} here")
    try:
        return Disk(place, kind)
    except subprocess.CalledProcessError as error:
        pytest.skip(f"NOT TESTED: a disk of its own; {error.stderr.strip()}")


def a_tiny_disk(place: Path) -> Path:
    """A disk of two megabytes."""
    if not can_be_made():
        pytest.skip("NOT TESTED: a full disk; this needs root and new namespaces")
    place.mkdir()
    _mount_memory(place, "size=2m")
    return place


def in_memory(place: Path) -> Path:
    """The folder, with memory laid over it where possible: for what no disk has a part in."""
    if can_be_made():
        _mount_memory(place, "rw")
    return place


def _mount_memory(place: Path, options: str) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", place], check=True)


def _keep(leash: int, life: Callable[[], None]) -> None:
    os.setsid()  # Ctrl-C is for the tests, and the leash tells of it
    _check(_libc.unshare(CLONE_NEWNS | CLONE_NEWPID), "unshare")
    _check(_libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None), "mount")
    with Path("/proc/self/mountinfo").open() as mounts:
        first = os.fork()
        if first == 0:
            _end_with(lambda: _be_first(life))
        handle = os.pidfd_open(first)
        ends = select.poll()
        ends.register(handle, select.POLLIN)
        ends.register(leash, select.POLLIN)
        ends.poll()
        signal.pidfd_send_signal(handle, signal.SIGKILL)
        _thaw_all(mounts)
        os.waitpid(first, 0)


def _be_first(life: Callable[[], None]) -> None:
    """Be process 1 of the new world."""
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    _check(_libc.mount(b"proc", b"/proc", b"proc", 0, None), "mount")
    life()


def _speak(words: int, body: Callable[[], None], describe: Callable[[], str]) -> None:
    try:
        body()
        outcome = Outcome("passed", "")
    except pytest.skip.Exception as skipped:
        outcome = Outcome("skipped", str(skipped))
    except BaseException:  # noqa: BLE001 - it is told to whoever started this world
        outcome = Outcome("failed", describe())
    content = json.dumps(outcome).encode()
    while content:
        content = content[os.write(words, content) :]


def _thaw_all(mounts: IO[str]) -> None:
    """Thaw every loop disk: what waits for a frozen one cannot even be killed."""
    mounts.seek(0)
    for line in mounts:
        fields = line.split()
        if "/dev/loop" in line:
            with contextlib.suppress(OSError):
                thaw(Path(fields[4]))


def _end_with(act: Callable[[], None]) -> NoReturn:
    """Do the last act of a forked process, which must not go on to be a second pytest."""
    try:
        act()
    finally:
        os._exit(0)


def _check(answer: int, what: str) -> None:
    if answer != 0:
        raise OSError(ctypes.get_errno(), what)
