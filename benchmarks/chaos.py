"""A campaign of chaos: a real supervisor, real trainers, and faults at random from one seed.

    .venv/bin/python benchmarks/chaos.py --minutes 10 --seed 1

Trainers and the daemon are killed or frozen, the machine reboots, loses its power or is shut
down, the disk is full, the clock is set, people change their mind. What must always hold is
checked all the while; at the end stand the goodput, as `supervisor goodput` tells it from the
log, and how long it took to notice a fault and to train again, which only the chaos itself knows.
Exit code 1: something that must hold did not; the seed and the command that replay it are told.

As root it all happens in namespaces of its own: a disk that can be filled and loses power, an
uptime that begins with each boot, and nobody left behind even if the chaos itself is killed.
Without, what cannot be done is left out, and said. The wall clock of this machine is never set:
a small library, built with gcc, shows a false one to the supervisor and its trainers.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import functools
import json
import math
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec

from state.records import Memory
from state.store import Store
from supervisor import screen
from supervisor.core.goodput import Goodput
from supervisor.core.recorded import make_again
from supervisor.host.home import Home
from supervisor.journal import parse, read
from supervisor.runners.local import read_heartbeat
from trainers import durable
from trainers.contract import MARKER, Heartbeat

LOOK_S = 0.03
"""between two looks of the witness: how exact its times are"""
ASK_S = 5.0
"""between two questions to `show-state`"""
PATIENCE_S = 300.0
"""longest time for anything to come back; far more than it takes on a busy machine"""
STRAY_S = 60.0
"""longest time to stop a trainer that is not wanted: the grace, twice"""
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

CLOCK = r"""
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static long long step_s(void) {
  static volatile long long *step;
  if (!step) {
    const char *path = getenv("CHAOS_CLOCK");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    void *page = file < 0 ? MAP_FAILED : mmap(0, 8, PROT_READ, MAP_SHARED, file, 0);
    if (file >= 0) close(file);
    static long long none;
    step = page == MAP_FAILED ? &none : page;
  }
  return *step;
}

