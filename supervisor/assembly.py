"""Where the parts meet: builds the daemon from a home and a settings file, and runs it."""

from __future__ import annotations

import contextlib
import math
import os
import sys
import time
from pathlib import Path
from typing import NamedTuple, TextIO

from state.boot_notes import BootNotes
from state.inbox import Inbox
from state.store import Store
from supervisor.analyst import Analyst
from supervisor.config import Config
from supervisor.core import cards
from supervisor.core.events import Event
from supervisor.core.queue import all_ended, ends
from supervisor.core.seen import Machine
from supervisor.daemon import Daemon
from supervisor.host.cgroup import ControlGroup, cores
from supervisor.host.clock import SystemClock, zone_name
from supervisor.host.gpu import Gpus
from supervisor.host.home import Home, HomeLost
from supervisor.host.notify import Notify
from supervisor.host.sensors import Sensors
from supervisor.host.watch import REQUESTS, SETTINGS, Watch
from supervisor.journal import Journal
from supervisor.messenger import Messenger
from supervisor.runners.local import LocalRunner
from supervisor.sampler import Sampler
from supervisor.sentry import Sentry
from trainers import durable

TEND_S = 30.0
"""how often the size of the trainers' output is looked at"""
TEND_LEAST_S = 16.0
"""after which that may be, where something else ends a nap: one waking serves both"""


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
        runner = LocalRunner(
            home.runs,
            clock.read().boot_id,
            tuning=home.tuning,
            trainers_dir=lambda: config.trainers_dir,
        )
        sentry = Sentry(gpus)
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
            windows=home.windows,
        )
        sampler = Sampler(home, clock, gpus)
        body = Body(
            daemon,
            watch,
            runner,
            messenger,
            gpus,
            sampler,
            sentry,
            Analyst(home, clock),
            config,
            Notify(),
        )
        watch.begin()
        try:
            daemon.start(lax)
            _live(body, home, lock, until_done=until_done)
        finally:
            sampler.close()
            sentry.close()
            body.analyst.close()
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
    return Machine(
        cores=cores(),
        parts=parts,
        memory_mib=memory_mib,
        gpus=gpus,
        home=home.place,
        zone=zone_name(),
    )


def installed(distribution: str) -> str | None:
    """The version of an installed distribution.

    `importlib.metadata` would say the same, and load the whole of `email` for it.
    """
    for folder in sys.path:
        for path in Path(folder).glob(f"{distribution}-*.dist-info"):
            return path.stem.partition("-")[2]
    return None


class Body(NamedTuple):
    """What lives in the daemon's process."""

    daemon: Daemon
    watch: Watch
    runner: LocalRunner
    messenger: Messenger
    gpus: Gpus
    sampler: Sampler
    sentry: Sentry
    analyst: Analyst
    config: Config
    notify: Notify


def _live(body: Body, home: Home, lock: durable.Lock, *, until_done: bool) -> None:
    """Tick whenever something happens, until asked to stop, or all is done; then stop cleanly.

    Raises:
        HomeLost: the home was moved or removed; its trainers have been ended, and nothing
            was written into what lies at its path now, which may be another's.
    """
    daemon, watch, runner, messenger = body.daemon, body.watch, body.runner, body.messenger
    config, notify = body.config, body.notify
    cause, ready = "start", "READY=1"
    # A hand-over that was asked for first holds, whatever is asked for after it.
    ended = over = False
    while not (watch.hand_over_asked or watch.stop_asked or over):
        if not lock.lasts():
            runner.end_all()
            raise HomeLost(home.path)
        with contextlib.suppress(OSError):  # somebody has removed it; the inbox tells what else
            durable.make_folder(home.inbox)
        due_s = min(daemon.tick(cause, last=ended), _listen(body))
        notify(ready, "WATCHDOG=1", f"STATUS={daemon.status}")
        if _watch_files(body, home):
            due_s = 0.0  # look once more: something may have changed before it was watched
        # What is on trial may be more work.
        ended = until_done and daemon.memory.resting
        over = ended and not messenger.busy and not config.handles
        if not over:
            cause = _sleep(body, due_s)
    for said in messenger.leave():
        daemon.write_down(**said._asdict())
    notify("STOPPING=1", "STATUS=saving every run")
    body.sampler.close()  # that may take minutes, and a sample is to be on the disk in half of one
    if watch.hand_over_asked:
        daemon.hand_over()
        return
    while not daemon.leave():
        # However long a slow disk takes to save: as long as this loop turns, systemd waits.
        notify("WATCHDOG=1", "EXTEND_TIMEOUT_USEC=60000000")
        watch.sleep(0.5, runner.exits)


