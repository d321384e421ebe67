#!/usr/bin/env python3
"""What it costs the supervisor to sample the machine, in turn with and without it.

    python benchmarks/samples.py                      three turns, some twenty minutes
    python benchmarks/samples.py --turns 1 --json

Of each turn, while three drills train and nothing happens: memory of the supervisor, its processor
time and its wake-ups. Beside that what one sample takes, what a day takes on the disk, and what a
process of its own would hold only to be there.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(HERE))

from beside import SETTLE_S, Supervisor  # noqa: E402 - after the path is set

from state.samples import DAY_S, RUNS_LEAST, slot_bytes  # noqa: E402
from supervisor.core.settings import Samples  # noqa: E402
from supervisor.host.clock import SystemClock  # noqa: E402
from supervisor.host.gpu import Gpus  # noqa: E402
from supervisor.host.home import Home  # noqa: E402
from supervisor.sampler import Sampler  # noqa: E402
from testkit.builders import a_ladder, a_run  # noqa: E402
from testkit.fakes import FakeClock  # noqa: E402
from testkit.patience import until  # noqa: E402

WATCHED_S = 120.0
SAMPLES = 500
NAMES = ("R0", "R1", "R2")
ALONE = """\
import sys
sys.path.insert(0, sys.argv[1])
import supervisor.sampler
status = open("/proc/self/status").read()
print(next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS")))
"""


def supervised(*, sampled: bool) -> dict[str, float]:
    """What the supervisor costs with it, or without."""
    with tempfile.TemporaryDirectory() as place:
        home = Path(place) / "home"
        settings = "" if sampled else "\n[samples]\nenabled = false\n"
        one = Supervisor(HERE, home, NAMES, "drill", settings)
        try:
            until(lambda: one.heartbeat(NAMES[0]).get("status") == "running")
            time.sleep(SETTLE_S)
            used_s, woken = one.used_s(), one.status("voluntary_ctxt_switches")
            time.sleep(WATCHED_S)
            return {
                "memory_mib": one.status("VmRSS") / 1024,
                f"cpu_ms_in_{WATCHED_S:.0f}_s": 1000 * (one.used_s() - used_s),
                f"wake_ups_in_{WATCHED_S:.0f}_s": float(
                    one.status("voluntary_ctxt_switches") - woken
                ),
            }
        finally:
            one.stop(one.daemons[-1])


class _Always(FakeClock):
    """A clock by which a sample is always due."""

    def read(self):  # noqa: ANN202 - as that of the other
        self.advance(15.0)
        return super().read()


def one_sample() -> dict[str, float]:
    """Processor time of a sample with four runs, and the part of a core that it comes to."""
    from supervisor.core import history  # noqa: PLC0415 - for this alone

    with tempfile.TemporaryDirectory() as place:
        home = Home(Path(place) / "home")
        home.make()
        runs = tuple(a_run(f"run-{number}", status="running") for number in range(4))
        memory = history.first_day(SystemClock().read(), a_ladder(), runs)
        sampler = Sampler(home, _Always(), Gpus())
        began_s = time.process_time()
        for _ in range(SAMPLES):
            sampler.tend(Samples(), memory)
        each_s = (time.process_time() - began_s) / SAMPLES
        sampler.close()
    return {
        "sample_cpu_ms": 1000 * each_s,
        "percent_of_a_core": 100 * each_s / Samples().training_s,
        "mb_a_day": slot_bytes(0, RUNS_LEAST) * DAY_S / Samples().training_s / 1e6,
        "mb_a_day_with_a_gpu": slot_bytes(1, RUNS_LEAST) * DAY_S / Samples().training_s / 1e6,
    }


def alone() -> float:
    """Memory of a process that holds nothing but the sampler, in MiB."""
    asked = [sys.executable, "-c", ALONE, str(HERE)]
    told = subprocess.run(asked, capture_output=True, text=True, check=True, env=dict(os.environ))
    return int(told.stdout) / 1024


def main() -> int:
    """Measure in turn, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="for machines")
    options = parser.parse_args()
    found: dict[str, list[dict[str, float]]] = {"without": [], "with": []}
    for number in range(options.turns):
        for name in list(found)[:: 1 if number % 2 else -1]:  # who is first takes turns
            found[name].append(supervised(sampled=name == "with"))
    single = one_sample() | {"own_process_mib": alone()}
    if options.json:
        print(json.dumps(found | single))
        return 0
    print(f"{'':>22} {'without':>26} {'with':>26}")
    for figure in found["with"][0]:
        told = [
            f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"
            for values in ([one[figure] for one in turns] for turns in found.values())
        ]
        print(f"{figure:>22} {told[0]:>26} {told[1]:>26}")
    for figure, value in single.items():
        print(f"{figure:>22} {'':>26} {value:>26.4f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
