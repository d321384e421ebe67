"""Other accounts of this machine, for tests of who may do what."""

from __future__ import annotations

import contextlib
import os
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import pytest

STRANGER = 65534
ANOTHER = 65533
needs_root = pytest.mark.skipif(
    os.geteuid() != 0, reason="NOT TESTED: what other accounts can do; needs root"
)


@contextlib.contextmanager
def common_ground() -> Iterator[Path]:
    """A folder that every account can get to; those of pytest are for one alone."""
    with tempfile.TemporaryDirectory(
        dir="/tmp", prefix="common-", ignore_cleanup_errors=True
    ) as at:
        Path(at).chmod(0o755)
        yield Path(at).resolve()


def take_on(uid: int, *groups: int) -> None:
    """Be another account from here on; for a process of its own."""
    os.setgroups(list(groups))
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)


@contextlib.contextmanager
def living(uid: int, act: Callable[[], object]) -> Iterator[int]:
    """A process of that account, its pid, once it has begun; it acts, and waits for its end."""
    begun, begin = os.pipe()
    pid = os.fork()
    if pid == 0:
        _act(lambda: (take_on(uid), act(), os.write(begin, b"!"), signal.pause()))
    os.close(begin)
    assert os.read(begun, 1) == b"!", "it could not begin"
    os.close(begun)
    try:
        yield pid
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


@contextlib.contextmanager
def busy(uid: int, act: Callable[[], object]) -> Iterator[None]:
    """A process of that account that acts again and again, whatever comes of it."""

    def again() -> None:
        take_on(uid)
        while True:
            with contextlib.suppress(OSError):
                act()

    pid = os.fork()
    if pid == 0:
        _act(again)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def apart(act: Callable[[], str]) -> str:
    """What `act` gives in a process of its own."""
    told, tell = os.pipe()
    pid = os.fork()
    if pid == 0:
        _act(lambda: os.write(tell, act().encode()))
    os.close(tell)
    with os.fdopen(told) as words:
        said = words.read()
    os.waitpid(pid, 0)
    return said


def _act(act: Callable[[], object]) -> NoReturn:
    try:
        act()
    finally:
        os._exit(9)
