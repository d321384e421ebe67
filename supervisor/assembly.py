"""Where the parts meet: builds the daemon from a home and a settings file, and runs it."""

from __future__ import annotations

import os
import sys
from typing import TextIO

from state.inbox import Inbox
from state.store import Store
from supervisor.clock import SystemClock
from supervisor.daemon import Daemon
from supervisor.gpu import Gpus
from supervisor.home import Home
from supervisor.journal import Journal
from supervisor.notify import Notify
from supervisor.runners import Runner
from supervisor.runners.local import LocalRunner
from supervisor.sensors import Sensors
from supervisor.settings import Config
from supervisor.watch import SETTINGS, WISHES, Watch


def supervise(home: Home, config: Config, screen: TextIO = sys.stdout) -> int:
    """Be the supervisor of `home` until asked to stop; the exit code.

    Raises:
        AlreadyRunning: another supervisor holds this home.
        HomeUnusable: the home cannot be written to.
        NewerState: a newer version wrote the state.
    """
    clock = SystemClock()
    home.make()
    with home.taken(clock.read()):
        watch, gpus = Watch(), Gpus()
        runner = LocalRunner(home.runs, clock.read().boot_id)
        daemon = Daemon(
            config=config,
            clock=clock,
            store=Store(home.state),
            inbox=Inbox(home.inbox),
            runner=runner,
            journal=Journal(home, screen),
            sensors=Sensors(home.path, gpus),
            power=gpus,
            cores=len(os.sched_getaffinity(0)),
        )
        watch.begin()
        try:
            _live(daemon, watch, runner, home, config)
        finally:
            watch.end()
            gpus.close()
    return 0


def _live(daemon: Daemon, watch: Watch, runner: Runner, home: Home, config: Config) -> None:
    """Tick whenever something happens, until asked to stop; then stop cleanly."""
    notify = Notify()
    daemon.start()
    cause, ready = "start", "READY=1"
    while not watch.stop_asked:
        # Before the tick: what changes during it must end the sleep after it.
        watch.files({home.inbox: WISHES} | dict.fromkeys(config.watched, SETTINGS))
        due_s = daemon.tick(cause)
        notify(ready, "WATCHDOG=1", f"STATUS={daemon.status}")
        cause = watch.sleep(due_s, runner.exits)
    notify("STOPPING=1", "STATUS=saving every run")
    while not daemon.leave():
        notify("WATCHDOG=1")
        watch.sleep(0.5, runner.exits)