def _listen(body: Body) -> float:
    """Take down what those beside the daemon have to say; seconds until one of them is due."""
    daemon, messenger, settings = body.daemon, body.messenger, body.config.settings
    due_s = math.inf
    for said in messenger.tend(settings.notify, daemon.memory):
        daemon.write_down(**said._asdict())
    messenger.go()
    if (lost := body.sampler.trouble) is not None:
        reason = f"the machine is not sampled: {lost}; training goes on"
        daemon.write_down(Event.SAMPLES_STOPPED, rule="disk", reason=reason, evidence=None)
    for why in body.sentry.troubles():
        reason = f"{why}; it counts for nothing until that is over"
        daemon.write_down(Event.GUARD_BLIND, rule="guard", reason=reason, evidence=None)
    for told in body.analyst.tend(settings.quiet_hours):
        daemon.write_down(**told._asdict(), evidence=None)
        due_s = 0.0  # there may be other windows now
    return min(due_s, messenger.due_s, body.gpus.due_s, body.analyst.due_s(settings.quiet_hours))


def _watch_files(body: Body, home: Home) -> bool:
    """Watch what may change; whether some of it was not watched before. What cannot be is told."""
    watch, config = body.watch, body.config
    blind = watch.trouble
    fresh = watch.files({home.inbox: REQUESTS} | dict.fromkeys(config.watched, SETTINGS))
    if watch.trouble and watch.trouble != blind:
        look_s = config.settings.policy.tick_s
        reason = (
            f"files cannot be watched ({watch.trouble}): requests and changed settings are "
            f"seen every {look_s:g} s (policy.tick_s); see fs.inotify.max_user_instances"
        )
        body.daemon.write_down(Event.WATCH_LOST, rule="watch", reason=reason, evidence={})
    return fresh


def _sleep(body: Body, due_s: float) -> str:
    """Sleep until something happens or a look is due, with an eye on the trainers' output.

    Meanwhile the machine is sampled, for which nobody is woken but this sleep.
    """
    daemon, watch, runner, messenger, gpus, sampler, sentry, analyst, config, notify = body
    nap_s = min(TEND_S, (notify.watchdog_s or math.inf) / 3)
    tended_s = time.monotonic()  # by the look
    until_s = tended_s + due_s
    # Not all that the GPUs' helper says is worth a look, and it may have spoken before the sleep.
    while not gpus.take():
        sampler.tend(config.settings.samples, daemon.memory)
        now_s = time.monotonic()
        exits = (*runner.exits, *messenger.handles, *config.handles, *analyst.handles)
        left_s = min(until_s - now_s, tended_s + nap_s - now_s, sampler.due_s, sentry.due_s)
        cause = watch.sleep(left_s, exits, gpus.handles, sentry.alarms)
        now_s = time.monotonic()
        causes = set(cause.split("+"))
        if causes - {"alarm", "answer", "time"}:
            return cause
        if sentry.look(daemon.memory, alarmed="alarm" in causes):
            return "guard"
        if now_s >= until_s and cause == "time":
            return cause
        if now_s - tended_s >= min(nap_s, TEND_LEAST_S):
            runner.tend()
            tended_s = now_s
            notify("WATCHDOG=1")
    return "answer"
