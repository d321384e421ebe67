"""The processes beside the daemon: the API, and the dispatcher that hands its jobs over.

Each may be killed at any moment. The API has a dispatcher beside it, as a process of its own, so
that no look at a home holds up an answer; where another one serves the home already, that one does.
"""

from __future__ import annotations

import errno
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from types import FrameType

import msgspec

from state.jobs.database import NotMigrated
from state.jobs.store import JobStore
from supervisor.config import Config
from supervisor.core.job_settings import PORT_MAX, Jobs
from supervisor.core.settings import Settings
from supervisor.errors import SupervisorError
from supervisor.host import api
from supervisor.host.clock import SystemClock
from supervisor.host.home import Home
from supervisor.host.notify import Notify
from supervisor.jobs.at_home import LOCKED
from supervisor.jobs.dispatcher import Dispatcher
from supervisor.jobs.opened import TakesNone, told
from supervisor.jobs.settings import GIB, is_here, store_url
from supervisor.programs import find_trainers_in
from supervisor.web.app import application
from supervisor.web.jobs import BASE
from supervisor.web.server import server
from supervisor.web.service import Service
from trainers import durable

AGAIN_LATER = 75
"""the exit code of what may go well at the next try"""
SWITCH_S = 0.001
"""A thread of the API that computes lets the others have Python after so long, and not after
Python's own 5 ms: an answer changes threads a few times, and would wait for that each time."""
LEAVING_S = 10.0
"""for a dispatcher to end that is asked to"""
LOOK_S = 5.0
"""between two looks whether somebody dispatches"""
REST_MAX_S = 60.0
"""between two starts of a dispatcher that ends by itself"""
SETTINGS_S = 2.0
"""between two looks whether settings, or tokens, are others"""
NEXT_PORTS = 100
"""that are tried where another one will do"""
AT_THE_START = (
    "enabled", "listen", "database_url", "database_password_file", "database_password_env",
    "database_password_credential",
)  # fmt: skip
"""keys of [jobs] that are heeded when the API starts, and not later"""
PRUNE_S = 3600.0
"""between two times that it is looked for what may go"""
PRUNE_SHORT_S = 60.0
"""the same while there is too little room"""

Say = Callable[[str], None]
"""tells a person something, in one line"""


class NeedsTokens(SupervisorError):
    """Everybody would be believed who reaches the API from elsewhere."""

    exit_code = 78  # EX_CONFIG

    def __init__(self, listen: str) -> None:
        super().__init__(
            f"the API would answer to other machines at {listen}, and no tenant has a token: give "
            "each one, with token_file in [jobs.tenants.NAME], or listen at 127.0.0.1"
        )


class CannotListen(SupervisorError):
    """The address of the API is no place to listen at, or somebody else listens there."""

    def __init__(self, listen: str, error: OSError) -> None:
        taken = error.errno == errno.EADDRINUSE
        # An address that the machine has not may come with its network.
        self.exit_code = AGAIN_LATER if taken or error.errno == errno.EADDRNOTAVAIL else 78
        why = "somebody else listens there" if taken else error.strerror or str(error)
        super().__init__(
            f"the API cannot listen at {listen}: {why}; choose another with --listen, or with "
            "`listen` in [jobs]"
        )


def dispatch(
    home: Home,
    config: Config,
    migrate: Sequence[str],
    prune: Sequence[str],
    say: Say,
    *,
    beside: bool = False,
) -> int:
    """Hand jobs over to the supervisor of a home until somebody ends that; the exit code.

    Args:
        home: the home, which exists.
        config: its settings and modes.
        migrate: the command that brings the store up to this version.
        prune: the command that clears away what the settings keep no longer.
        say: tells a person what is away, and that it is there again.
        beside: another process has started it, holds its standard input, and shall not be outlived.

    Raises:
        AlreadyDispatching: another dispatcher serves the home.
        NoSecret: the password of the store is not where the settings say.
    """
    # Beside the API, which has done so, it would make a home where one was just moved away.
    code = 0 if beside else _migrated(migrate)
    if code not in (0, AGAIN_LATER):
        return code

    began_with = config.settings.jobs  # a store that was put elsewhere is used from the next start

    def opened() -> JobStore:
        url = store_url(began_with, home.path, config.here, os.environ)
        try:
            return JobStore(url)
        except NotMigrated:
            if not home.path.exists():
                raise
            _migrated(migrate)
            return JobStore(url)

    stop = threading.Event()
    _heed(stop.set)
    if beside:
        threading.Thread(target=_outlive_nobody, args=[stop.set], daemon=True).start()
    dispatcher = Dispatcher(
        home, config, config.here, open_store=opened, clock=SystemClock(), say=say, beside=beside
    )
    Notify()("READY=1")
    with Pruning(home, config, prune):
        dispatcher.run(stop)
    return 0


