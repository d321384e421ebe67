#!/usr/bin/env python3
"""Who gets how much of a day, who waits for how long, and whether what is foretold holds.

    python benchmarks/fairness.py                   ten made-up days of each kind
    python benchmarks/fairness.py --days 50 --seed 7

The plans are the dispatcher's own; the tenants are made up. `big` has three parts of five, the
others one each. In `flood` one sends 300 jobs at once and the others more than their share; in
`calm` there is nearly as much to do as can be done. Shares are of a whole day.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from supervisor.core.fairness import Quota, jain  # noqa: E402
from testkit.fair_days import HOUR_S, Sent, flood, live, steady  # noqa: E402

QUOTAS = {"big": Quota(weight=3), "flooder": Quota(weight=1), "small": Quota(weight=1)}
LASTS_S = 900.0


def sent(kind: str, seed: int) -> list[Sent]:
    """What the tenants of a day submit."""
    rng = random.Random(seed)  # noqa: S311 - a world, no secret
    if kind == "calm":
        return [
            *steady(rng, "flooder", each_s=1000, lasts_s=LASTS_S),
            *steady(rng, "big", each_s=420, lasts_s=LASTS_S),
            *steady(rng, "small", each_s=1000, lasts_s=LASTS_S),
        ]
    return [
        *flood(rng, "flooder", 300, lasts_s=LASTS_S),
        *steady(rng, "big", each_s=300, lasts_s=LASTS_S),
        *steady(rng, "small", each_s=900, lasts_s=LASTS_S),
    ]


def main() -> None:
    """Live through the days and print what became of them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--days", type=int, default=10)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    for kind in ("flood", "calm"):
        days = [
            live(sent(kind, 1000 * options.seed + day), quotas=QUOTAS, foretell=True)
            for day in range(options.days)
        ]
        even = [jain([day.shares[it] / QUOTAS[it].weight for it in QUOTAS]) for day in days]
        print(f"{kind}, {len(days)} days: Jain's index {min(even):.4f} at least")
        for tenant in QUOTAS:
            shares = [day.shares[tenant] for day in days]
            waits_h = [day.longest_wait_s[tenant] / HOUR_S for day in days]
            print(
                f"  {tenant:8} share {statistics.fmean(shares):.3f} "
                f"({min(shares):.3f} to {max(shares):.3f}), longest wait {max(waits_h):.1f} h"
            )
        told = [
            (one.started_at - one.at, one.foretold)
            for day in days
            for one in day.jobs
            if one.foretold is not None and one.started_at is not None
        ]
        covered = sum(waited <= eta.eta_p90_s + 1 for waited, eta in told) / len(told)
        sooner = sum(waited <= eta.eta_s + 1 for waited, eta in told) / len(told)
        print(f"  of {len(told)} jobs {covered:.3f} started by the p90, {sooner:.3f} by the median")


if __name__ == "__main__":
    main()
