#!/usr/bin/env python3
"""Who gets how much of a day, who waits for how long, and whether what is foretold holds.

    python benchmarks/fairness.py                   ten made-up days of each kind
    python benchmarks/fairness.py --days 50 --seed 7
    python benchmarks/fairness.py --live 180        so many seconds of real processes instead

The plans are the dispatcher's own; the tenants are made up. `big` has three parts of five, the
others one each. In `flood` one sends 300 jobs at once and the others more than their share; in
`calm` there is nearly as much to do as can be done. Shares are of a whole day.

Live, a real supervisor trains jobs of two seconds, which a real dispatcher hands over; then one of
class `low` meets a `critical` one, and what it has lost by that is told.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from state.jobs.database import url_of_home  # noqa: E402 - after the path is set
from state.jobs.migrations import migrate  # noqa: E402
from state.jobs.records import Job, NewJob  # noqa: E402
from state.jobs.store import JobStore  # noqa: E402
from state.records import Rank  # noqa: E402
from supervisor.core.fairness import Quota, jain  # noqa: E402
from testkit.fair_days import HOUR_S, Sent, flood, live, steady  # noqa: E402
from testkit.machine import Machine  # noqa: E402

QUOTAS = {"big": Quota(weight=3), "flooder": Quota(weight=1), "small": Quota(weight=1)}
LASTS_S = 900.0
MIN_RUN_S = 10.0
SETTINGS = f"""\
[campaign]
runs = []
trainer = "drill"

[checkpoints]
interval_s = 1.0

[jobs]
min_run_s = {MIN_RUN_S}
min_free_gib = 0

"""
STEPS_PER_S = 100
WAITING = 6
"""jobs that a tenant has waiting all the time"""
PATIENCE_S = 180.0


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


def submit(store: JobStore, tenant: str, seconds: float, rank: Rank = "normal") -> str:
    """A job that trains for so long; its id."""
    steps = int(seconds * STEPS_PER_S)
    options = {"steps_per_s": STEPS_PER_S}
    config = {"trainer": "drill", "target": {"steps": steps}, "options": options}
    new = NewJob(tenant_id=tenant, config=config, trainer="drill", priority=rank)
    job = store.create(new)
    if not isinstance(job, Job):
        raise TypeError(job)
    return job.job_id


def until(met: Callable[[], object]) -> None:
    """Wait for something that is to come."""
    by_s = time.monotonic() + PATIENCE_S
    while not met():
        if time.monotonic() > by_s:
            raise SystemExit("it does not come")
        time.sleep(0.1)


def for_real(lasts_s: float) -> None:
    """Train for so long with real processes, and print who has got how much of it."""
    with tempfile.TemporaryDirectory(prefix="fairness-") as folder, contextlib.ExitStack() as last:
        machine = Machine(Path(folder) / "home")
        weights = [f"[jobs.tenants.{it}]\nweight = {QUOTAS[it].weight}\n" for it in QUOTAS]
        machine.configure(SETTINGS + "".join(weights))
        last.callback(machine.crash)
        url = url_of_home(machine.home)
        migrate(url)
        store = JobStore(url)
        last.callback(store.close)
        machine.start()
        machine.launch(machine.command("dispatch"))

        def became(job_id: str) -> Job:
            job = store.get(job_id)
            if job is None:
                raise KeyError(job_id)
            return job

        for _ in range(int(lasts_s)):
            submit(store, "flooder", 2.0)
        ends_s = time.monotonic() + lasts_s
        while time.monotonic() < ends_s:
            waiting = {one.tenant_id: one.jobs.get("PENDING", 0) for one in store.tenants()}
            for tenant in ("big", "small"):
                for _ in range(WAITING - waiting.get(tenant, 0)):
                    submit(store, tenant, 2.0)
            time.sleep(1.0)
        used_s = {one.tenant_id: sum(it for _, it in one.hours) for one in store.tenants()}
        parts = sum(QUOTAS[it].weight for it in QUOTAS)
        for tenant, quota in QUOTAS.items():
            share, due = used_s[tenant] / sum(used_s.values()), quota.weight / parts
            done = next(it.jobs for it in store.tenants(tenant)).get("COMPLETED", 0)
            print(f"  {tenant:8} share {share:.3f}, due {due:.3f}, {done} jobs done")
        for job in waiting_jobs(store):
            store.cancel(job)
        preempted(store, became)


def waiting_jobs(store: JobStore) -> list[str]:
    """What nobody has begun."""
    return [one.job_id for one in store.candidates(each=10_000)]


def preempted(store: JobStore, became: Callable[[str], Job]) -> None:
    """Have jobs of class `low` in all slots, and then a `critical` one; print what that costs."""
    low = [submit(store, "small", 60.0, "low") for _ in range(8)]
    until(lambda: any(became(it).became.status == "RUNNING" for it in low))
    began_s = time.monotonic()
    critical = submit(store, "big", 2.0, "critical")
    until(lambda: became(critical).became.status == "RUNNING")
    waited_s = time.monotonic() - began_s
    until(lambda: became(critical).ended)
    tried = [became(it).became.attempt for it in low]
    print(
        f"  critical has waited {waited_s:.1f} s (min_run_s {MIN_RUN_S:g}), and is "
        f"{became(critical).became.status}; attempts of the low ones: {max(tried)} at most"
    )
    for job_id in low:
        store.cancel(job_id)


def main() -> None:
    """Live through the days and print what became of them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--days", type=int, default=10)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--live", type=float, metavar="SECONDS")
    options = parser.parse_args()
    if options.live is not None:
        for_real(options.live)
        return
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
