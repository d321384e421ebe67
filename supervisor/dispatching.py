"""The dispatcher as a process beside the daemon, and what clears away beside it.

Each may be killed at any moment.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
from collections.abc import Sequence
from contextlib import suppress

from state.jobs.database import NotMigrated
from state.jobs.store import JobStore
from supervisor.beside import AGAIN_LATER, LEAVING_S, LOOK_S, Say, heed, migrated, outlive_nobody
from supervisor.config import Config
from supervisor.host.clock import SystemClock
from supervisor.host.home import Home
from supervisor.host.notify import Notify
from supervisor.jobs.dispatcher import Dispatcher
from supervisor.jobs.settings import GIB, store_url

PRUNE_S = 3600.0
"""between two times that it is looked for what may go"""
PRUNE_SHORT_S = 60.0
"""the same while there is too little room"""


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
    code = 0 if beside else migrated(migrate)
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
            migrated(migrate)
            return JobStore(url)

    stop = threading.Event()
    heed(stop.set)
    if beside:
        threading.Thread(target=outlive_nobody, args=[stop.set], daemon=True).start()
    dispatcher = Dispatcher(
        home, config, config.here, open_store=opened, clock=SystemClock(), say=say, beside=beside
    )
    Notify()("READY=1")
    with Pruning(home, config, prune):
        dispatcher.run(stop)
    return 0


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
