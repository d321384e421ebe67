"""Where the parts meet: builds the daemon from a home and a settings file, and runs it."""

from __future__ import annotations

import contextlib
import math
import os
import sys
import time
from pathlib import Path
from typing import TextIO

from state.boot_notes import BootNotes
from state.inbox import Inbox
from state.store import Store
from supervisor.config import Config
from supervisor.core import cards
from supervisor.core.events import Event
from supervisor.core.guard import Pressure
from supervisor.core.queue import all_ended, ends
from supervisor.core.seen import Machine
from supervisor.daemon import Daemon
from supervisor.host.cgroup import ControlGroup, cores
from supervisor.host.clock import SystemClock
from supervisor.host.gpu import Gpus
from supervisor.host.home import Home, HomeLost
from supervisor.host.notify import Notify
from supervisor.host.sensors import Sensors
from supervisor.host.sentry import Sentry
from supervisor.host.watch import REQUESTS, SETTINGS, Watch
from supervisor.journal import Journal
from supervisor.messenger import Messenger
from supervisor.runners.local import LocalRunner
from trainers import durable

TEND_S = 30.0
"""how often the size of the trainers' output is looked at"""


def supervise(
    home: Home, config: Config, screen: TextIO = sys.stdout, *, until_done: bool = False
) -> int:
    """Be the supervisor of `home` until asked to stop.

    Args:
        home: where everything lies.
        config: the settings.
        screen: where a person reads along.
        until_done: stop also when every run has ended.

    Returns:
        The exit code: 0; with `until_done` 1 if not every run has reached its target.

    Raises:
        AlreadyRunning: another supervisor holds this home.
        HomeUnusable: the home cannot be written to.
        HomeLost: somebody moved or removed the home meanwhile.
        NewerState: a newer version wrote the state.
    """
    clock = SystemClock()
    home.make()
    with home.taken(clock.read()) as lock:
        lax = home.close_to_others()
        watch, gpus, journal = Watch(), Gpus(), Journal(home, screen)
        messenger = Messenger(home, journal, clock)
        sentry = Sentry(Pressure)
        runner = LocalRunner(
            home.runs,
            clock.read().boot_id,
            tuning=home.tuning,
            trainers_dir=lambda: config.trainers_dir,
        )
        daemon = Daemon(
            config=config,
            clock=clock,
            store=Store(home.state),
            inbox=Inbox(home.inbox),
            boot_notes=BootNotes(home.boot_notes),
            runner=runner,
            journal=journal,
            sensors=Sensors(home.path, gpus),
            power=gpus,
            sentry=sentry,
            machine=_machine(home),
        )
        watch.begin()
        try:
            daemon.start(lax)
            _live(
                daemon,
                watch,
                runner,
                messenger,
                gpus,
                sentry,
                config,
                home,
                lock,
                until_done=until_done,
            )
        finally:
            watch.end()
            config.close()
            runner.close()
            gpus.close()
    came = ends(daemon.memory)
    short = came.failed + came.cancelled or not all_ended(daemon.memory.runs)
    return 1 if until_done and short else 0


def _machine(home: Home) -> Machine:
    """What this machine is, as far as no sensor reads it."""
    try:
        driver = Path("/sys/module/nvidia/version").read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        driver = ""
    parts = {
        "kernel": os.uname().release,
        "driver": driver or None,
        "supervisor": installed("training_supervisor"),
        "torch": installed("torch"),
    }
    ours = ControlGroup.of().memory()
    memory_mib = None if ours is None else ours.limit // 2**20
    gpus = cards.inherited(os.environ.get("CUDA_VISIBLE_DEVICES"))
    return Machine(cores=cores(), parts=parts, memory_mib=memory_mib, gpus=gpus, home=home.place)


def installed(distribution: str) -> str | None:
    """The version of an installed distribution.

    `importlib.metadata` would say the same, and load the whole of `email` for it.
    """
    for folder in sys.path:
        for path in Path(folder).glob(f"{distribution}-*.dist-info"):
            return path.stem.partition("-")[2]
    return None


def _live(
    daemon: Daemon,
    watch: Watch,
    runner: LocalRunner,
    messenger: Messenger,
    gpus: Gpus,
    sentry: Sentry,
    config: Config,
    home: Home,
    lock: durable.Lock,
    *,
    until_done: bool,
) -> None:
    """Tick whenever something happens, until asked to stop, or all is done; then stop cleanly.

    Raises:
        HomeLost: the home was moved or removed; its trainers have been ended, and nothing
            was written into what lies at its path now, which may be another's.
    """
    notify = Notify()
    cause, ready = "start", "READY=1"
    # A hand-over that was asked for first holds, whatever is asked for after it.
    over = False
    while not (watch.hand_over_asked or watch.stop_asked or over):
        if not lock.lasts():
            runner.end_all()
            raise HomeLost(home.path)
        with contextlib.suppress(OSError):  # somebody has removed it; the inbox tells what else
            durable.make_folder(home.inbox)
        due_s = daemon.tick(cause)
        for said in messenger.tend(config.settings.notify, daemon.memory):
            daemon.write_down(**said._asdict())
        messenger.go()
        due_s = min(due_s, messenger.due_s, gpus.due_s)
        notify(ready, "WATCHDOG=1", f"STATUS={daemon.status}")
        blind = watch.trouble
        if watch.files({home.inbox: REQUESTS} | dict.fromkeys(config.watched, SETTINGS)):
            due_s = 0.0  # look once more: something may have changed before it was watched
        if watch.trouble and watch.trouble != blind:
            look_s = config.settings.policy.tick_s
            reason = (
                f"files cannot be watched ({watch.trouble}): requests and changed settings are "
                f"seen every {look_s:g} s (policy.tick_s); see fs.inotify.max_user_instances"
            )
            daemon.write_down(Event.WATCH_LOST, rule="watch", reason=reason, evidence={})
        # What is on trial may be more work.
        over = until_done and daemon.memory.resting and not messenger.busy and not config.handles
        if not over:
            cause = _sleep(watch, runner, messenger, gpus, sentry, config, notify, due_s)
    for said in messenger.leave():
        daemon.write_down(**said._asdict())
    notify("STOPPING=1", "STATUS=saving every run")
    if watch.hand_over_asked:
        daemon.hand_over()
        return
    while not daemon.leave():
        # However long a slow disk takes to save: as long as this loop turns, systemd waits.
        notify("WATCHDOG=1", "EXTEND_TIMEOUT_USEC=60000000")
        watch.sleep(0.5, runner.exits)


def _sleep(
    watch: Watch,
    runner: LocalRunner,
    messenger: Messenger,
    gpus: Gpus,
    sentry: Sentry,
    config: Config,
    notify: Notify,
    due_s: float,
) -> str:
    """Sleep until something happens or a look is due, with an eye on the trainers' output."""
    nap_s = min(TEND_S, (notify.watchdog_s or math.inf) / 3)
    until_s = time.monotonic() + due_s
    tend_s = time.monotonic() + nap_s
    # Not all that the GPUs' helper says is worth a look, and it may have spoken before the sleep.
    while not gpus.take():
        left_s = min(until_s, tend_s) - time.monotonic()
        exits = (*runner.exits, *messenger.handles, *config.handles)
        cause = watch.sleep(min(left_s, sentry.due_s), exits, gpus.handles)
        if cause == "answer":
            continue
        if cause != "time":
            return cause
        if sentry.look():
            return "guard"
        now_s = time.monotonic()
        if now_s >= until_s:
            return cause
        if now_s >= tend_s:
            runner.tend()
            notify("WATCHDOG=1")
            tend_s = now_s + nap_s
    return "answer"
