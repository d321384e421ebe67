"""The processes beside the daemon: the API, and the dispatcher that hands its jobs over.

Each may be killed at any moment. The API has a dispatcher beside it, as a process of its own, so
that no look at a home holds up an answer; where another one serves the home already, that one does.
"""

from __future__ import annotations

import errno
import ipaddress
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from types import FrameType

from state.jobs.database import NotMigrated
from state.jobs.store import JobStore
from supervisor.config import Config
from supervisor.core.job_settings import Jobs
from supervisor.errors import SupervisorError
from supervisor.host.clock import SystemClock
from supervisor.host.home import Home
from supervisor.host.notify import Notify
from supervisor.jobs.at_home import LOCKED
from supervisor.jobs.desk import TakesNone, told
from supervisor.jobs.dispatcher import Dispatcher
from supervisor.jobs.settings import store_url, tenants_of
from supervisor.programs import find_trainers_in
from supervisor.web.app import application
from supervisor.web.jobs import BASE
from supervisor.web.server import server
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
        self.exit_code = AGAIN_LATER if taken else 78
        why = "somebody else listens there" if taken else error.strerror or str(error)
        super().__init__(
            f"the API cannot listen at {listen}: {why}; choose another with --listen, or with "
            "`listen` in [jobs]"
        )


def dispatch(
    home: Home, config: Config, migrate: Sequence[str], say: Say, *, beside: bool = False
) -> int:
    """Hand jobs over to the supervisor of a home until somebody ends that; the exit code.

    Args:
        home: the home, which exists.
        config: its settings and modes.
        migrate: the command that brings the store up to this version.
        say: tells a person what is away, and that it is there again.
        beside: another process has started it, holds its standard input, and shall not be outlived.

    Raises:
        AlreadyDispatching: another dispatcher serves the home.
        NoSecret: the password of the store is not where the settings say.
    """
    code = _migrated(migrate)
    if code not in (0, AGAIN_LATER):
        return code

    def opened() -> JobStore:
        url = store_url(config.settings.jobs, home.path, config.here, os.environ)
        try:
            return JobStore(url)
        except NotMigrated:
            _migrated(migrate)
            return JobStore(url)

    stop = threading.Event()
    _heed(stop.set)
    if beside:
        threading.Thread(target=_outlive_nobody, args=[stop], daemon=True).start()
    dispatcher = Dispatcher(
        home, config, config.here, open_store=opened, clock=SystemClock(), say=say
    )
    Notify()("READY=1")
    dispatcher.run(stop)
    return 0


def serve(
    home: Home, config: Config, jobs: Jobs, migrate: Sequence[str], beside: Sequence[str], say: Say
) -> int:
    """Answer the API until somebody ends that, with a dispatcher beside it; the exit code.

    Args:
        home: the home, which exists.
        config: its settings and modes.
        jobs: [jobs] of these, as they are to be.
        migrate: the command that brings the store up to this version.
        beside: the command that is a dispatcher.
        say: tells a person where it listens.

    Raises:
        TakesNone: the settings want no jobs.
        NeedsTokens: it would answer to other machines, and anybody there.
        CannotListen: the address is no place to listen at.
        Unusable: the store does not serve.
        NoSecret: a token or a password is not where the settings say.
        SharedTables: two tenants could read each other's tables.
    """
    if not jobs.enabled:
        raise TakesNone
    if not jobs.has_tokens and not _is_here(jobs.address[0]):
        raise NeedsTokens(jobs.listen)
    tenants_of(jobs, home.path, config.here)
    find_trainers_in(config.trainers_dir)
    with _listening(jobs) as here:
        code = _migrated(migrate)
        if code:
            return code
        with told():
            store = JobStore(store_url(jobs, home.path, config.here, os.environ))
        try:
            api = server(application(store, jobs, home, SystemClock(), here=config.here))
            # It heeds signals itself, and passes them on in the end.
            _heed(lambda: setattr(api, "should_exit", True))
            with _Beside(home, beside):
                port = here.getsockname()[1]
                host = jobs.listen.rpartition(":")[0]
                say(f"jobs are taken in at http://{host}:{port}{BASE}, and kept in {store.shown}")
                Notify()("READY=1")
                sys.setswitchinterval(SWITCH_S)
                api.run(sockets=[here])
        finally:
            store.close()
    return 0


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
            # Its end of the pipe tells it that we are gone, whatever has become of us.
            with subprocess.Popen(self._command, stdin=subprocess.PIPE) as self._child:
                code = self._child.wait()
            rest_s = 1.0 if code == AGAIN_LATER else min(REST_MAX_S, 2 * rest_s)
            self._stop.wait(rest_s)

    def _is_served(self) -> bool:
        """Whether some dispatcher serves the home."""
        try:
            return durable.is_held(self._folder)
        except FileNotFoundError:
            return False


def _migrated(command: Sequence[str]) -> int:
    """Bring the store up to this version, in a process that ends with what it has imported."""
    return subprocess.run(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=False
    ).returncode


def _outlive_nobody(stop: threading.Event) -> None:
    """Wait until whoever holds our standard input lets go of it, or has died."""
    while os.read(0, 1024):
        pass
    stop.set()


def _heed(act: Callable[[], object]) -> None:
    """Do that when somebody wants us to end."""

    def heard(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - as Python calls it
        act()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, heard)


def _is_here(host: str) -> bool:
    """Whether only this machine reaches that address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _listening(jobs: Jobs) -> socket.socket:
    """A socket at the address of the settings.

    Raises:
        CannotListen: it is no place to listen at.
    """
    host, port = jobs.address
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=1024)
    except OSError as error:
        raise CannotListen(jobs.listen, error) from error
