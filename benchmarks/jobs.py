#!/usr/bin/env python3
"""What jobs take: the store, the API, claims beside peers, and the supervisor that trains them.

    store      a durable create, a look, a mirrored heartbeat and a claim, in turn. Beside
               them stands what the disk takes to make 4 KiB durable, which no store can undercut
    api        `supervisor serve` with its dispatcher, and beside it `supervisor run` with a trainer
               at work: what twenty clients wait for, with five requests a second each, counted from
               when each request was due; memory, and shares of a processor
    claims     jobs a second that one home and four claim, beside what workers of procrastinate
               (PostgreSQL) and huey (SQLite) take, all durable, in turns. The peers are installed
               from their registry into a scratch folder, and left out loudly where that fails
    daemon     memory, wake-ups and imports of `supervisor run`, alone and beside `supervisor serve`

    python benchmarks/jobs.py                         all of it, a quarter of an hour
    python benchmarks/jobs.py --what api --jobs 1000 --for-s 10 --json

SQLite lies in a temporary folder, PostgreSQL is started there, durable, and thrown away.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(HERE))

import jobs_api  # noqa: E402 - after the path is set
import jobs_claims  # noqa: E402
import jobs_daemon  # noqa: E402

from state.jobs.database import url_of_home  # noqa: E402
from state.jobs.migrations import migrate  # noqa: E402
from state.jobs.records import NewJob, Seen, Which  # noqa: E402
from state.jobs.store import JobStore  # noqa: E402
from testkit import servers  # noqa: E402

WHAT = ("store", "api", "claims", "daemon")
EACH = 100
"""how often a thing is done to be measured"""
CONFIG = {"algorithm": "lgbm", "features": [f"feature_{number}" for number in range(30)]}


def timed(act: Callable[[int], object], times: int = EACH) -> dict[str, float]:
    """What it takes, in milliseconds."""
    took = []
    for number in range(times):
        began = time.perf_counter()
        act(number)
        took.append(1000 * (time.perf_counter() - began))
    took.sort()
    return {"median_ms": statistics.median(took), "p99_ms": took[int(0.99 * len(took))]}


def disk(folder: Path) -> dict[str, float]:
    """Of 4 KiB that are written and made durable."""
    with (folder / "durable").open("wb", buffering=0) as file:

        def write(_: int) -> None:
            file.write(bytes(4096))
            os.fdatasync(file.fileno())

        return timed(write)


def a_job(number: int) -> NewJob:
    """One of seven tenants."""
    return NewJob(tenant_id=f"tenant-{number % 7}", config=CONFIG, model_type="forecast")


def measured(url: str, jobs: int) -> dict[str, object]:
    """All of it, of one store."""
    migrate(url)
    with contextlib.closing(JobStore(url)) as store:
        create = timed(lambda number: store.create(a_job(number)))
        first = [store.create(a_job(number)) for number in range(EACH)]
        tokens = {}

        def claim(number: int) -> None:
            job = store.claim(first[number].job_id, "home")
            tokens[number] = job.claim.token if job and job.claim else ""

        def mirror(number: int) -> None:
            seen = Seen(status="RUNNING", attempt=1, progress=number % 90, used_s=number)
            store.mirror(first[number % 7].job_id, tokens[number % 7], seen)

        claims = timed(claim)
        mirrors = timed(mirror)
        for begin in range(0, jobs, 50):
            with store._writing() as doing:  # many at once, which nobody else needs
                for number in range(begin, begin + 50):
                    doing.taken_in(a_job(number))
        looks = timed(lambda number: store.get(first[number].job_id))
        lists = timed(lambda number: store.find(Which(tenant_id=f"tenant-{number % 7}")))
    return {
        "create": create,
        "claim": claims,
        "mirror": mirrors,
        "get": looks,
        "list_50": lists,
    }


@contextlib.contextmanager
def server() -> Iterator[str]:
    """The URL of a PostgreSQL whose answers are durable."""
    with servers.postgresql(durable=True) as one:
        yield one.create_database("jobs")


def stores(jobs: int) -> dict[str, Any]:
    """What is done with each store, and what its disk takes."""
    with tempfile.TemporaryDirectory() as place, server() as postgresql:
        urls = {"sqlite": url_of_home(Path(place)), "postgresql": postgresql}
        return {"disk": disk(Path(place))} | {
            name: measured(url, jobs) for name, url in urls.items()
        }


def apis(jobs: int, for_s: float, trainers: int) -> dict[str, Any]:
    """How the API answers, on each store."""
    found = {"sqlite": jobs_api.measured(None, jobs, for_s, trainers)}
    with server() as postgresql:
        return found | {"postgresql": jobs_api.measured(postgresql, jobs, for_s, trainers)}


def lines(found: dict[str, Any]) -> list[str]:
    """What is done with each store, for people."""
    told = [f"4 KiB made durable: {found['disk']['median_ms']:.1f} ms"]
    for name in ("sqlite", "postgresql"):
        for what, took in found[name].items():
            numbers = ", ".join(f"{key} {value:.1f}" for key, value in took.items())
            told.append(f"{name:10} {what:12} {numbers}")
    return told


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--what", action="append", choices=WHAT, help="only that; may be repeated")
    parser.add_argument("--jobs", type=int, default=10_000, help="that are there when it is asked")
    parser.add_argument("--for-s", type=float, default=60.0, help="clients ask, and the idle idle")
    parser.add_argument("--trainers", type=int, default=1, help="at work beside it: one, or two")
    parser.add_argument("--turns", type=int, default=5, help="of claims")
    parser.add_argument("--json", action="store_true", help="print all of it")
    wanted = parser.parse_args()
    found: dict[str, Any] = {}
    told: list[str] = []
    for what in wanted.what or WHAT:
        if what == "store":
            found[what] = stores(wanted.jobs)
            told += lines(found[what])
        elif what == "api":
            found[what] = apis(wanted.jobs, wanted.for_s, wanted.trainers)
            for name, one in found[what].items():
                told += ["", *jobs_api.lines(name, one)]
        elif what == "claims":
            found[what] = jobs_claims.measured(wanted.turns)
            told += ["", *jobs_claims.lines(found[what])]
        else:
            found[what] = jobs_daemon.measured(wanted.for_s)
            told += ["", *jobs_daemon.lines(found[what])]
    print(json.dumps(found, indent=2) if wanted.json else "\n".join(told))


if __name__ == "__main__":
    main()
