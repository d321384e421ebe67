"""The machine of benchmarks/chaos.py: it boots, goes down and loses things as it is told to."""

from __future__ import annotations

import contextlib
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import msgspec

from supervisor.host.home import Home
from testkit import machine
from testkit.disks import Disk
from testkit.false_clock import FalseClock, build, compiler
from testkit.patience import until
from testkit.processes import PROC, Process, mains, processes, stat
from trainers import durable

LOOK_S = 0.03
"""between two looks of the witness: how exact its times are"""
DISK_MIB = {"drill": 64, "atari": 768}

SETTINGS = """\
modes_dir = "modes"

[policy]
# An hour of the guide in a minute.
stable_min = 1
window_min = 4
cool_down_min = 1
short_boot_min = 0.05
idle_first_min = 0.1
idle_max_min = 0.2
tick_s = 2

[recovery]
grace_s = 30
backoff_first_s = 0.2
backoff_max_s = 2
proven_s = 10
start_s = 60
silent_min_s = {silent_min_s}
quarantine_s = 10

[checkpoints]
interval_s = {interval_s}

[campaign]
trainer = "{trainer}"
runs = {runs}
target = {{ steps = 100000000 }}

[logs]
turns = true

"""
CAMPAIGNS = {
    "drill": """\
[campaign.options]
steps_per_s = 200
workers = 1
worker_kind = "setsid"

[run.B.options]
worker_kind = "double_fork"

[run.C]
target = { steps = 3000 }
""",
    "atari": """\
[campaign.options]
rollout_steps = 128

[run.Freeway]
target = { steps = 4096 }
""",
}
RUNS = {"drill": ["A", "B", "C", "D"], "atari": ["Pong", "Breakout", "Freeway", "Boxing"]}
MODES = {"light": (0, 2, 4), "medium": (1, 3, 4)}
"""name: rung, slots, environments; modes that two cores bear"""


def apart() -> bool:
    """Begin this program again in namespaces of its own, whose end ends everything in them.

    Returns whether it is there: only root can. Outside of them it does not return, but waits for
    the end of what it has begun, which hears of Ctrl-C and SIGTERM, and dies with it.
    """
    if os.getpid() == 1:
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        return True
    spaces = ["unshare", "--mount", "--propagation", "private", "--pid", "--fork"]
    spaces += ["--kill-child=KILL", "--mount-proc"]
    if os.geteuid() != 0 or _fails(*spaces, "unshare", "-T", "true"):
        return False
    inner = subprocess.Popen(
        ["setpriv", "--pdeathsig", "KILL", *spaces, sys.executable, *sys.argv],
        start_new_session=True,  # Ctrl-C comes to us, and once
    )

    def pass_on(number: int, _: object) -> None:
        """`unshare` itself would not."""
        children = (PROC / f"{inner.pid}/task/{inner.pid}/children").read_text().split()
        for pid in [int(child) for child in children] or [inner.pid]:
            os.kill(pid, number)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, pass_on)
    sys.exit(inner.wait())


def anew(uptime_s: int) -> list[str]:
    """How a command begins for which the machine has started at that uptime, in whole seconds."""
    return ["unshare", "-T", f"--boottime=-{uptime_s}", f"--monotonic=-{uptime_s}"]


def _fails(*command: str) -> bool:
    return subprocess.run(command, check=False, capture_output=True).returncode != 0


