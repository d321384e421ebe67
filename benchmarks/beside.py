#!/usr/bin/env python3
"""What the supervisor itself costs, beside another checkout of it, in turn on one machine.

    git worktree add ../before v0.1.0
    python benchmarks/beside.py ../before                  three turns, some ten minutes
    python benchmarks/beside.py ../before --turns 1 --json

Both run with the Python that runs this, so one installation serves both. Drills train, which cost
next to nothing. Of each turn: memory of the supervisor, its processor time and wake-ups while
nothing happens; processor time of a look at a queue of 50 and of 5,000 runs that wait; how long
after `kill -9` a trainer speaks again; and how fast two games train in the mode light, over a
minute of whole cycles. Medians, their spread, and this checkout over the other.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(HERE))

from testkit.machine import Machine  # noqa: E402 - after the path is set
from testkit.patience import until  # noqa: E402

LOOK_S = 0.002
"""between two looks: how exact a restart is timed"""
IDLE_S = 30.0
SETTLE_S = 4.0
KILLS = 5
LOOKS = 30
GAMES = ("MsPacman", "Pong")
GAMES_S = 60.0
"""how long games are watched, from the first update of each on"""
# The old form of a target: whatever the other checkout is, it reads that.
SETTINGS = """\
[campaign]
trainer = "{trainer}"
target_steps = 1000000000
runs = [{runs}]
[campaign.options]
{options}
"""
OPTIONS = {"drill": "steps_per_s = 50", "atari": 'device = "cpu"'}


class Supervisor(Machine):
    """One that runs from a checkout, in a home of its own."""

    def __init__(
        self, checkout: Path, home: Path, names: Sequence[str], trainer: str, more: str = ""
    ) -> None:
        way_in = checkout / "training_supervisor.py"
        super().__init__(home, program=(sys.executable, "-P", str(way_in), "supervisor.cli"))
        runs = ", ".join(f'"{name}"' for name in names)
        self.configure(SETTINGS.format(trainer=trainer, runs=runs, options=OPTIONS[trainer]) + more)
        self._pid = self.launch(self.command("run")).pid

    def used_s(self) -> float:
        """Processor time up to now, as the scheduler counts it, in seconds."""
        return sum(
            int(task.read_text(encoding="utf-8").split()[0]) / 1e9
            for task in Path(f"/proc/{self._pid}/task").glob("*/schedstat")
        )

    def status(self, field: str) -> int:
        """A number of /proc/PID/status."""
        text = Path(f"/proc/{self._pid}/status").read_text(encoding="utf-8")
        (line,) = (line for line in text.splitlines() if line.startswith(f"{field}:"))
        return int(line.split()[1])


@contextlib.contextmanager
def running(checkout: Path, names: Sequence[str], trainer: str = "drill") -> Iterator[Supervisor]:
    """A supervisor whose first trainer makes steps."""
    first = names[0]
    with tempfile.TemporaryDirectory() as place:
        one = Supervisor(checkout, Path(place) / "home", names, trainer)
        try:
            until(lambda: one.heartbeat(first, trainer).get("status") == "running", look_s=LOOK_S)
            time.sleep(SETTLE_S)
            yield one
        finally:
            one.stop(one.daemons[-1])


def idle(checkout: Path) -> dict[str, float]:
    """What it costs while nothing happens, and how soon a killed trainer is back."""
    with running(checkout, _names(3)) as one:
        used_s, woken = one.used_s(), one.status("voluntary_ctxt_switches")
        time.sleep(IDLE_S)
        found = {
            "memory_mib": one.status("VmRSS") / 1024,
            f"cpu_ms_in_{IDLE_S:.0f}_s": 1000 * (one.used_s() - used_s),
            f"wake_ups_in_{IDLE_S:.0f}_s": float(one.status("voluntary_ctxt_switches") - woken),
        }
        back_s = []
        for _ in range(KILLS):
            pid = one.heartbeat("R0")["pid"]
            began_s = time.monotonic()
            os.kill(pid, signal.SIGKILL)
            until(
                lambda before=pid: one.heartbeat("R0").get("pid") not in (None, before),
                look_s=LOOK_S,
            )
            back_s.append(time.monotonic() - began_s)
            time.sleep(SETTLE_S)
    return {**found, "restart_ms": 1000 * statistics.median(back_s)}


def looks(checkout: Path, runs: int) -> float:
    """Processor time of one look at that many runs, in ms: each request causes one."""
    with running(checkout, _names(runs)) as one:
        used_s = one.used_s()
        for _ in range(LOOKS):
            one("unpin")  # refused: nothing is pinned, and nothing changes
        return 1000 * (one.used_s() - used_s) / LOOKS


def games(checkout: Path) -> float:
    """Steps a second of all games together, between the first and the last update in a minute."""
    with running(checkout, GAMES, "atari") as one:

        def updates(game: str) -> list[dict[str, Any]]:
            path = one.home / f"runs/atari-{game}/metrics.jsonl"
            lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
            return [json.loads(line) for line in lines]

        until(lambda: all(map(updates, GAMES)))
        time.sleep(GAMES_S)
        ends = [(told[0], told[-1]) for told in map(updates, GAMES)]
        return sum(
            (last["step"] - first["step"]) / (last["at"] - first["at"]) for first, last in ends
        )


def _names(runs: int) -> list[str]:
    return [f"R{number}" for number in range(runs)]


def turn(checkout: Path) -> dict[str, float]:
    """All figures of a checkout, once."""
    cost = idle(checkout) | {f"look_{runs}_ms": looks(checkout, runs) for runs in (50, 5000)}
    return cost | {"games_steps_per_s": games(checkout)}


def main() -> int:
    """Measure both in turn, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("other", type=Path, help="the other checkout")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="for machines")
    options = parser.parse_args()
    checkouts = {"other": options.other.resolve(), "this": HERE}
    found: dict[str, list[dict[str, float]]] = {name: [] for name in checkouts}
    for number in range(options.turns):
        order = list(checkouts.items())[:: 1 if number % 2 else -1]  # who is first takes turns
        for name, checkout in order:
            found[name].append(turn(checkout))
    if options.json:
        print(json.dumps(found))
        return 0
    print(f"{'':>18} {'other':>22} {'this':>22} {'ratio':>7}")
    for figure in found["this"][0]:
        columns = {name: [one[figure] for one in turns] for name, turns in found.items()}
        medians = {name: statistics.median(values) for name, values in columns.items()}
        told = [
            f"{medians[name]:.2f} ({min(values):.2f} to {max(values):.2f})"
            for name, values in columns.items()
        ]
        ratio = medians["this"] / medians["other"] if medians["other"] else float("nan")
        print(f"{figure:>18} {told[0]:>22} {told[1]:>22} {ratio:>7.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