def serve(
    home: Home,
    config: Config,
    jobs: Jobs,
    migrate: Sequence[str],
    dispatcher: Sequence[str],
    say: Say,
    *,
    beside: bool = False,
) -> int:
    """Answer the API until somebody ends that, with a dispatcher beside it; the exit code.

    Args:
        home: the home, which exists.
        config: its settings and modes.
        jobs: [jobs] of these, as they are to be.
        migrate: the command that brings the store up to this version.
        dispatcher: the command that is a dispatcher.
        say: tells a person where it listens, and what becomes of changed settings.
        beside: another process has started it, holds its standard input, and shall not be outlived;
            where its port is taken, the next free one will do.

    Raises:
        TakesNone: the settings want no jobs.
        NeedsTokens: it would answer to other machines, and anybody there.
        AlreadyServed: another process serves the API of the home.
        CannotListen: the address is no place to listen at.
        Unusable: the store does not serve.
        NoSecret: a token or a password is not where the settings say.
        SharedTables: two tenants could read each other's tables.
    """
    if not jobs.enabled:
        raise TakesNone
    _see_tokens(jobs)
    find_trainers_in(config.trainers_dir)
    notify = Notify()  # what is started from here on has nothing to say to systemd
    with api.held(home) as lock, _listening(jobs, elsewhere=beside) as here:
        code = _migrated(migrate)
        if code:
            return code
        with told():
            store = JobStore(store_url(jobs, home.path, config.here, os.environ))
        try:
            asked = msgspec.structs.replace(config.settings, jobs=jobs)
            service = Service(store, asked, home, SystemClock(), here=config.here)
            answering = server(application(service))

            def leave() -> None:
                answering.should_exit = True

            _heed(leave)  # it heeds signals itself, and passes them on in the end
            if beside:
                threading.Thread(target=_outlive_nobody, args=[leave], daemon=True).start()
            over = threading.Event()
            settings = _Settings(config, service, say)

            def look() -> None:
                while lock.lasts() and not over.wait(SETTINGS_S):
                    settings.look()
                if not over.is_set():
                    say("the home was moved or removed: its API ends")
                leave()

            with _Beside(home, dispatcher):
                url = f"http://{jobs.listen.rpartition(':')[0]}:{here.getsockname()[1]}{BASE}"
                say(f"jobs are taken in at {url}, and kept in {store.shown}")
                api.tell(home, url)
                notify("READY=1", f"STATUS=jobs are taken in at {url}")
                threading.Thread(target=look, daemon=True).start()
                sys.setswitchinterval(SWITCH_S)
                answering.run(sockets=[here])
                over.set()
                notify("STOPPING=1")
        finally:
            store.close()
    return 0


class _Settings:
    """Has changed settings in force without a restart, or says in a line why they are not.

    Args:
        config: the settings.
        service: which answers by them.
        say: tells a person.
    """

    def __init__(self, config: Config, service: Service, say: Say) -> None:
        self._config, self._service, self._say = config, service, say
        self._began_with = config.settings.jobs
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

    def _take_over(self, settings: Settings) -> None:
        """Have as much of them in force as can be while the API serves.

        Raises:
            SupervisorError: they cannot be, as they are; nothing has changed.
        """
        asked, now = settings.jobs, self._service.settings.jobs
        waiting = tuple(
            key for key in AT_THE_START if getattr(asked, key) != getattr(self._began_with, key)
        )
        if waiting != self._waiting and waiting:
            self._say(f"{', '.join(waiting)} of [jobs]: in force once the API is started anew")
        self._waiting = waiting
        kept = {key: getattr(now, key) for key in AT_THE_START}
        asked = msgspec.structs.replace(asked, **kept)
        _see_tokens(asked)
        if self._service.heed(msgspec.structs.replace(settings, jobs=asked)):
            self._say("changed settings of jobs are in force")


