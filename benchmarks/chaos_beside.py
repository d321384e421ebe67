"""What is left of a training through faults: ours, beside what people would use instead.

    .venv/bin/python benchmarks/chaos.py --beside
    .venv/bin/python benchmarks/chaos.py --beside --only ours,shell --for-s 240 --mean-s 40

The same faults, ten of them unless told otherwise, from one seed, on the same two cores, one
contestant after the other. What each is, a person sets up in an afternoon; it lies in
benchmarks/instead, to be read:

    ours         `supervisor run`, which trains CartPole by PPO with its trainer `sb3`
    shell        the same by Stable-Baselines3, with its CheckpointCallback, in a loop of the shell
    supervisord  the same program under supervisord
    circus       the same program under circus
    systemd      the same program as a service with Restart=always, on a machine that really boots
    torchrun     a plain loop of torch under torchrun, with 100 restarts

Stock saves each 90 s, ours as often as it thinks right. Each goes on from its newest checkpoint.
Whoever restarts is itself started again 5 s after it was killed, by something that leaves its
children alone, as lines in a crontab and Debian's unit of supervisord do; and at each boot.

First each trains undisturbed for a while. Then its trainer is killed or frozen, who restarts it is
killed, the power is cut while a checkpoint is half written, and the disk is full. Last, two runs
are to be trained on a machine that falls 20 to 60 s after both train at once, and never else; it is
down for a minute then. Ours begins with both there, too, and falls back once its policy has seen
enough: 3 crashes are forgiven, so this wants ten minutes.

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
import shutil
import signal
import subprocess
import sys
import tempfile
import uuid
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import chaos_machine
import peers
from chaos_boxes import CONTESTANTS, DISK_MIB, Booted, Box, Fault

from testkit.patience import NeverTrue

if TYPE_CHECKING:
    from testkit.boot_lab import Lab as BootLab

SAVE_S = 90.0
"""between two checkpoints of stock"""
PATIENCE_S = 120.0
"""for the first steps"""
LASTS_S = (3.0, 20.0)
"""how long a machine is off, or a disk full"""
CALM_S = 30.0
"""at both ends, without a fault: who was killed last is back before it is asked to stop"""
FALLS_S = (20.0, 60.0)
"""for how long the machine bears two trainers at once"""
OFF_S = 60.0
"""how long it is down then, as long as many machines take to boot"""
GOODPUT, GOODPUT_MEAN_S = 0.97, 600.0
"""what ours is to reach, and between which faults"""
FAULTS = {
    "trainer killed": 5,
    "trainer frozen": 1,
    "restarter killed": 2,
    "power cut": 1,
    "full disk": 1,
}
"""and how many of ten each is"""


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
        """All that is measured of one.

        Raises:
            NeverTrue: it does not train.
        """
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
        """Steps a second, from when the first were seen until others are after that time.

        Raises:
            NeverTrue: there are none.
        """
        with self._box(name, ["one"], 10**9) as box:
            (run,) = box.onlooker.runs.values()
            seen: list[tuple[int, float]] = []
            """steps and when, each time that there were more"""
            for age_s, _ in box.watch(2 * PATIENCE_S + self._options.undisturbed_s):
                if run.trained == (seen[-1][0] if seen else 0):
                    continue
                seen.append((run.trained, age_s))
                (first, first_s), (last, last_s) = seen[0], seen[-1]
                if last > first and last_s - first_s >= self._options.undisturbed_s:
                    speed = (last - first) / (last_s - first_s)
                    _say(f"{name}: {speed:.0f} steps a second undisturbed")
                    return speed
            raise NeverTrue(f"{name} trains, undisturbed", box.told())

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
                    box.fall(OFF_S)
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
    """What happens to everybody, and when: ten at a time are dealt like cards."""
    chance = random.Random(seed)  # noqa: S311 - to be lived again, not to be secret
    count = round(for_s / mean_s)
    names: list[str] = []
    while len(names) < count:
        names += chance.sample(list(FAULTS), sum(FAULTS.values()), counts=FAULTS.values())
    times_s = sorted(chance.uniform(CALM_S, for_s - CALM_S) for _ in range(count))
    return [
        Fault(at_s, name, chance.uniform(*LASTS_S))
        for at_s, name in zip(times_s, names, strict=False)
    ]


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
    """Measure the chosen ones one after the other, and print a table; the exit code."""
    parser = argparse.ArgumentParser(
        prog="chaos.py --beside", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--only", metavar="A,B", help=f"of {', '.join(CONTESTANTS)}; default: all")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--for-s", type=float, default=6000.0, help="of each, through faults")
    parser.add_argument("--mean-s", type=float, default=600.0, help="between two faults")
    parser.add_argument("--undisturbed-s", type=float, default=180.0, help="of each, before")
    parser.add_argument("--load-s", type=float, default=1200.0, help="of each, after")
    parser.add_argument("--json", action="store_true", help="for machines")
    options = parser.parse_args(arguments)
    names = options.only.split(",") if options.only else list(CONTESTANTS)
    if strangers := set(names) - CONTESTANTS.keys():
        parser.error(f"no such contestant: {', '.join(sorted(strangers))}")
    if options.for_s < 3 * CALM_S:
        parser.error(f"--for-s: {3 * CALM_S:.0f} at least, of which both ends are without a fault")
    if importlib.util.find_spec("stable_baselines3") is None:
        parser.error("Stable-Baselines3 is not installed: `pip install -e .[sb3]` brings it")
    rooted = chaos_machine.apart()
    if not rooted:
        _say("LEFT OUT: full disk, uptime that begins with each boot: they need root")
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # tidies up, as Ctrl-C does
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:2])
    _say(f"this machine has a load of {os.getloadavg()[0]:.1f} as it begins")
    rows: dict[str, Row] = {}
    code = 0
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
                        with _left_out(name):
                            rows[name] = turns.turn(name)
        except KeyboardInterrupt:
            _say("ended before its time; what was measured until then:")
            code = 130  # as shells tell of Ctrl-C
        finally:
            if rooted:
                subprocess.run(["umount", "--lazy", place], check=True)
    _tell(rows, options)
    return code


@contextlib.contextmanager
def _left_out(name: str) -> Iterator[None]:
    """Whoever does not train is left out, and the others are measured."""
    try:
        yield
    except NeverTrue as why:
        _say(f"NOT MEASURED: {name}; {why}")


def _tell(rows: dict[str, Row], options: argparse.Namespace) -> None:
    if options.json:
        print(json.dumps({name: dataclasses.asdict(row) for name, row in rows.items()}, indent=1))
    else:
        print(table(rows))
        if "ours" in rows and options.mean_s >= GOODPUT_MEAN_S:
            told = "reached" if rows["ours"].goodput >= GOODPUT else "MISSED"
            print(f"{told}: a goodput of {GOODPUT} at a fault each {options.mean_s:.0f} s")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
