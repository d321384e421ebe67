"""The policies in the simulator: what each keeps of what an oracle would keep.

Fifteen families of machines, 200 of each, 30 days each, seven policies, driving the real
decision code. The seed of this benchmark is held out: no constant of any policy was ever
chosen by looking at its worlds. Use another one (1, 2, 3 ...) to try ideas.

    .venv/bin/python benchmarks/policy.py
    .venv/bin/python benchmarks/policy.py --hard
    .venv/bin/python benchmarks/policy.py --seed 1 --worlds 20
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
from supervisor.simulation import table
from supervisor.simulation.families import FAMILIES, HARD
from supervisor.simulation.life import Supervised, live
from supervisor.simulation.worlds import World

HELD_OUT, HARD_HELD_OUT = 20_262, 20_263
"""never used while a policy was tuned; of the hard kinds"""

LIVES = 45
"""to tell what one takes"""


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--worlds", type=int, default=200, help="machines of each family (200)")
    parser.add_argument("--hard", action="store_true", help="the kinds that are less kind")
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
    worlds = table.families(seed, options.worlds, kinds)
    compared = table.compare(worlds, processes=options.processes, progress=progress)
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
