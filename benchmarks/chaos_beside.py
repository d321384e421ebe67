"""What is left of a training through faults: ours, beside what people would use instead.

    .venv/bin/python benchmarks/chaos.py --beside
    .venv/bin/python benchmarks/chaos.py --beside --only ours,shell --for-s 240 --mean-s 40

The same faults, from one seed, on the same two cores, one contestant after the other. What each is,
a person sets up in an afternoon; it lies in benchmarks/instead, to be read:

    ours         `supervisor run`, which trains CartPole by PPO with its trainer `sb3`
    shell        the same by Stable-Baselines3, with its CheckpointCallback, in a loop of the shell
    supervisord  the same program under supervisord
    circus       the same program under circus
    systemd      the same program as a service with Restart=always, on a machine that really boots
    torchrun     a plain loop of torch under torchrun, with 100 restarts

Stock saves each 90 s, ours as often as it thinks right. Each goes on from its newest checkpoint.
Whoever restarts is itself started again 5 s after it was killed, by something that leaves its
children alone, as lines in a crontab and most units of supervisord do; and at each boot.

First each trains undisturbed for a while. Then its trainer is killed or frozen, who restarts it is
killed, the power is cut while a checkpoint is half written, and the disk is full. Last, two runs
are to be trained on a machine that falls 20 to 60 s after both train at once, and never else.

What came of it is seen by chaos_onlooker.py, which believes no supervisor. As root, in namespaces
of its own that leave nobody behind whatever ends them; without, no disk is full, and uptime goes
on over boots. Peers are installed into a scratch folder, and left out loudly where that fails.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import importlib.util
import json
import os
import random
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import chaos_machine
import chaos_onlooker
import peers
from chaos_onlooker import Kind, Onlooker, Process

if TYPE_CHECKING:
    from testkit.boot_lab import Lab as BootLab

INSTEAD = Path(__file__).parent / "instead"
SAVE_S = 90.0
"""between two checkpoints of stock"""
BACK_S = 5.0
"""after which whoever restarts is started again"""
PATIENCE_S = 120.0
"""for the first steps"""
CALLED = Path("/srv/chaos")
"""the folder of what is trained, on a machine that really boots"""
GRACE_S = 30.0
"""for everything to end that was asked to"""
LOOK_S = 0.25
CALM_S = 15.0
"""at the end, without a fault: who was killed is back before it is asked to stop"""
DISK_MIB = 128
FALLS_S = (20.0, 60.0)
"""for how long the machine bears two trainers at once"""
GOODPUT = 0.97
"""what ours is to reach at one fault in ten minutes"""
FAULTS = {
    "trainer killed": 5,
    "trainer frozen": 1,
    "restarter killed": 2,
    "power cut": 1,
    "full disk": 1,
}
"""and how often each comes among ten"""


@dataclass(frozen=True)
class Fault:
    """Something that happens to a contestant."""

    at_s: float
    """since its turn has begun"""
    name: str
    lasts_s: float
    """how long the machine is off, or its disk full"""


@dataclass(frozen=True)
class Contestant:
    """What a person would set up."""

    kind: Kind
    command: str
    """what restarts; words in braces are known to `Box`"""
    peer: bool = False
    """it comes from its registry"""
    for_all: bool = False
    """one of it restarts all runs; else each run has one"""
    by_ctrl_c: bool = False
    """it is ended by Ctrl-C, else by SIGTERM"""


CONTESTANTS = {
    "ours": Contestant(
        chaos_onlooker.OURS,
        "{python} -P -m supervisor --home {place}/home run --plain",
        for_all=True,
    ),
    "shell": Contestant(chaos_onlooker.CARTPOLE, "sh {here}/loop.sh", by_ctrl_c=True),
    "supervisord": Contestant(
        chaos_onlooker.CARTPOLE,
        "{tools}/venv/bin/supervisord -c {here}/supervisord.conf",
        peer=True,
    ),
    "circus": Contestant(
        chaos_onlooker.CARTPOLE, "{tools}/venv/bin/circusd {here}/circus.ini", peer=True
    ),
    "systemd": Contestant(chaos_onlooker.CARTPOLE, "", for_all=True),
    "torchrun": Contestant(
        chaos_onlooker.TORCH_LOOP,
        "{python} -m torch.distributed.run --standalone --nproc-per-node 1 --max-restarts 100"
        " {here}/torch_loop.py {run}",
    ),
}


@dataclass
class Row:
    """What came of a contestant."""

    undisturbed_steps_per_s: float
    steps_per_s: float
    """kept, through the faults"""
    goodput: float
    """the share of what it would have made undisturbed"""
    lost_steps: int
    """trained and not kept"""
    lost_share: float
    """of what was trained"""
    standstill_s: float
    """the longest time without a new step"""
    left_over: int
    """processes that are there after the end"""
    double_s: float
    """how long two trainers of one run lived at once"""
    faults: dict[str, int]
    load_steps_per_s: float
    """kept of both runs together, on the machine that does not bear them"""
    load_falls: int
    """how often that machine fell"""
    load_training: int
    """how many of both trained at its end"""


class Box:
    """A machine of a contestant, which is switched off at the end of a `with`.

    Args:
        name: whose.
        place: an empty folder.
        tools: where peers are installed.
        runs: the names of what is to be trained.
        save_steps: after how many steps stock saves.
        rooted: it has namespaces of its own.
        called: what its processes call the folder, if not as it is called here.
    """

    def __init__(
        self,
        name: str,
        place: Path,
        tools: Path,
        runs: list[str],
        save_steps: int,
        *,
        rooted: bool,
        called: Path | None = None,
    ) -> None:
        self.contestant = CONTESTANTS[name]
        self.place = place
        self._tools = tools
        self._save_steps = save_steps
        self._rooted = rooted
        ours = self.contestant.kind is chaos_onlooker.OURS
        folders = {run: f"home/runs/sb3-{run}" if ours else run for run in runs}
        kind = self.contestant.kind
        self.onlooker = Onlooker(place, folders, kind, time.monotonic(), called)
        self._restarters: dict[str, subprocess.Popen[bytes]] = {}
        self._died_s: dict[str, float] = {}
        self._boot_at_s: float | None = None
        self._room_at_s: float | None = None
        self._boot_id = ""
        self._uptime_s = 0
        if ours:
            _settle(place / "home", runs)
        else:
            for folder in folders.values():
                (place / folder).mkdir()

    def __enter__(self) -> Box:
        self._boot()
        return self

    def __exit__(self, *_: object) -> None:
        self._sweep()

    def watch(self, for_s: float) -> Iterator[tuple[float, float]]:
        """Look on for so long; how long it has been, and how long since the look before."""
        began_s = before_s = time.monotonic()
        while (now_s := time.monotonic()) < began_s + for_s:
            self._mind(now_s)
            self.onlooker.look(now_s)
            yield now_s - began_s, now_s - before_s
            before_s = now_s
            time.sleep(LOOK_S)

    def strike(self, fault: Fault) -> bool:
        """Have it happen; whether it could."""
        (run,) = self.onlooker.runs.values()
        if self._boot_at_s is not None:
            return False
        if fault.name == "power cut":
            self.fall(fault.lasts_s)
            if newest := run.newest():
                _halve(newest)
        elif fault.name == "full disk":
            if not self._rooted:
                return False
            self._fill()
            self._room_at_s = time.monotonic() + fault.lasts_s
        else:
            frozen = fault.name == "trainer frozen"
            pids = self.restarters() if fault.name == "restarter killed" else run.trainers
            _send(pids, signal.SIGSTOP if frozen else signal.SIGKILL)
            return bool(pids)
        return True

    def fall(self, off_s: float) -> None:
        """Everything is gone at once; it boots again after so long."""
        self._free()
        self._sweep()
        self._boot_at_s = time.monotonic() + off_s

    def stop(self) -> int:
        """Have it stop as a person does; how many processes are there afterwards."""
        self._free()
        for restarter in self._restarters.values():
            if self.contestant.by_ctrl_c:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(restarter.pid, signal.SIGINT)
            else:
                restarter.terminate()
        deadline_s = time.monotonic() + GRACE_S
        while self.living() and time.monotonic() < deadline_s:
            time.sleep(LOOK_S)
        self.onlooker.look(time.monotonic())
        return len(self.living())

    def ask(self, command: str) -> None:
        """Type a command of ours, and do not wait for its end."""
        words = [sys.executable, "-P", "-m", "supervisor", "--home", f"{self.place}/home", command]
        self._start(words, self._environment())

    def restarters(self) -> list[int]:
        """The processes that restart, which live."""
        return [one.pid for one in self._restarters.values() if one.poll() is None]

    def living(self) -> list[Process]:
        """Everything that lives here."""
        for one in self._restarters.values():
            one.poll()
        return self.onlooker.living()

    def told(self) -> str:
        """The end of what was printed."""
        return (self.place / "screen.log").read_text(errors="replace")[-2000:]

    def _boot(self) -> None:
        self._boot_at_s = None
        self._boot_id = uuid.uuid4().hex
        self._uptime_s = int(time.clock_gettime(time.CLOCK_BOOTTIME))
        for name in ["all"] if self.contestant.for_all else self.onlooker.runs:
            self._begin(name)

    def _begin(self, name: str) -> None:
        run = self.place / name
        known = {"python": sys.executable, "here": INSTEAD, "tools": self._tools}
        known |= {"place": self.place, "run": run}
        words = shlex.split(self.contestant.command.format_map(known))
        self._restarters[name] = self._start(words, self._environment() | {"RUN": str(run)})

    def _environment(self) -> dict[str, str]:
        dropped = ("PYTHONDONTWRITEBYTECODE", "NOTIFY_SOCKET", "SUPERVISOR_HOME")
        return {key: value for key, value in os.environ.items() if key not in dropped} | {
            "CHAOS_PLACE": str(self.place),  # by which they are known
            "BOOT_ID": self._boot_id,
            "CUDA_VISIBLE_DEVICES": "",
            "PYTHON": sys.executable,
            "HERE": str(INSTEAD),
            "SAVE_STEPS": str(self._save_steps),
        }

    def _start(self, words: list[str], environment: dict[str, str]) -> subprocess.Popen[bytes]:
        with (self.place / "screen.log").open("ab") as screen:
            return subprocess.Popen(
                [*(chaos_machine.anew(self._uptime_s) if self._rooted else []), *words],
                env=environment,
                cwd=self.place,
                stdin=subprocess.DEVNULL,
                stdout=screen,
                stderr=screen,
                start_new_session=True,
            )

    def _mind(self, now_s: float) -> None:
        """Be what starts whoever restarts."""
        if self._room_at_s is not None and now_s >= self._room_at_s:
            self._free()
        if self._boot_at_s is not None:
            if now_s >= self._boot_at_s:
                self._boot()
            return
        for name, restarter in list(self._restarters.items()):
            if restarter.poll() is None:
                self._died_s.pop(name, None)
            elif now_s - self._died_s.setdefault(name, now_s) >= BACK_S:
                self._begin(name)

    def _sweep(self) -> None:
        """End everything at once."""
        while living := self.living():
            _send([one.pid for one in living], signal.SIGKILL)
            time.sleep(0.02)

    def _fill(self) -> None:
        room = os.statvfs(self.place)
        with (self.place / "filler").open("wb") as filler, contextlib.suppress(OSError):
            os.posix_fallocate(filler.fileno(), 0, room.f_bavail * room.f_frsize)

    def _free(self) -> None:
        self._room_at_s = None
        (self.place / "filler").unlink(missing_ok=True)


class Booted(Box):
    """A machine that really boots; its systemd restarts.

    Args:
        lab: where it stands.
        runs: the names of what is to be trained.
        save_steps: after how many steps stock saves.
    """

    def __init__(self, lab: BootLab, runs: list[str], save_steps: int) -> None:
        from testkit.boot_lab import PLACE  # noqa: PLC0415 - it needs the extra `dev`

        self._lab = lab
        self._machine = lab.machine()
        place = self._machine.disk / str(CALLED)[1:]
        place.mkdir()
        self._disk = f"/{place.relative_to(lab.root)}"
        options = ["-t", "tmpfs", "-o", f"size={DISK_MIB}m", "chaos", self._disk]
        subprocess.run(lab.inside("mount", *options), check=True)
        super().__init__("systemd", place, place, runs, save_steps, rooted=True, called=CALLED)
        shutil.copytree(INSTEAD, self._machine.disk / "srv/instead")
        known = f"PYTHON={PLACE}/.venv/bin/python\nHERE=/srv/instead\n"
        self._machine.write("/etc/train.env", f"{known}SAVE_STEPS={save_steps}\n")
        unit = "/etc/systemd/system/train@.service"
        self._machine.write(unit, (INSTEAD / "train@.service").read_text(encoding="utf-8"))
        wanted = self._machine.disk / "etc/systemd/system/multi-user.target.wants"
        wanted.mkdir(exist_ok=True)
        for run in runs:
            (wanted / f"train@{run}.service").symlink_to(unit)

    def stop(self) -> int:
        """Have it stop as a person does; how many processes are there afterwards."""
        self._free()
        self._machine.systemctl("stop", "train@*", check=False)
        self.onlooker.look(time.monotonic())
        return len(self.living())

    def told(self) -> str:
        """The end of what was printed."""
        return self._machine.story()

    def __exit__(self, *_: object) -> None:
        self._sweep()
        subprocess.run(self._lab.inside("umount", self._disk), check=True)
        self._machine.remove()

    def _boot(self) -> None:
        self._boot_at_s = None
        self._machine.power_on()

    def _sweep(self) -> None:
        if self._machine.is_on:
            self._machine.power_cut()


class Turns:
    """Where contestants take turns.

    Args:
        options: of the command line.
        place: an empty folder.
        tools: where peers are installed.
        rooted: it has namespaces of its own.
    """

    def __init__(
        self, options: argparse.Namespace, place: Path, tools: Path, *, rooted: bool
    ) -> None:
        self._options = options
        self._place = place
        self._tools = tools
        self._rooted = rooted
        self._boot_lab: BootLab | None = None

    def __enter__(self) -> Turns:
        return self

    def __exit__(self, *_: object) -> None:
        if self._boot_lab is not None:
            self._boot_lab.close()

    def prepare(self, name: str) -> bool:
        """Get what one needs; whether that could be done, else it is said."""
        if CONTESTANTS[name].peer:
            return peers.installed(name, self._tools)
        if name != "systemd":
            return True
        try:
            from testkit.boot_lab import Lab, NoLab  # noqa: PLC0415 - it needs the extra `dev`
        except ImportError as error:
            _say(f"NOT MEASURED: {name}; real boots need the extra `dev`: {error}")
            return False
        try:
            self._boot_lab = Lab(f"chaos-beside-{uuid.uuid4().hex}")
        except NoLab as why:
            _say(f"NOT MEASURED: {name}; nothing can be booted here: {why}")
        return self._boot_lab is not None

    def turn(self, name: str) -> Row:
        """All that is measured of one."""
        options = self._options
        speed = self._undisturbed(name)
        save_steps = max(1, round(SAVE_S * speed))
        faults = schedule(options.seed, options.for_s, options.mean_s)
        done: Counter[str] = Counter()
        with self._box(name, ["one"], save_steps) as box:
            for age_s, _ in box.watch(options.for_s):
                while faults and faults[0].at_s <= age_s:
                    fault = faults.pop(0)
                    if box.strike(fault):
                        done[fault.name] += 1
                    _say(f"{name}: {fault.name} at {age_s:.0f} s")
            left_over = box.stop()
            (run,) = box.onlooker.runs.values()
        load_steps_per_s, falls, training = self._under_load(name, save_steps)
        lost = max(0, run.trained - run.durable)
        return Row(
            undisturbed_steps_per_s=speed,
            steps_per_s=run.durable / options.for_s,
            goodput=run.durable / options.for_s / speed,
            lost_steps=lost,
            lost_share=lost / max(1, run.trained),
            standstill_s=run.standstill_s,
            left_over=left_over,
            double_s=run.double_s,
            faults=dict(done),
            load_steps_per_s=load_steps_per_s,
            load_falls=falls,
            load_training=training,
        )

    def _undisturbed(self, name: str) -> float:
        """Steps a second, between the first that are seen and the end."""
        with self._box(name, ["one"], 10**9) as box:
            (run,) = box.onlooker.runs.values()
            began: tuple[int, float] | None = None
            for age_s, _ in box.watch(PATIENCE_S + self._options.undisturbed_s):
                if began is None:
                    began = (run.trained, age_s) if run.trained else None
                elif age_s - began[1] >= self._options.undisturbed_s and run.trained > began[0]:
                    speed = (run.trained - began[0]) / (age_s - began[1])
                    _say(f"{name}: {speed:.0f} steps a second undisturbed")
                    return speed
            raise SystemExit(f"{name} does not train, even undisturbed:\n{box.told()}")

    def _under_load(self, name: str, save_steps: int) -> tuple[float, int, int]:
        """Steps kept a second, falls, and trainers at the end, where two are not borne."""
        chance = random.Random(f"{self._options.seed}/falls")  # noqa: S311 - to be lived again
        falls, heavy_s, borne_s = 0, 0.0, chance.uniform(*FALLS_S)
        asked = name != "ours"  # it begins with what the machine bears, all others with both
        with self._box(name, ["one", "two"], save_steps) as box:
            runs = box.onlooker.runs.values()
            for _, since_s in box.watch(self._options.load_s):
                training = sum(bool(run.trainers) for run in runs)
                if training and not asked:
                    box.ask("force-scale-up")
                    asked = True
                heavy_s += since_s if training == len(runs) else 0
                if heavy_s >= borne_s:
                    _say(f"{name}: the machine falls under its load")
                    box.fall(BACK_S)
                    falls, heavy_s, borne_s = falls + 1, 0.0, chance.uniform(*FALLS_S)
            training = sum(bool(run.trainers) for run in runs)
            box.stop()
            return sum(run.durable for run in runs) / self._options.load_s, falls, training

    @contextlib.contextmanager
    def _box(self, name: str, runs: list[str], save_steps: int) -> Iterator[Box]:
        if self._boot_lab is not None and name == "systemd":
            with Booted(self._boot_lab, runs, save_steps) as box:
                yield box
            return
        place = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=self._place))
        try:
            with Box(name, place, self._tools, runs, save_steps, rooted=self._rooted) as box:
                yield box
        finally:
            shutil.rmtree(place)


def schedule(seed: int, for_s: float, mean_s: float) -> list[Fault]:
    """What happens to everybody, and when."""
    chance = random.Random(seed)  # noqa: S311 - to be lived again, not to be secret
    faults, at_s = [], chance.expovariate(1 / mean_s)
    while at_s < for_s - CALM_S:
        (name,) = chance.choices(list(FAULTS), list(FAULTS.values()))
        faults.append(Fault(at_s, name, chance.uniform(3.0, 30.0)))
        at_s += chance.expovariate(1 / mean_s)
    return faults


def table(rows: dict[str, Row]) -> str:
    """The rows as text."""
    titles = ("steps/s", "undisturbed", "goodput", "lost", "standstill s", "left over", "double s")
    cells = [["", *titles, "under load: steps/s", "falls", "train"]]
    for name, row in rows.items():
        texts = [f"{row.steps_per_s:.0f}", f"{row.undisturbed_steps_per_s:.0f}"]
        texts += [f"{row.goodput:.3f}", f"{row.lost_steps} ({row.lost_share:.0%})"]
        texts += [f"{row.standstill_s:.0f}", str(row.left_over), f"{row.double_s:.0f}"]
        texts += [f"{row.load_steps_per_s:.0f}", str(row.load_falls), f"{row.load_training} of 2"]
        cells.append([name, *texts])
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join("  ".join(map(str.rjust, line, widths)) for line in cells)


def main(arguments: list[str]) -> int:
    """Measure the chosen ones one after the other, and print a table."""
    parser = argparse.ArgumentParser(
        prog="chaos.py --beside", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--only", metavar="A,B", help=f"of {', '.join(CONTESTANTS)}; default: all")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--for-s", type=float, default=3600.0, help="of each, through faults")
    parser.add_argument("--mean-s", type=float, default=600.0, help="between two faults")
    parser.add_argument("--undisturbed-s", type=float, default=180.0, help="of each, before")
    parser.add_argument("--load-s", type=float, default=600.0, help="of each, after")
    parser.add_argument("--json", action="store_true", help="for machines")
    options = parser.parse_args(arguments)
    names = options.only.split(",") if options.only else list(CONTESTANTS)
    if strangers := set(names) - CONTESTANTS.keys():
        parser.error(f"no such contestant: {', '.join(sorted(strangers))}")
    if importlib.util.find_spec("stable_baselines3") is None:
        parser.error("Stable-Baselines3 is not installed: `pip install -e .[sb3]` brings it")
    rooted = chaos_machine.apart()
    if not rooted:
        _say("LEFT OUT: full disk, uptime that begins with each boot: they need root")
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # tidies up, as Ctrl-C does
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:2])
    _say(f"this machine has a load of {os.getloadavg()[0]:.1f} as it begins")
    rows: dict[str, Row] = {}
    with (
        tempfile.TemporaryDirectory(prefix="chaos-tools-") as tools,
        tempfile.TemporaryDirectory(prefix="chaos-") as place,
    ):
        if rooted:  # in memory, which ends with the namespace
            size = f"size={DISK_MIB}m"
            subprocess.run(["mount", "-t", "tmpfs", "-o", size, "chaos", place], check=True)
        try:
            with Turns(options, Path(place), Path(tools), rooted=rooted) as turns:
                for name in names:
                    if turns.prepare(name):
                        rows[name] = turns.turn(name)
        except KeyboardInterrupt:
            _say("ended before its time; what was measured until then:")
        finally:
            if rooted:
                subprocess.run(["umount", "--lazy", place], check=True)
    if options.json:
        print(json.dumps({name: dataclasses.asdict(row) for name, row in rows.items()}, indent=1))
    else:
        print(table(rows))
    return 0


def _settle(home: Path, runs: list[str]) -> None:
    (home / "modes").mkdir(parents=True)
    for mode in ("light", "heavy")[: len(runs)]:  # nobody needs a second slot for one run
        shutil.copy(INSTEAD / f"modes/{mode}.toml", home / "modes")
    settings = (INSTEAD / "supervisor.toml").read_text(encoding="utf-8")
    settings = settings.replace('["one"]', json.dumps(runs))
    (home / "supervisor.toml").write_text(settings, encoding="utf-8")


def _halve(checkpoint: Path) -> None:
    """Leave half of it, or of its largest file."""
    files = list(checkpoint.iterdir()) if checkpoint.is_dir() else [checkpoint]
    largest = max(files, key=lambda path: path.stat().st_size)
    os.truncate(largest, largest.stat().st_size // 2)


def _send(pids: Iterable[int], number: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