class Machine(machine.Machine):
    """A machine with a supervisor on it, that boots and goes down as it is told to.

    Args:
        place: an empty folder.
        trainer: what trains.
        rooted: it has namespaces of its own.
    """

    def __init__(self, place: Path, trainer: str, *, rooted: bool) -> None:
        self.left_out: list[str] = []
        self._rooted = rooted
        self.disk: Disk | None = None
        self.clock: FalseClock | None = None
        if rooted and shutil.which("mkfs.ext4"):
            # As most machines have it. What ext4 forgives then, tests/faults does not.
            self.disk = Disk(place / "disk", size_mib=DISK_MIB[trainer], forgiving=True)
        else:
            self.left_out.append("full disk, power cut: they need root and mkfs.ext4")
        if not rooted:
            self.left_out.append(
                "boots that begin at uptime 0: they need root; each boot here is a new BOOT_ID "
                "alone, and the uptime of this machine is booked as its down time"
            )
        if compiler():
            self.clock = FalseClock(build(place / "clock.so"), place / "clock.offset")
        else:
            self.left_out.append("clock steps: they need gcc")
        home = (self.disk.path if self.disk else place) / "home"
        command = [sys.executable, "-P", "-m", "supervisor", "--home", str(home)]
        super().__init__(home, place / "screen.log", program=command)
        self.extra = {**(self.clock.environment if self.clock else {}), "NO_COLOR": "1"}
        self.files = Home(home)
        self.files.make()
        self._daemon: subprocess.Popen[str] | None = None
        self._asked: list[subprocess.Popen[str]] = []
        self.boots = self.crashes = 0
        self._uptime_s = 0
        self._settle(trainer)
        self.power_on(crashed=False)
        self.crashes = 0

    def _settle(self, trainer: str) -> None:
        folder = self.home / "modes"
        folder.mkdir()
        for name, (rung, slots, n_envs) in MODES.items():
            load = f"rung = {rung}\nslots = {slots}\n"
            load += f"[load.atari]\nn_envs = {n_envs}\nbatch_size = 64\n"
            durable.write(folder / f"{name}.toml", load.encode())
        settings = SETTINGS.format(
            trainer=trainer,
            runs=json.dumps(RUNS[trainer]),
            silent_min_s={"drill": 3, "atari": 15}[trainer],
            interval_s={"drill": 1, "atari": 5}[trainer],
        )
        durable.write(self.files.settings, (settings + CAMPAIGNS[trainer]).encode())

    def command(self, *arguments: str) -> list[str]:
        """What a person types on it: its uptime has begun with its boot."""
        space = anew(self._uptime_s) if self._rooted else []
        return [*space, *super().command(*arguments)]

    @property
    def daemon_lives(self) -> bool:
        """Whether the supervisor's process lives."""
        return self._daemon is not None and self._daemon.poll() is None

    @property
    def daemon_fell(self) -> int | None:
        """The exit code of a supervisor that ended without having been asked to."""
        return self._daemon.poll() if self._daemon is not None else None

    def power_on(self, *, crashed: bool) -> None:
        """Boot: a new identity, an uptime that begins anew, and a note of it."""
        self.boots += 1
        self.crashes += crashed
        self.boot = uuid.uuid4().hex
        self._uptime_s = math.floor(time.clock_gettime(time.CLOCK_BOOTTIME))
        self._note("up")
        self.begin()

    def power_off(self) -> None:
        """Everything ends at once."""
        self.kill_daemon()
        self.sweep()

    def go_down_orderly(self) -> None:
        """The supervisor is asked to stop, and the boot notes its end."""
        self.end()
        self._note("down")

    def begin(self) -> None:
        """Start the supervisor, as an init system does."""
        self._daemon = self.launch(self.command("run", "--plain"))

    def end(self) -> None:
        """Ask the supervisor to stop, and wait until it has."""
        if self._daemon is not None:
            self._daemon.terminate()
            until(lambda: not self.daemon_lives, "the supervisor has stopped", look_s=LOOK_S)
            self._daemon = None

    def kill_daemon(self) -> None:
        """`kill -9` of the supervisor."""
        if self._daemon is not None:
            self._daemon.kill()
            self._daemon.wait()
            self._daemon = None

    def ask(self, *arguments: str) -> subprocess.Popen[str]:
        """Type a command, and do not wait for its end."""
        self._asked.append(
            subprocess.Popen(
                self.command(*arguments),
                env=self.environment(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        )
        return self._asked[-1]

    def processes(self) -> list[Process]:
        """The living processes of runs of this home."""
        self._bury_orphans()
        return processes(self.files.runs)

    def mains(self) -> list[Process]:
        """Those of them that train."""
        self._bury_orphans()
        return sorted(mains(self.files.runs))

    def told(self) -> str:
        """The end of what the supervisor printed."""
        return self.screen.read_text(encoding="utf-8", errors="replace")[-3000:]

    def _note(self, event: str) -> None:
        """What the early one-shot service writes."""
        moment = {"wall": time.time(), "boottime_s": 0.0}  # noqa: TID251 - as `date` says it
        note = {"boot_id": self.boot, "event": event, **moment}
        with self.files.boot_notes.open("ab") as notes:
            notes.write(msgspec.json.encode(note) + b"\n")
            notes.flush()
            os.fsync(notes.fileno())

    def _bury_orphans(self) -> None:
        """Be the init of its own namespace, whose children the orphans of the machine become."""
        if not self._rooted:
            return
        ours = {one.pid for one in (*self.daemons, *self._asked) if one.returncode is None}
        me = str(os.getpid())
        for pid in map(int, (PROC / me / "task" / me / "children").read_text().split()):
            if pid not in ours and stat(PROC / str(pid))[:1] == ["Z"]:
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(pid, os.WNOHANG)