int clock_gettime(clockid_t clock, struct timespec *now) {
  int failed = syscall(SYS_clock_gettime, clock, now);
  if (!failed && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
    now->tv_sec += step_s();
  return failed;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
  struct timespec exact;
  clock_gettime(CLOCK_REALTIME, &exact);
  now->tv_sec = exact.tv_sec;
  now->tv_usec = exact.tv_nsec / 1000;
  return 0;
}

time_t time(time_t *place) {
  struct timespec exact;
  clock_gettime(CLOCK_REALTIME, &exact);
  if (place) *place = exact.tv_sec;
  return exact.tv_sec;
}
"""


ENDS = ("run.died", "run.quarantined", "run.stopped", "run.done", "run.lost")
"""events that tell of a trainer that is gone"""


class Broken(Exception):
    """Something that must always hold did not."""


# What this machine allows


class Disk:
    """A disk of its own for the home: an image on a loop device."""

    def __init__(self, place: Path, size_mib: int) -> None:
        self.path = place
        self._image = place.with_suffix(".image")
        place.mkdir()
        with self._image.open("wb") as image:
            image.truncate(size_mib * 2**20)
        # -m 0: what is full for others is full for root, too.
        _do("mkfs.ext4", "-q", "-m", "0", str(self._image))
        self._mount()

    def fill(self) -> None:
        """Leave no room for anything more."""
        with self._filler.open("ab") as filler, contextlib.suppress(OSError):
            size = 2**20
            while size:
                try:
                    os.posix_fallocate(filler.fileno(), os.fstat(filler.fileno()).st_size, size)
                except OSError:
                    size //= 2

    def free(self) -> None:
        """Take away what fills it."""
        self._filler.unlink(missing_ok=True)
        durable.sync_folder(self.path)

    @property
    def full(self) -> bool:
        """Whether it has been filled."""
        return self._filler.exists()

    def cut_power(self) -> None:
        """From this moment on nothing reaches the disk (FS_IOC_SHUTDOWN, without the journal)."""
        handle = os.open(self.path, os.O_RDONLY)
        try:
            fcntl.ioctl(handle, 0x8004587D, (2).to_bytes(4, "little"))
        finally:
            os.close(handle)

    def come_back(self) -> None:
        """Mount it again, once nobody uses it any more."""
        _until(lambda: not _fails("umount", str(self.path)), "the disk can be unmounted")
        self._mount()

    @property
    def _filler(self) -> Path:
        return self.path / "filler"

    def _mount(self) -> None:
        # As most machines have it. What ext4 forgives then, tests/faults does not.
        _do("mount", "-t", "ext4", "-o", "loop", str(self._image), str(self.path))


class FalseClock:
    """A wall clock that can be set without setting that of the machine."""

    def __init__(self, place: Path) -> None:
        source, self._library = place / "clock.c", place / "clock.so"
        self._step = place / "clock.step"
        source.write_text(CLOCK, encoding="ascii")
        self._step.write_bytes(bytes(8))
        _do("gcc", "-O2", "-shared", "-fPIC", "-o", str(self._library), str(source))

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs to believe in it."""
        return {"LD_PRELOAD": str(self._library), "CHAOS_CLOCK": str(self._step)}

    def set(self, step_s: int) -> None:
        """Set it to the true time and `step_s` seconds more."""
        with self._step.open("r+b") as file:  # in place: it is mapped by who believes in it
            file.write(step_s.to_bytes(8, sys.byteorder, signed=True))


class Machine:
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
            self.disk = Disk(place / "disk", DISK_MIB[trainer])
        else:
            self.left_out.append("full disk, power cut: they need root and mkfs.ext4")
        if not rooted:
            self.left_out.append(
                "boots that begin at uptime 0: they need root; each boot here is a new BOOT_ID "
                "alone, and the uptime of this machine is booked as its down time"
            )
        if shutil.which("gcc"):
            self.clock = FalseClock(place)
        else:
            self.left_out.append("clock steps: they need gcc")
        self.home = Home((self.disk.path if self.disk else place) / "home")
        self.home.make()
        self._screen = place / "screen.log"
        self._daemon: subprocess.Popen[bytes] | None = None
        self.boots = self.crashes = 0
        self.boot_id, self._uptime_s = "", 0
        self._configure(trainer)
        self.power_on(crashed=False)
        self.crashes = 0

    def _configure(self, trainer: str) -> None:
        folder = self.home.path / "modes"
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
        durable.write(self.home.settings, (settings + CAMPAIGNS[trainer]).encode())

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
        self.boot_id = uuid.uuid4().hex
        self._uptime_s = math.floor(time.clock_gettime(time.CLOCK_BOOTTIME))
        self._note("up")
        self.start()

    def power_off(self) -> None:
        """Everything ends at once."""
        self.kill_daemon()
        _until(self._swept, "every process is gone")

    def go_down_orderly(self) -> None:
        """The supervisor is asked to stop, and the boot notes its end."""
        self.stop()
        self._note("down")

    def start(self) -> None:
        """Start the supervisor, as an init system does."""
        with self._screen.open("ab") as screen:
            self._daemon = subprocess.Popen(
                self._command("run", "--plain"),
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=screen,
                stderr=screen,
                start_new_session=True,
            )

    def stop(self) -> None:
        """Ask the supervisor to stop, and wait until it has."""
        if self._daemon is not None:
            self._daemon.terminate()
            _until(lambda: not self.daemon_lives, "the supervisor has stopped")
            self._daemon = None

    def kill_daemon(self) -> None:
        """`kill -9` of the supervisor."""
        if self._daemon is not None:
            self._daemon.kill()
            self._daemon.wait()
            self._daemon = None

    def ask(self, *arguments: str) -> subprocess.Popen[str]:
        """Type a command."""
        return subprocess.Popen(
            self._command(*arguments),
            env=self._environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def processes(self) -> list[Process]:
        """The living processes of runs of this home."""
        return list(_processes(self.home.runs))

    def mains(self) -> list[Process]:
        """Those of them that train."""
        living = self.processes()
        mains = [process for process in living if process.trains]
        pids = {process.pid for process in mains}
        # A child that is just becoming another program still looks like its parent.
        return sorted(process for process in mains if process.parent not in pids)

    def told(self) -> str:
        """The end of what the supervisor printed."""
        return self._screen.read_text(encoding="utf-8", errors="replace")[-3000:]

    def _swept(self) -> bool:
        living = self.processes()
        for process in living:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)
        return not living

    def _note(self, event: str) -> None:
        """What the early one-shot service writes."""
        moment = {"wall": time.time(), "boottime_s": 0.0}  # noqa: TID251 - as `date` says it
        note = {"boot_id": self.boot_id, "event": event, **moment}
        with self.home.boot_notes.open("ab") as notes:
            notes.write(msgspec.json.encode(note) + b"\n")
            notes.flush()
            os.fsync(notes.fileno())

    def _command(self, *arguments: str) -> list[str]:
        offset = f"-{self._uptime_s}"
        space = ["unshare", "-T", f"--boottime={offset}", f"--monotonic={offset}"]
        command = [sys.executable, "-P", "-m", "supervisor", "--home", str(self.home.path)]
        return [*(space if self._rooted else []), *command, *arguments]

    def _environment(self) -> dict[str, str]:
        return {
            **os.environ,
            **(self.clock.environment if self.clock else {}),
            "BOOT_ID": self.boot_id,
            "CUDA_VISIBLE_DEVICES": "",
            "NO_COLOR": "1",
        }


class Process(NamedTuple):
    """A living process of a run."""

    pid: int
    start_ticks: int
    parent: int
    run: str
    trains: bool
    """its command line is that of a trainer"""


def _processes(runs: Path) -> Iterator[Process]:
    mark = f"{MARKER}={runs}/".encode()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            status = (entry / "stat").read_text(encoding="utf-8", errors="replace")
            variables = (entry / "environ").read_bytes().split(b"\0")
            arguments = (entry / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        fields = status[status.rindex(")") + 2 :].split()
        if fields[0] in "ZX":
            with contextlib.suppress(ChildProcessError):
                if int(fields[1]) == os.getpid() == 1:  # an orphan: ours to bury as the init
                    os.waitpid(int(entry.name), os.WNOHANG)
            continue
        for variable in variables:
            if variable.startswith(mark):
                run = variable[len(mark) :].decode()
                trains = b"trainers.__main__" in arguments and b"--run" in arguments
                yield Process(int(entry.name), int(fields[19]), int(fields[1]), run, trains)


# What must hold, and how long things took


class Witness:
    """Looks on, and knows what was done to the machine."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.looks = self.asked = 0
        self.detection_s: dict[str, list[float]] = defaultdict(list)
        self.return_s: dict[str, list[float]] = defaultdict(list)
        """from a fault to the first new step of the run that it hit"""
        self._log_bytes = 0
        self._seq = 0
        self._durable: dict[str, int] = {}
        """run: the newest checkpoint that its trainer has told of"""
        self._noticing: dict[str, tuple[str, float, tuple[str, ...]]] = {}
        self._returning: dict[str, tuple[str, float, int | None]] = {}
        self._question: subprocess.Popen[str] | None = None
        self._question_about = (0, 0)
        self._recorded_then = False
        self._asked_at_s = 0.0
        self._stray_since_s: dict[str, float] = {}
        self._recorded: set[str] = set()
        """boots in which a supervisor has said that it is there"""

    def expect_notice(self, run: str, fault: str, *events: str) -> None:
        """From now on somebody should notice what was done to `run`."""
        self._noticing[run] = (fault, time.monotonic(), events)

    def expect_return(self, run: str, fault: str) -> None:
        """From now on `run` should train again, in another process than now."""
        heartbeat = self._heartbeat(run)
        pid = heartbeat.pid if heartbeat else None
        self._returning.setdefault(run, (fault, time.monotonic(), pid))

    def expect_no_notice(self) -> None:
        """Whatever was to be noticed, nobody is there to do so."""
        self._noticing.clear()

    def expect_nothing(self) -> None:
        """The machine goes down now."""
        self.expect_no_notice()
        if self._question is not None:
            self._question.kill()
            self._question.communicate()
            self._question = None

    def look(self) -> None:
        """Check what must always hold.

        Raises:
            Broken: it does not.
        """
        self.looks += 1
        if self.machine.daemon_fell is not None:
            raise Broken(f"the supervisor fell, with {self.machine.daemon_fell}")
        self._read_log()
        self._check_mains()
        self._check_checkpoints()
        self._see_returns()
        self._check_state()

    def agrees(self) -> bool:
        """Whether exactly what is wanted trains."""
        memory, _ = Store(self.machine.home.state).peek()
        mains = {process.run: process.pid for process in self.machine.mains()}
        if memory is None or mains.keys() != set(memory.demanded):
            return False
        beats = [self._heartbeat(run) for run in mains]
        return all(
            beat is not None
            and (beat.status, beat.mode, beat.pid) == ("running", memory.goal.mode, mains[beat.run])
            for beat in beats
        )

    def _read_log(self) -> None:
        try:
            with self.machine.home.decisions.open("rb") as log:
                log.seek(self._log_bytes)
                raw = log.read()
        except FileNotFoundError:
            return
        whole = raw[: raw.rfind(b"\n") + 1]
        self._log_bytes += len(whole)
        for line in parse(whole.splitlines()):
            if line["seq"] != self._seq + 1:
                raise Broken(f"line {line['seq']} of the log follows line {self._seq}")
            self._seq = line["seq"]
            if line["event"] == "supervisor.started":
                self._recorded.add(line["boot"])
            if line["event"] == "slots.assigned":  # nobody waits for the others any more
                self._returning = {
                    run: told for run, told in self._returning.items() if run in line["runs"]
                }
            fault, since_s, events = self._noticing.get(line.get("run", ""), ("", 0.0, ()))
            if line["event"] in events:
                del self._noticing[line["run"]]
                self.detection_s[fault].append(time.monotonic() - since_s)

    def _check_mains(self) -> None:
        memory, _ = Store(self.machine.home.state).peek()
        mains = self.machine.mains()
        trouble = self._trouble(mains, memory)
        if trouble:
            # One may have gone while the other came: all of them must live still. And the state
            # may have been read a moment before the campaign was saved in it.
            memory, _ = Store(self.machine.home.state).peek()
            still = self.machine.mains()
            mains = [one for one in mains if one in still]
            trouble = self._trouble(mains, memory)
        if trouble:
            raise Broken(f"{trouble}: {mains}")
        self._check_goal(mains, memory)

    def _trouble(self, mains: list[Process], memory: Memory | None) -> str | None:
        runs = Counter(process.run for process in mains)
        if any(count > 1 for count in runs.values()):
            return "two trainers of one run live"
        if len({self._mode(run) for run in runs} - {None}) > 1:
            return "two modes train together"
        if memory and runs.keys() - {run.id for run in memory.runs}:
            return "a trainer lives of a run that is not in the campaign"
        return None

    def _check_goal(self, mains: list[Process], memory: Memory | None) -> None:
        """Whoever trains without being wanted is stopped, within its grace."""
        now_s, strays = time.monotonic(), set[str]()
        if memory and self.machine.daemon_lives:
            wanted = dict.fromkeys(memory.demanded, memory.goal.mode)
            strays = {one.run for one in mains if wanted.get(one.run) != self._mode(one.run)}
        self._stray_since_s = {run: self._stray_since_s.get(run, now_s) for run in strays}
        if any(now_s - since_s > STRAY_S for since_s in self._stray_since_s.values()):
            raise Broken(f"{strays} train without being wanted, and nobody stops them")

    def _check_checkpoints(self) -> None:
        for folder in self.machine.home.runs.glob("*/checkpoints"):
            run = folder.parent.name
            heartbeat = self._heartbeat(run)
            # One that is not told yet may not have reached the disk yet.
            told = (heartbeat.checkpoint_step if heartbeat else None) or 0
            self._durable[run] = max(told, self._durable.get(run, 0))
            newest = max((int(one.name) for one in folder.glob("[0-9]*")), default=0)
            if newest < self._durable[run]:
                raise Broken(f"{run}: checkpoint {self._durable[run]} is gone, {newest} is left")

    def _see_returns(self) -> None:
        for run, (fault, since_s, pid) in list(self._returning.items()):
            heartbeat = self._heartbeat(run)
            if heartbeat and heartbeat.pid != pid and heartbeat.stepping_at_s is not None:
                del self._returning[run]
                self.return_s[fault].append(time.monotonic() - since_s)

    def _check_state(self) -> None:
        """Ask `show-state` now and then, and compare its counts with what was done."""
        machine = self.machine
        if self._question is None:
            if time.monotonic() - self._asked_at_s >= ASK_S:
                self._asked_at_s = time.monotonic()
                self._question_about = (machine.boots, machine.crashes)
                self._recorded_then = machine.boot_id in self._recorded
                self._question = machine.ask("show-state", "--json")
            return
        if self._question.poll() is None:
            return
        answer, code = self._question.communicate()[0], self._question.returncode
        self._question = None
        if code != 0:
            raise Broken(f"show-state ended with {code}: {answer}")
        state = json.loads(answer)
        told = (state["boots_total"], state["crashes_total"])
        self.asked += 1
        settled = self._recorded_then and self._question_about == (machine.boots, machine.crashes)
        if settled and told != self._question_about:
            raise Broken(f"boots and crashes are {self._question_about}, and it says {told}")

    def _heartbeat(self, run: str) -> Heartbeat | None:
        return read_heartbeat(self.machine.home.run(run))

    def _mode(self, run: str) -> str | None:
        try:
            spec = json.loads(self.machine.home.run(run).spec.read_bytes())
        except (OSError, ValueError):
            return None
        mode: str = spec["mode"]
        return mode


# What is done to it


class Chaos:
    """Does to the machine what the seed says."""

    def __init__(self, machine: Machine, witness: Witness, seed: int, mean_s: float) -> None:
        self.machine = machine
        self.witness = witness
        self.done: Counter[str] = Counter()
        self._seed = seed
        self._mean_s = mean_s
        self._began_s = time.monotonic()
        self._count = 0
        self._later: list[tuple[float, Callable[[], None]]] = []
        self.chance = random.Random(seed)  # noqa: S311 - to be lived again, not to be secret
        self._faults: dict[str, tuple[int, Callable[[], str]]] = {
            "trainer killed": (5, self._kill_trainer),
            "worker killed": (1, self._kill_worker),
            "trainer frozen": (1, self._freeze_trainer),
            "daemon killed": (4, self._kill_daemon),
            "both killed": (2, self._kill_both),
            "reboot": (3, self._reboot),
            "shutdown": (1, self._shut_down),
            "request": (1, self._request),
        }
        if machine.disk:
            disk = machine.disk
            self._faults["power cut"] = (2, lambda: self._cut_power(disk))
            self._faults["full disk"] = (1, lambda: self._fill_disk(disk))
        if machine.clock:
            clock = machine.clock
            self._faults["clock step"] = (1, lambda: self._set_clock(clock))

    def live(self, seconds: float, faults: float) -> None:
        """Faults at random times, for so long or until there were so many.

        Raises:
            Broken: something that must hold did not.
        """
        end_s, due_s = self._began_s + seconds, self._next_s()
        with contextlib.suppress(KeyboardInterrupt):  # enough: the rest comes all the same
            while (now_s := time.monotonic()) < end_s and self._count < faults:
                self.witness.look()
                self._do_what_is_due()
                if now_s >= due_s:
                    self._strike()
                    due_s = self._next_s()
                time.sleep(LOOK_S)

    def calm_down(self) -> None:
        """No more faults: it must come back by itself, and then leave nobody.

        Raises:
            Broken: it does not.
        """
        self._say("no more faults: all that is wanted has to train again")
        self._free_disk()
        while self._later:
            self.witness.look()
            self._do_what_is_due()
            time.sleep(LOOK_S)
        if not self.machine.daemon_lives:
            self.machine.start()
        self._type("resume")
        self._await(self.witness.agrees, "what is wanted trains")
        self._say("it does; now the supervisor is asked to stop")
        self.machine.stop()
        self.witness.look()
        left = self.machine.processes()
        if left:
            raise Broken(f"left after the end: {left}")
        turns = make_again(read(self.machine.home.turns))
        if turns.first is not None or not turns.turns:
            raise Broken(f"turns come out otherwise: {turns}")
        self._say(f"{turns.turns} turns of thinking were made again, and came out as they had")

    def _next_s(self) -> float:
        return time.monotonic() + max(0.5, self.chance.expovariate(1 / self._mean_s))

    def _strike(self) -> None:
        self._count += 1
        # Each fault has its own chance, so that what one of them needed of it moves no other.
        self.chance = random.Random(f"{self._seed}/{self._count}")  # noqa: S311 - as above
        weights = [weight for weight, _ in self._faults.values()]
        (name,) = self.chance.choices(list(self._faults), weights)
        what = self._faults[name][1]()
        self.done[name] += 1
        self._say(f"{name}: {what}")

    def _do_what_is_due(self) -> None:
        for due_s, act in list(self._later):
            if time.monotonic() >= due_s:
                self._later.remove((due_s, act))
                act()

    def _in(self, seconds: float, act: Callable[[], None]) -> None:
        self._later.append((time.monotonic() + seconds, act))

    def _await(self, condition: Callable[[], bool], what: str) -> None:
        """Look on until it is so.

        Raises:
            Broken: it never is.
        """
        deadline_s = time.monotonic() + PATIENCE_S
        while not condition():
            if time.monotonic() > deadline_s:
                raise Broken(f"still not true: {what}\n{self.machine.told()}")
            self.witness.look()
            time.sleep(LOOK_S)

    def _say(self, text: str) -> None:
        print(f"{time.monotonic() - self._began_s:8.1f} s  {text}", flush=True)

    # Faults. Each says what it did.

    def _kill_trainer(self) -> str:
        mains = self.machine.mains()
        if not mains:
            return "no trainer lived"
        victim = self.chance.choice(mains)
        self._expect_notice(victim.run, "trainer killed", *ENDS)
        self.witness.expect_return(victim.run, "trainer killed")
        _kill(victim)
        return f"{victim.run}, pid {victim.pid}"

    def _kill_worker(self) -> str:
        workers = sorted(one for one in self.machine.processes() if not one.trains)
        if not workers:
            return "no worker lived"
        victim = self.chance.choice(workers)
        _kill(victim)
        return f"of {victim.run}, pid {victim.pid}"

    def _freeze_trainer(self) -> str:
        mains = self.machine.mains()
        if not mains:
            return "no trainer lived"
        victim = self.chance.choice(mains)
        self._expect_notice(victim.run, "trainer frozen", "run.hung", *ENDS)
        self.witness.expect_return(victim.run, "trainer frozen")
        _kill(victim, signal.SIGSTOP)
        return f"{victim.run}, pid {victim.pid}"

    def _kill_daemon(self) -> str:
        if not self.machine.daemon_lives:
            return "no supervisor lived"
        away_s = self.chance.uniform(0.1, 3.0)
        self._lose_daemon(away_s)
        return f"it starts again in {away_s:.1f} s"

    def _kill_both(self) -> str:
        mains = self.machine.mains()
        if not self.machine.daemon_lives:
            return "no supervisor lived"
        away_s = self.chance.uniform(0.1, 3.0)
        self._lose_daemon(away_s)
        for victim in mains:
            self.witness.expect_return(victim.run, "both killed")
            _kill(victim)
        return f"with {', '.join(one.run for one in mains) or 'nobody'}; starts in {away_s:.1f} s"

    def _lose_daemon(self, away_s: float) -> None:
        self.machine.kill_daemon()
        self.witness.expect_no_notice()
        boot_id = self.machine.boot_id

        def start() -> None:
            if self.machine.boot_id == boot_id and not self.machine.daemon_lives:
                self.machine.start()

        self._in(away_s, start)

    def _reboot(self) -> str:
        self._prepare_for_the_end("reboot")
        self.machine.power_off()
        return self._come_up(crashed=True)

    def _cut_power(self, disk: Disk) -> str:
        self._prepare_for_the_end("power cut")
        disk.cut_power()
        self.machine.power_off()
        disk.come_back()
        return self._come_up(crashed=True)

    def _shut_down(self) -> str:
        if not self.machine.daemon_lives:
            return "no supervisor lived"
        self._prepare_for_the_end("shutdown")
        self.machine.go_down_orderly()
        left = self.machine.processes()
        if left:
            raise Broken(f"left after an orderly stop: {left}")
        return self._come_up(crashed=False)

    def _prepare_for_the_end(self, fault: str) -> None:
        self._free_disk()  # else the boot could not be noted
        self.witness.expect_nothing()
        for main in self.machine.mains():
            self.witness.expect_return(main.run, fault)

    def _come_up(self, *, crashed: bool) -> str:
        off_s = self.chance.uniform(0.5, 3.0)
        time.sleep(off_s)  # the machine is off: there is nothing to look at
        self.machine.power_on(crashed=crashed)
        return f"off for {off_s:.1f} s, boot {self.machine.boots}"

    def _expect_notice(self, run: str, fault: str, *events: str) -> None:
        full = self.machine.disk and self.machine.disk.full
        if self.machine.daemon_lives and not full:  # else nobody is there, or the log waits
            self.witness.expect_notice(run, fault, *events)

    def _fill_disk(self, disk: Disk) -> str:
        full_s = self.chance.uniform(2.0, 8.0)
        self.witness.expect_no_notice()
        disk.fill()
        self._in(full_s, self._free_disk)
        return f"for {full_s:.1f} s"

    def _free_disk(self) -> None:
        if self.machine.disk and self.machine.disk.full:
            self.machine.disk.free()
            self._say("the disk has room again")

    def _set_clock(self, clock: FalseClock) -> str:
        if not self.machine.daemon_lives or (self.machine.disk and self.machine.disk.full):
            return "no supervisor lived, or it could not write"
        days = self.chance.choice((-14, -1, 1, 30, -20_000))
        for step_s in (days * 86_400, 0):
            clock.set(step_s)
            # How long a machine was down, only its wall clock can tell. One that is set just
            # before a crash, unseen, tells a lie of up to a day, which would drown all figures.
            self._await(functools.partial(self._sees_clock, step_s), "the new time is seen")
        return f"by {days} days, and back again"

    def _sees_clock(self, step_s: int) -> bool:
        """Whether the supervisor has looked since the clock was set."""
        memory, _ = Store(self.machine.home.state).peek()
        now = time.time() + step_s  # noqa: TID251 - what the false clock shows
        return memory is not None and abs(memory.timeline.seen_at - now) < 3600

    def _request(self) -> str:
        request = self.chance.choice(("force-scale-up", "force-scale-down", "pause"))
        self._type(request)
        if request == "pause":
            self._in(self.chance.uniform(1.0, 4.0), lambda: self._type("resume"))
        return request

    def _type(self, command: str) -> None:
        asked = self.machine.ask(command)
        self._await(lambda: asked.poll() is not None, f"`{command}` is answered")
        self._say(f"{command}: {asked.communicate()[0].strip()}")


def _kill(process: Process, number: signal.Signals = signal.SIGKILL) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(process.pid, number)


def _do(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)


def _fails(*command: str) -> bool:
    return subprocess.run(command, check=False, capture_output=True).returncode != 0


def _until(condition: Callable[[], bool], what: str) -> None:
    """Wait for what nothing can announce.

    Raises:
        Broken: it never comes.
    """
    deadline_s = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > deadline_s:
            raise Broken(f"still not true: {what}")
        time.sleep(LOOK_S)


def _spread(times_s: dict[str, list[float]]) -> str:
    return "; ".join(
        f"{fault} {statistics.median(known):.2f} s (at most {max(known):.2f} s, {len(known)} times)"
        for fault, known in sorted(times_s.items())
    )


def _campaign(place: Path, options: argparse.Namespace, *, rooted: bool) -> int:
    machine = Machine(place, options.trainer, rooted=rooted)
    for what in machine.left_out:
        print(f"LEFT OUT: {what}", flush=True)
    witness = Witness(machine)
    chaos = Chaos(machine, witness, options.seed, options.mean_between_s)
    try:
        if options.faults is None:
            chaos.live(options.minutes * 60, math.inf)
        else:
            chaos.live(math.inf, options.faults)
        chaos.calm_down()
        measured = msgspec.json.decode(
            machine.ask("goodput", "--json").communicate()[0], type=Goodput
        )
    except Broken as broken:
        options.keep = options.keep or Path(tempfile.mkdtemp(prefix="chaos-broken-"))
        print(f"BROKEN: {broken}\n\nlive it again with:\n  {_again(options)}")
        return 1
    finally:
        machine.power_off()
        if options.keep:
            kept = options.keep / f"seed-{options.seed}-{os.urandom(2).hex()}"
            shutil.copytree(machine.home.path, kept, symlinks=True)
            print(f"the home is kept in {kept}")
    print(f"\n{sum(chaos.done.values())} faults: ", end="")
    print(", ".join(f"{count} {name}" for name, count in sorted(chaos.done.items())))
    print(f"all that must hold did, in {witness.looks} looks and {witness.asked} answers")
    print(f"noticed after: {_spread(witness.detection_s)}")
    print(f"new steps after: {_spread(witness.return_s)}\n")
    print(screen.goodput(measured))
    return 0


def _again(options: argparse.Namespace) -> str:
    command = ".venv/bin/python benchmarks/chaos.py"
    faults = "" if options.faults is None else f"--faults {options.faults} "
    return (
        f"{command} --trainer {options.trainer} --minutes {options.minutes:g} {faults}"
        f"--seed {options.seed} --mean-between-s {options.mean_between_s:g}"
    )


def main() -> int:
    """Live one campaign; the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--faults", type=int, help="so many, however long they take")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--mean-between-s", type=float, default=20.0, help="between two faults")
    parser.add_argument("--trainer", choices=sorted(RUNS), default="atari")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep the home in there")
    options = parser.parse_args()
    spaces = ["unshare", "--mount", "--propagation", "private", "--pid", "--fork"]
    spaces += ["--kill-child=KILL", "--mount-proc"]
    if os.getpid() != 1 and os.geteuid() == 0 and not _fails(*spaces, "unshare", "-T", "true"):
        os.execvp(spaces[0], [*spaces, sys.executable, *sys.argv])  # noqa: S606 - no shell needed
    rooted = os.getpid() == 1
    with tempfile.TemporaryDirectory(prefix="chaos-") as place:
        if rooted:  # in memory, which ends with the namespace
            _do("mount", "-t", "tmpfs", "chaos", place)
        try:
            return _campaign(Path(place), options, rooted=rooted)
        finally:
            if rooted:
                _do("umount", "--lazy", place)


if __name__ == "__main__":
    sys.exit(main())
