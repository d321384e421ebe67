#!/usr/bin/env python3
"""What it costs a program to be supervised: the same program alone, and under `command`, in turn.

    python benchmarks/wrapper.py                     five turns of 20 s each way, four minutes
    python benchmarks/wrapper.py --turns 2 --seconds 5
    python benchmarks/wrapper.py --json              the same for machines

The program calculates all the time, prints a line each half second and saves a megabyte each five
seconds, as a small training does. Alone, it is run as from a shell, into a file. Supervised, it is
what a trainer `command` runs, whose process is looked at: the processor time that it takes, and its
memory. `resident` counts what it shares with every other Python of the machine, such as the daemon;
`own` counts that by shares (PSS). The program itself says how much it has calculated.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from testkit.processes import PROC
from trainers.contract import Spec

LIMITS = {"processor": 0.005, "resident_mb": 25.0}
"""what we set out to stay below: of a core, and in MB"""
SETTLE_S = 3.0
"""after which a start is over"""
PROGRAM = """
import os, time
began = printed = saved = time.monotonic()
rounds = 0
while True:
    sum(range(20000))
    rounds += 1
    now = time.monotonic()
    if now - printed >= 0.5:
        printed = now
        print(f"step {rounds} loss {1 / rounds:.6f}", flush=True)
    if now - saved >= 5:
        saved = now
        with open("ckpt-%d.bin" % rounds, "wb") as file:
            file.write(os.urandom(1_000_000))
"""


class Turn(NamedTuple):
    """What one turn has shown."""

    rounds_per_s: float
    """how quickly the program calculates"""
    processor: float = 0.0
    """the share of a core that the trainer takes beside it"""
    resident_mb: float = 0.0
    own_mb: float = 0.0


def main() -> int:
    """Take turns and print what came of them; the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=20.0, help="of each turn, each way")
    parser.add_argument("--json", action="store_true", help="for machines")
    options = parser.parse_args()
    alone, beside = [], []
    for _ in range(options.turns):
        with tempfile.TemporaryDirectory() as place:
            alone.append(_alone(Path(place), options.seconds))
        with tempfile.TemporaryDirectory() as place:
            beside.append(_supervised(Path(place), options.seconds))
    if options.json:
        print(json.dumps({name: [turn._asdict() for turn in turns] for name, turns in
                          (("alone", alone), ("supervised", beside))}))  # fmt: skip
        return 0
    print(f"{options.turns} turns of {options.seconds:g} s each way; median (least to most)")
    ratios = [
        there.rounds_per_s / here.rounds_per_s for here, there in zip(alone, beside, strict=True)
    ]
    print(f"speed beside alone     {_spread(ratios)} times")
    print(
        f"processor              {_spread([100 * turn.processor for turn in beside])} % of a core"
    )
    print(f"memory, resident       {_spread([turn.resident_mb for turn in beside])} MB")
    print(f"memory, own            {_spread([turn.own_mb for turn in beside])} MB")
    return 0


def _alone(place: Path, seconds: float) -> Turn:
    with (place / "output.log").open("wb") as output:
        program = subprocess.Popen([sys.executable, "-c", PROGRAM], cwd=place, stdout=output)
    time.sleep(SETTLE_S)
    before = _rounds(place / "output.log")
    time.sleep(seconds)
    after = _rounds(place / "output.log")
    program.kill()
    program.wait()
    return Turn((after - before) / seconds)


def _supervised(place: Path, seconds: float) -> Turn:
    run = place / "runs/command-program"
    (run / "work").mkdir(parents=True)
    options = {
        "command": [sys.executable, "-c", PROGRAM.replace("{", "{{").replace("}", "}}")],
        "checkpoints": "ckpt-*.bin",
        "progress": {"pattern": r"step (?P<step>\d+) loss (?P<loss>[\d.]+)", "score": "loss"},
    }
    spec = Spec(
        run=run.name, trainer="command", name="program", mode="light", threads=1, options=options
    )
    import msgspec  # noqa: PLC0415 - a library of ours, found from here on

    (run / "spec.json").write_bytes(msgspec.json.encode(spec))
    trainer = [sys.executable, "-m", "trainers", "command", "--run", str(run)]
    with (run / "output.log").open("wb") as output:
        process = subprocess.Popen(
            trainer, stdout=output, stderr=output, cwd=Path(__file__).parents[1]
        )
    time.sleep(SETTLE_S)
    before, took_s, began_s = _rounds(run / "output.log"), _took_s(process.pid), time.monotonic()
    time.sleep(seconds)
    after, wall_s = _rounds(run / "output.log"), time.monotonic() - began_s
    processor = (_took_s(process.pid) - took_s) / wall_s
    resident_mb, own_mb = _memory_mb(process.pid)
    process.send_signal(signal.SIGTERM)
    process.wait()
    return Turn((after - before) / seconds, processor, resident_mb, own_mb)


def _rounds(output: Path) -> int:
    """The newest number of rounds that the program has told."""
    lines = [line for line in output.read_text().splitlines() if line.startswith("step ")]
    return int(lines[-1].split()[1])


def _took_s(pid: int) -> float:
    """Processor time of one process, without its children."""
    fields = (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _memory_mb(pid: int) -> tuple[float, float]:
    """What is resident of a process, and its share of it."""
    lines = (PROC / str(pid) / "smaps_rollup").read_text().splitlines()[1:]
    known = {line.split(":")[0]: int(line.split()[1]) for line in lines}
    return known["Rss"] * 1024 / 1e6, known["Pss"] * 1024 / 1e6


def _spread(values: list[float]) -> str:
    return f"{statistics.median(values):8.3f} ({min(values):.3f} to {max(values):.3f})"


if __name__ == "__main__":
    sys.exit(main())
