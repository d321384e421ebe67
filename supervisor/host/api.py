"""Where the page and the API of a home answer, as whoever serves them says while it lives."""

from __future__ import annotations

import contextlib
import os
import select
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import msgspec

from supervisor.errors import SupervisorError
from supervisor.host.home import Home
from supervisor.host.process import start_ticks
from trainers import durable

TOLD = "served.json"
LOG = "serve.log"
"""what it says where nobody reads along"""
TOLD_MAX_BYTES = 4096
LEAVING_S = 30.0
"""for whoever is asked to end"""

PAGE_PACKAGES = ("anyio", "h11", "jinja2", "prometheus_client", "starlette", "uvicorn")
"""of the extra `web`, without which there is no page"""
PACKAGES = (*PAGE_PACKAGES, "alembic", "sqlalchemy")
"""of the extra `jobs`, without which there is no API"""

Url = Annotated[str, msgspec.Meta(max_length=300, pattern=r"^http://[A-Za-z0-9.:\[\]-]+[a-z/]*$")]
"""no other text reaches a person's terminal, or a program that follows it"""


class AlreadyServed(SupervisorError):
    """Another process serves this home."""

    exit_code = 75  # EX_TEMPFAIL

    def __init__(self, home: Home) -> None:
        one = served(home)
        url = None if one is None else one.page or one.url
        where = "" if url is None else f" at {url}"
        super().__init__(f"the home {home.path} is served already{where}: one server is enough")


class Served(msgspec.Struct, frozen=True, kw_only=True):
    """Who serves the API of a home, true only while that process holds the lock beside it."""

    pid: int
    start_ticks: int
    """when that process started, in clock ticks since the boot"""
    url: Url | None = None
    """where jobs are taken in; None: nowhere, or it does not answer yet"""
    page: Url | None = None
    """where the page is; the same"""


def missing() -> str | None:
    """A package that the API lacks; None: none."""
    return next((package for package in PACKAGES if find_spec(package) is None), None)


def page_lacks() -> str | None:
    """A package that the page lacks; None: none."""
    return next((package for package in PAGE_PACKAGES if find_spec(package) is None), None)


@contextmanager
def held(home: Home) -> Iterator[durable.Lock]:
    """Be the one who serves the API of a home, which is there.

    Raises:
        AlreadyServed: another process does.
        OSError: nothing can be written in the home.
    """
    durable.make_folder(home.api)
    try:
        lock = durable.hold(home.api)
    except BlockingIOError:
        raise AlreadyServed(home) from None
    try:
        tell(home)
        yield lock
    finally:
        with contextlib.suppress(OSError):
            (home.api / TOLD).unlink(missing_ok=True)
        lock.release()


def tell(home: Home, *, page: str | None = None, jobs: str | None = None) -> None:
    """Say where the page and the API answer that this process serves; None: nowhere yet."""
    ticks = start_ticks(os.getpid()) or 0
    me = Served(pid=os.getpid(), start_ticks=ticks, url=jobs, page=page)
    with contextlib.suppress(OSError):  # a full disk: who asks is answered all the same
        durable.write(home.api / TOLD, msgspec.json.encode(me), sync=False)


def served(home: Home) -> Served | None:
    """Who serves the API of a home now; None: nobody.

    What is written there may be a dead process's, or have come with a copy of another home. So its
    owner sees whether that very process holds the lock here; whoever may only look, as the group of
    the service, whether such a process of the owner's lives.
    """
    try:
        said = msgspec.json.decode(durable.read(home.api / TOLD, TOLD_MAX_BYTES), type=Served)
        owner = home.path.stat().st_uid
        if said.pid <= 0 or start_ticks(said.pid) != said.start_ticks:
            return None  # that one is dead
        if owner != os.geteuid():
            return said if durable.account_of(said.pid) == owner else None
        return said if durable.has_locked(said.pid, _lock(home.api).stat()) else None
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def end(home: Home) -> None:
    """Have whoever serves the API of a home end, and wait until it has."""
    one = served(home)
    if one is None:
        return
    try:
        handle = os.pidfd_open(one.pid)
    except ProcessLookupError:
        return
    try:
        if served(home) != one:  # what is found now holds for as long as the handle does
            return
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(handle, signal.SIGTERM)
        poll = select.poll()
        poll.register(handle, select.POLLIN)
        poll.poll(LEAVING_S * 1000)
    finally:
        os.close(handle)


def _lock(folder: Path) -> Path:
    """What is locked: the file that its owner alone can open, or on a full disk the folder."""
    file = folder / durable.LOCK
    return file if file.exists() else folder
