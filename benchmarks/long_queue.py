#!/usr/bin/env python3
"""What a long queue costs: processor time of a look, a start, a report and a stop, by its length.

    python benchmarks/long_queue.py                     50, 5,000 and 20,000 runs, some minutes
    python benchmarks/long_queue.py 100000 --json       as many as you like, for machines

The real daemon, in this process, on a made-up home in the folder for temporary files. Each number
of runs twice: all of them wait; and nine of ten have reached their target, each with its last
heartbeat, and have left the queue. As many drills train as `light` has slots. Medians of looks.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from state.store import Store  # noqa: E402
from supervisor.config import Config  # noqa: E402
from supervisor.core import history  # noqa: E402
from supervisor.daemon import Daemon  # noqa: E402
from supervisor.host.clock import SystemClock, pause  # noqa: E402
from supervisor.host.gpu import Gpus  # noqa: E402
from supervisor.host.home import Home  # noqa: E402
from supervisor.host.sensors import Sensors  # noqa: E402
from supervisor.report import report  # noqa: E402
from supervisor.runners.local import LocalRunner  # noqa: E402
from supervisor.stop import stop  # noqa: E402
from testkit.builders import a_heartbeat  # noqa: E402
from testkit.place import a_daemon  # noqa: E402
from trainers.contract import Mark  # noqa: E402

STEPS = 1_000_000
SETTINGS = """\
[campaign]
trainer = "drill"
target = {{ steps = {steps} }}
options = {{steps_per_s = 50}}
runs = [{runs}]
"""
COUNTS = (50, 5_000, 20_000)
LOOKS = 9
PAUSE_S = 0.15
"""between two looks: a real one has more, and what is measured is the processor's time"""


def make_home(home: Home, runs: int, ended: int) -> None:
    """A home in which so many of the runs are done."""
    home.make()
    names = ", ".join(f'"R{number}"' for number in range(runs))
    home.settings.write_text(SETTINGS.format(steps=STEPS, runs=names), encoding="utf-8")
    config, moment = Config(home.settings), SystemClock().read()
    queued = list(config.campaign)
    there = Mark(step=STEPS, trained_s=1.0)
    for place, run in enumerate(queued[:ended]):
        queued[place] = run.but(status="done", step=STEPS, booked=there)
        said = a_heartbeat(run=run.id, status="done", step=STEPS, saved=there)
        folder = home.run(run.id)
        folder.path.mkdir()
        folder.heartbeat.write_bytes(msgspec.json.encode(said))
    Store(home.state).save(history.first_day(moment, config.ladder, tuple(queued)))


def took_s(act: Callable[[], object]) -> float:
    """Processor time of this process while it does that, in seconds."""
    began_s = time.process_time()
    act()
    return time.process_time() - began_s


def measure(runs: int, ended: int, place: Path) -> dict[str, float]:
    """What a queue of `runs` runs costs, of which `ended` have ended, in ms of the processor."""
    home, clock, gpus = Home(place), SystemClock(), Gpus()
    make_home(home, runs, ended)
    runner = LocalRunner(home.runs, clock.read().boot_id)
    daemons: list[Daemon] = []

    def start() -> None:
        sensors = Sensors(home.path, gpus)
        daemon = a_daemon(home, clock, runner, sensors=sensors, power=gpus)
        daemon.start()
        daemon.tick("start")
        daemons.append(daemon)

    try:
        start()
        while any(run.status == "done" for run in daemons[-1].memory.runs):
            daemons[-1].tick("time")
        start_s = took_s(start)
        daemon = daemons[-1]
        looks_s: list[float] = []
        for _ in range(LOOKS):
            pause(PAUSE_S)
            looks_s.append(took_s(lambda: daemon.tick("time")))
        rules = Config(home.settings).rules
        stop_s = took_s(lambda: stop(home, clock, rules))
    finally:
        runner.end_all()
        runner.close()
        gpus.close()
    told_s = took_s(lambda: report(home, Config(home.settings), clock.read()))
    return {
        "runs": runs,
        "ended": ended,
        "look_ms": round(1000 * statistics.median(looks_s[2:]), 1),
        "start_ms": round(1000 * start_s, 1),
        "stop_ms": round(1000 * stop_s, 1),
        "report_ms": round(1000 * told_s, 1),
        "state_kib": round(home.state.stat().st_size / 1024, 1),
    }


def main() -> int:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("runs", type=int, nargs="*", default=COUNTS, metavar="RUNS")
    parser.add_argument("--json", action="store_true", help="for machines")
    options = parser.parse_args()
    rows = []
    for runs in options.runs:
        for ended in (0, runs * 9 // 10):
            with tempfile.TemporaryDirectory() as place:
                rows.append(measure(runs, ended, Path(place) / "home"))
    if options.json:
        print(json.dumps(rows))
        return 0
    for row in rows[:1]:
        print(" ".join(f"{name:>10}" for name in row))
    for row in rows:
        print(" ".join(f"{value:>10,}" for value in row.values()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
