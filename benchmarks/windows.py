#!/usr/bin/env python3
"""A run over several quiet windows beside one that nobody interrupts: what both come to.

    python benchmarks/windows.py                      windows of 8 minutes, about 20 minutes in all
    python benchmarks/windows.py --minutes 1 --links 1200

Two real supervisors train the same trainer at the same time, with children that have children. One
waits for windows, by a clock that is put forward over the nights; the other has none. Each step
hashes what the steps before have come to.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from testkit import chained
from testkit.false_clock import FalseClock, build
from testkit.in_windows import SETTINGS, InWindows, Lived
from testkit.machine import Machine
from testkit.patience import until

PAUSE_S, RESERVE_S = 0.1, 30.0


def main() -> int:
    """Train both to their end, and compare; the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=8.0, help="of each window (8)")
    parser.add_argument("--links", type=int, default=10_000, help="ten a second (10000)")
    options = parser.parse_args()
    begun_s = time.monotonic()
    with tempfile.TemporaryDirectory() as place:
        clock = FalseClock(build(Path(place) / "clock.so"), Path(place) / "offset")
        alone = Machine(Path(place) / "alone/home")
        chained.install(alone.home / "own")
        told = {"links": options.links, "pause_s": PAUSE_S, "reserve_s": RESERVE_S}
        alone.configure(SETTINGS.format(**told, interval_s=60.0))
        waits = Machine(Path(place) / "waits/home")
        home = InWindows(
            waits,
            clock,
            links=options.links,
            pause_s=PAUSE_S,
            window_s=60 * options.minutes,
            reserve_s=RESERVE_S,
        )
        try:
            twin = alone.start()
            lived = home.live(_tell)
            home.check(lived)
            waits.think_again()
            undisturbed = alone.home / "runs/chain-a"
            until(lambda: chained.saved(undisturbed)[0] == options.links, "the other is done")
            twin.terminate()
            twin.wait()
        finally:
            alone.crash()
            waits.crash()
        both = chained.saved(home.run), chained.saved(undisturbed)
    for name, (links, link) in zip(("in windows", "undisturbed"), both, strict=True):
        print(f"{name:<12} {links} links, {link}")
    print(f"{len(lived)} windows, {(time.monotonic() - begun_s) / 60:.1f} minutes in all")
    return 0 if both[0] == both[1] else 1


def _tell(window: Lived) -> None:
    print(
        f"a window: the first process {window.began_s:.1f} s after it had opened, "
        f"{window.trained_s:.1f} s of training, the last process gone {window.left_s:.1f} s before "
        f"it closed, {window.links} links saved",
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(main())
