"""The policies in the simulator: what each keeps of what an oracle would keep.

Fifteen families of machines, 200 of each, 30 days each, eight policies; ours are the real decision
code. `bayes` alone needs numpy, and most of the time: it stands in `bayes.py`. The seed of this
benchmark is held out: no constant of any policy was ever chosen by looking at its worlds. Use
another one (1, 2, 3 ...) to try ideas.

    .venv/bin/python benchmarks/policy.py
    .venv/bin/python benchmarks/policy.py --hard
    .venv/bin/python benchmarks/policy.py --seed 1 --worlds 20
    .venv/bin/python benchmarks/policy.py --trace outages.csv
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

from supervisor.core.facts import StabilityLimits
from supervisor.errors import SupervisorError
from supervisor.simulation import table, traces
from supervisor.simulation.families import FAMILIES, HARD
from supervisor.simulation.life import Supervised, live
from supervisor.simulation.rivals import POLICIES, making_way
from supervisor.simulation.worlds import World
from trainers.attempt import limit_threads

limit_threads(1)  # each machine has a process: threads of numpy would but wait for each other

from bayes import Bayes, Machines, grid  # noqa: E402 - numpy reads it once

HELD_OUT, HARD_HELD_OUT = 20_262, 20_263
"""never used while a policy was tuned; of the hard kinds"""

BAYES = "bayes"
LIVES = 45
"""to tell what one takes"""


def main() -> None:
    """Print the table."""
    machines = Machines(grid())
    POLICIES[BAYES] = lambda world, _limits: making_way(world, Bayes(world, machines))
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--worlds", type=int, default=200, help="machines of each family (200)")
    kinds_of = parser.add_mutually_exclusive_group()
    kinds_of.add_argument("--hard", action="store_true", help="the kinds that are less kind")
    kinds_of.add_argument("--trace", type=Path, nargs="+", help="machines of real failures")
    parser.add_argument(
        "--policies", nargs="+", choices=POLICIES, default=[*POLICIES], help="to compare (all)"
    )
    parser.add_argument("--seed", type=int, help="of the machines (one that is held out)")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--json", type=Path, help="write the table there, too")
    options = parser.parse_args()

    def progress(done: int, total: int) -> None:
        if sys.stderr.isatty():
            end = "\n" if done == total else ""
            print(f"\r{done} of {total} machines", end=end, file=sys.stderr, flush=True)

    begun_s = time.perf_counter()
    kinds, held_out = (HARD, HARD_HELD_OUT) if options.hard else (FAMILIES, HELD_OUT)
    seed = held_out if options.seed is None else options.seed
    try:
        known = [trace for path in options.trace or () for trace in traces.read(path)]
        worlds = (
            traces.worlds(known, seed) if known else table.families(seed, options.worlds, kinds)
        )
    except SupervisorError as error:
        parser.error(str(error))
    compared = table.compare(
        worlds,
        policies=options.policies,
        processes=options.processes,
        progress=progress,
    )
    print(table.text(compared))
    print(f"\nseed {seed}, {time.perf_counter() - begun_s:.0f} s")
    print(
        f"one life with ledger: {_life_ms(worlds[:: len(worlds) // LIVES or 1]):.0f} ms of a core"
    )
    if options.json:
        options.json.write_bytes(msgspec.json.format(msgspec.json.encode(compared), indent=2))


def _life_ms(worlds: Sequence[World]) -> float:
    """Processor time of one life, on average; the best of three rounds."""
    rounds_s = []
    for _ in range(3):
        begun_s = time.process_time()
        for world in worlds:
            live(world, Supervised(world, StabilityLimits()))
        rounds_s.append(time.process_time() - begun_s)
    return 1000 * min(rounds_s) / len(worlds)


if __name__ == "__main__":
    main()
