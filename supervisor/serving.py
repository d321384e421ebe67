"""What answers over HTTP, as a process beside the daemon: the page, and the API of jobs.

It may be killed at any moment, which costs no training. Where jobs are taken in it has a dispatcher
beside it, as a process of its own, so that no look at a home holds up an answer; where another one
serves the home already, that one does. Without jobs nothing of their store is loaded.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, NamedTuple

import msgspec
from starlette.types import ASGIApp, Receive, Scope, Send

from supervisor.beside import AGAIN_LATER, Kept, Say, heed, migrated, outlive_nobody
from supervisor.config import Config
from supervisor.core.settings import Settings
from supervisor.core.web_settings import PORT_MAX, host_and_port
from supervisor.errors import SupervisorError
from supervisor.host import api
from supervisor.host.home import Home
from supervisor.host.notify import Notify
from supervisor.page.look import ConfigOrWhy
from supervisor.page.shown import Page
from supervisor.programs import find_trainers_in
from supervisor.web.server import server
from trainers import durable

if TYPE_CHECKING:  # the job store is heavy, and not every home takes jobs in
    from supervisor.web.api import Api

SWITCH_S = 0.001
"""A thread that computes lets the others have Python after so long, and not after Python's own
5 ms: an answer changes threads a few times, and would wait for that each time."""
M_ARENA_MAX = -8  # from <malloc.h>
SETTINGS_S = 2.0
"""between two looks whether settings, or tokens, are others"""
NEXT_PORTS = 100
"""that are tried where another one will do"""
AT_THE_START = (
    "enabled", "listen", "database_url", "database_password_file", "database_password_env",
    "database_password_credential",
)  # fmt: skip
"""keys of [jobs] that are heeded when the API starts, and not later"""
OF_WEB = ("enabled", "listen")
"""the same of [web]"""


class Commands(NamedTuple):
    """What is started beside."""

    migrate: Sequence[str]
    """brings the store up to this version"""
    dispatcher: Sequence[str]


class ServesNothing(SupervisorError):
    """The settings want neither the page nor jobs."""

    exit_code = 78  # EX_CONFIG

    def __init__(self) -> None:
        super().__init__("there is nothing to serve: [web] and [jobs] have both enabled = false")


class CannotListen(SupervisorError):
    """The address is no place to listen at, or somebody else listens there."""

    def __init__(self, listen: str, error: OSError) -> None:
        taken = error.errno == errno.EADDRINUSE
        # An address that the machine has not may come with its network.
        self.exit_code = AGAIN_LATER if taken or error.errno == errno.EADDRNOTAVAIL else 78
        why = "somebody else listens there" if taken else error.strerror or str(error)
        super().__init__(
            f"nothing can be served at {listen}: {why}; choose another with --listen, or with "
            "`listen` in [web]"
        )


def serve(
    home: Home,
    config: Config,
    read: ConfigOrWhy,
    asked: Settings,
    commands: Commands,
    say: Say,
    *,
    beside: bool = False,
) -> int:
    """Answer until somebody ends that, with a dispatcher beside where jobs are taken in.

    Returns the exit code.

    Args:
        home: the home, which exists.
        config: its settings and modes, or the last good ones.
        read: the settings and modes as they are, for the page, or why they cannot be read.
        asked: its settings as they are to be here.
        commands: what is started beside.
        say: tells a person where it listens, and what becomes of changed settings.
        beside: another process has started it, holds its standard input, and shall not be outlived;
            where its port is taken, the next free one will do.

    Raises:
        ServesNothing: the settings want nothing of it.
        AlreadyServed: another process serves the home.
        CannotListen: the address is no place to listen at.
        Unusable: the job store does not serve.
        NoSecret: a token or a password is not where the settings say.
        SharedTables: two tenants could read each other's tables.
    """
    if not (asked.web.enabled or asked.jobs.enabled):
        raise ServesNothing
    _share_memory()
    find_trainers_in(config.trainers_dir)
    notify = Notify()  # what is started from here on has nothing to say to systemd
    with (
        api.held(home) as lock,
        _listening(asked.listen, elsewhere=beside) as here,
        ExitStack() as on,
    ):
        if asked.jobs.enabled and (code := migrated(commands.migrate)):
            return code
        taking = on.enter_context(_api(home, config, asked)) if asked.jobs.enabled else None
        jobs = None if taking is None else taking.on_page
        page = Page(home, read, asked, jobs) if asked.web.enabled else None
        answering = server(_both(page, taking))

        def leave() -> None:
            answering.should_exit = True

        heed(leave)  # it heeds signals itself, and passes them on in the end
        if beside:
            threading.Thread(target=outlive_nobody, args=[leave], daemon=True).start()
        if taking is not None:
            on.enter_context(Kept(commands.dispatcher, home.dispatcher))
        notify("READY=1", f"STATUS={_tell(home, asked, here, page, taking, say)}")
        settings = _Settings(config, asked, page, taking, say)
        with _looking(lock, settings, say, leave):
            sys.setswitchinterval(SWITCH_S)
            answering.run(sockets=[here])
        notify("STOPPING=1")
    return 0


def _tell(
    home: Home,
    asked: Settings,
    here: socket.socket,
    page: Page | None,
    taking: Api | None,
    say: Say,
) -> str:
    """Say where it answers, to a person and in the home; the same as one line."""
    address = f"http://{asked.listen.rpartition(':')[0]}:{here.getsockname()[1]}"
    lines, page_url, jobs_url = [], None, None
    if page is not None:
        page_url = f"{address}/"
        lines.append(f"the page is at {page_url}{page.how_to_enter}")
    if taking is not None:
        jobs_url = f"{address}{taking.base}"
        lines.append(f"jobs are taken in at {jobs_url}, and kept in {taking.shown}")
    for line in lines:
        say(line)
    api.tell(home, page=page_url, jobs=jobs_url)
    return "; ".join(lines)


def _share_memory() -> None:
    """Have all threads take memory from one place; else each keeps what it ever needed at once."""
    with contextlib.suppress(AttributeError):  # another C library, which keeps less
        ctypes.CDLL(None).mallopt(M_ARENA_MAX, 1)


def _give_memory_back() -> None:
    """Give what is free back to the machine: the largest answer is asked for now and then."""
    with contextlib.suppress(AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


@contextmanager
def _looking(
    lock: durable.Lock, settings: _Settings, say: Say, leave: Callable[[], None]
) -> Iterator[None]:
    """Look every now and then, in here, for other settings, and whether the home is still there."""
    over = threading.Event()

    def look() -> None:
        while lock.lasts() and not over.wait(SETTINGS_S):
            settings.look()
            _give_memory_back()
        if not over.is_set():
            say("the home was moved or removed: its server ends")
        leave()

    threading.Thread(target=look, daemon=True).start()
    yield
    over.set()


class _Settings:
    """Has changed settings in force without a restart, or says in a line why they are not.

    Args:
        config: the settings.
        began_with: those that are in force.
        page: which heeds them; None: there is none.
        taking: the same of the API.
        say: tells a person.
    """

    def __init__(
        self, config: Config, began_with: Settings, page: Page | None, taking: Api | None, say: Say
    ) -> None:
        self._config, self._began_with, self._say = config, began_with, say
        self._page, self._taking = page, taking
        self._own = config.settings
        """those of the home as they were at the start: what the command line says goes before"""
        self._waiting: tuple[str, ...] = ()
        """keys that are others than at the start"""
        self._trouble: str | None = None
        """why settings that can be read are not in force, as it was told"""

    def look(self) -> None:
        """Look once whether there are others."""
        trouble = None
        try:
            self._config.heed(self._say)
            self._take_over(self._config.settings)
        except (OSError, SupervisorError) as error:
            trouble = str(error)
        if trouble != self._trouble and trouble is not None:
            self._say(f"{trouble}; what was so before stays in force")
        self._trouble = trouble

    def _take_over(self, now: Settings) -> None:
        """Have as much of them in force as can be while the server answers.

        Raises:
            SupervisorError: they cannot be, as they are; nothing has changed.
        """
        began, own = self._began_with, self._own
        waiting = tuple(
            f"{key} of [{table}]"
            for table, keys in (("jobs", AT_THE_START), ("web", OF_WEB))
            for key in keys
            if getattr(getattr(now, table), key) != getattr(getattr(own, table), key)
        )
        if waiting != self._waiting and waiting:
            self._say(f"{', '.join(waiting)}: in force once `supervisor serve` is started anew")
        self._waiting = waiting
        jobs = {key: getattr(began.jobs, key) for key in AT_THE_START}
        web = {key: getattr(began.web, key) for key in OF_WEB}
        asked = msgspec.structs.replace(
            now,
            jobs=msgspec.structs.replace(now.jobs, **jobs),
            web=msgspec.structs.replace(now.web, **web),
        )
        if self._taking is not None and self._taking.heed(asked):
            self._say("changed settings of jobs are in force")
        if self._page is not None:
            self._page.heed(asked)


def _api(home: Home, config: Config, asked: Settings) -> Api:
    """The API, which is loaded where it is wanted alone."""
    from supervisor.web.api import Api  # noqa: PLC0415 - as its docstring says

    return Api(home, config, asked)


def _both(page: Page | None, taking: Api | None) -> ASGIApp:
    """One application of both, or of the one that there is."""
    if page is None or taking is None:
        only = page or taking
        assert only is not None  # noqa: S101 - whoever serves has seen to that
        return only.app
    first, second = taking, page

    async def at_its_path(scope: Scope, receive: Receive, send: Send) -> None:
        app = first.app if first.answers(scope.get("path", "")) else second.app
        await app(scope, receive, send)

    return at_its_path


def _listening(listen: str, *, elsewhere: bool) -> socket.socket:
    """A socket at the address of the settings, or at the next port that is free.

    Args:
        listen: that address.
        elsewhere: whether another port will do.

    Raises:
        CannotListen: it is no place to listen at.
    """
    host, port = host_and_port(listen)
    last = min(port + NEXT_PORTS, PORT_MAX) if elsewhere else port
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    while True:
        try:
            return socket.create_server((host, port), family=family, backlog=1024)
        except OSError as error:
            if error.errno != errno.EADDRINUSE or port == last:
                raise CannotListen(listen, error) from error
        port += 1