class _Beside:
    """A dispatcher beside us, as a context manager: one that ends is started again."""

    def __init__(self, home: Home, command: Sequence[str]) -> None:
        self._folder, self._command = home.path / LOCKED, command
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
            if self._is_served():
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

    def _is_served(self) -> bool:
        """Whether some dispatcher serves the home."""
        try:
            return durable.is_held(self._folder)
        except FileNotFoundError:
            return False


class Pruning:
    """Clears away each hour, and where the disk has too little room, as a context manager.

    A process of its own does it, so that nobody waits while gigabytes are removed. It may be killed
    at any moment, and tells itself what goes, and why.

    Args:
        home: the home.
        config: its settings; what is in force is looked up each time.
        command: the command that clears away.
        look_s: between two looks whether it is to be done.
        short_s: between two times where there is too little room.
        every_s: between two times where there is enough.
    """

    def __init__(
        self,
        home: Home,
        config: Config,
        command: Sequence[str],
        *,
        look_s: float = LOOK_S,
        short_s: float = PRUNE_SHORT_S,
        every_s: float = PRUNE_S,
    ) -> None:
        self._home, self._config, self._command = home, config, command
        self._look_s, self._short_s, self._every_s = look_s, short_s, every_s
        self._stop = threading.Event()
        self.child: subprocess.Popen[bytes] | None = None
        """the process that does it, while it does"""
        self._thread = threading.Thread(target=self._keep, daemon=True)

    def __enter__(self) -> Pruning:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        child = self.child
        if child is not None:
            child.terminate()
        self._thread.join(LEAVING_S)

    def _keep(self) -> None:
        clock = SystemClock()
        done_at_s: float | None = None
        while not self._stop.wait(self._look_s):
            now_s = clock.read().boottime_s
            rest_s = self._short_s if self._is_short() else self._every_s
            if done_at_s is None or now_s - done_at_s >= rest_s:
                with (
                    suppress(OSError),  # as above, the next time
                    subprocess.Popen(self._command, stdin=subprocess.DEVNULL) as self.child,
                ):
                    self.child.wait()
                self.child, done_at_s = None, clock.read().boottime_s

    def _is_short(self) -> bool:
        least = self._config.settings.jobs.min_free_gib
        try:
            return shutil.disk_usage(self._home.path).free < least * GIB
        except OSError:  # the home is gone, or away
            return False


def _migrated(command: Sequence[str]) -> int:
    """Bring the store up to this version, in a process that ends with what it has imported."""
    return subprocess.run(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=False
    ).returncode


def _outlive_nobody(leave: Callable[[], None]) -> None:
    """Leave once whoever holds our standard input lets go of it, or has died."""
    while os.read(0, 1024):
        pass
    leave()


def _heed(act: Callable[[], object]) -> None:
    """Do that when somebody wants us to end."""

    def heard(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - as Python calls it
        act()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, heard)


def _see_tokens(jobs: Jobs) -> None:
    """See that nobody is believed who reaches the API from elsewhere.

    Raises:
        NeedsTokens: everybody would be.
    """
    if not jobs.has_tokens and not is_here(jobs.address[0]):
        raise NeedsTokens(jobs.listen)


def _listening(jobs: Jobs, *, elsewhere: bool) -> socket.socket:
    """A socket at the address of the settings, or at the next port that is free.

    Args:
        jobs: the settings.
        elsewhere: whether another port will do.

    Raises:
        CannotListen: it is no place to listen at.
    """
    host, port = jobs.address
    last = min(port + NEXT_PORTS, PORT_MAX) if elsewhere else port
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    while True:
        try:
            return socket.create_server((host, port), family=family, backlog=1024)
        except OSError as error:
            if error.errno != errno.EADDRINUSE or port == last:
                raise CannotListen(jobs.listen, error) from error
        port += 1
