"""The policies in the simulator: what each keeps of what an oracle would keep.

Fifteen families of machines, 200 of each, 30 days each, seven policies, driving the real
decision code. The seed of this benchmark is held out: no constant of any policy was ever
chosen by looking at its worlds. Use another one (1, 2, 3 ...) to try ideas.

    .venv/bin/python benchmarks/policy.py
    .venv/bin/python benchmarks/policy.py --seed 1 --worlds 20
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

import msgspec

from supervisor.simulation import table

HELD_OUT = 20_261
"""never used while a policy was tuned"""


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--worlds", type=int, default=200, help="machines of each family (200)")
    parser.add_argument("--seed", type=int, default=HELD_OUT, help="of the machines")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--json", type=Path, help="write the table there, too")
    options = parser.parse_args()

    def progress(done: int, total: int) -> None:
        if sys.stderr.isatty():
            end = "\n" if done == total else ""
            print(f"\r{done} of {total} machines", end=end, file=sys.stderr, flush=True)

    begun_s = time.perf_counter()
    worlds = table.families(options.seed, options.worlds)
    compared = table.compare(worlds, processes=options.processes, progress=progress)
    print(table.text(compared))
    print(f"\nseed {options.seed}, {time.perf_counter() - begun_s:.0f} s")
    if options.json:
        options.json.write_bytes(msgspec.json.format(msgspec.json.encode(compared), indent=2))


if __name__ == "__main__":
    main()
