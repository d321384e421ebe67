#!/usr/bin/env python3
"""What the job store takes for a durable create, a look, a mirrored heartbeat and a claim.

    python benchmarks/jobs.py                         both stores, a minute
    python benchmarks/jobs.py --jobs 1000 --json

SQLite lies in a temporary folder, PostgreSQL is started there, durable, and thrown away. Beside
them stands what the disk takes to make 4 KiB durable, which no store can undercut.
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

HERE = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(HERE))

from state.jobs.database import url_of_home  # noqa: E402 - after the path is set
from state.jobs.migrations import migrate  # noqa: E402
from state.jobs.records import NewJob, Seen, Which  # noqa: E402
from state.jobs.store import JobStore  # noqa: E402
from testkit import servers  # noqa: E402

HOMES = 4
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


def claim_rate(url: str, homes: int, jobs: int) -> float:
    """Jobs a second that so many homes claim, each by looking who waits, and trying in order."""
    ready, go = os.pipe(), os.pipe()
    children = []
    for home in range(homes):
        child = os.fork()
        if child == 0:
            _claim(url, f"home-{home}", ready[1], go[0], jobs // homes)
        children.append(child)
    for _ in range(homes):
        os.read(ready[0], 1)
    began = time.perf_counter()
    os.write(go[1], b"!" * homes)
    failed = [child for child in children if os.waitpid(child, 0)[1]]
    took_s = time.perf_counter() - began
    for handle in (*ready, *go):
        os.close(handle)
    if failed:
        sys.exit("a home could not claim")
    return jobs / took_s


def _claim(url: str, home: str, ready: int, go: int, jobs: int) -> None:
    try:
        store = JobStore(url)
        os.write(ready, b"!")
        os.read(go, 1)
        claimed = 0
        while claimed < jobs:
            for one in store.candidates(each=10):
                claimed += store.claim(one.job_id, home) is not None
                if claimed == jobs:
                    break
        os._exit(0)
    finally:
        os._exit(1)


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
        "claims_per_s": {
            f"{homes} homes": claim_rate(url, homes, 4 * EACH) for homes in (1, HOMES)
        },
    }


@contextlib.contextmanager
def server() -> Iterator[str]:
    """The URL of a PostgreSQL whose answers are durable."""
    with servers.postgresql(durable=True) as one:
        yield one.create_database("jobs")


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=10_000, help="that are there when it is asked")
    parser.add_argument("--json", action="store_true", help="print all of it")
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory() as place, server() as postgresql:
        found = {"disk": disk(Path(place))}
        for name, url in (("sqlite", url_of_home(Path(place))), ("postgresql", postgresql)):
            found[name] = measured(url, wanted.jobs)
    if wanted.json:
        print(json.dumps(found, indent=2))
        return
    print(f"4 KiB made durable: {found['disk']['median_ms']:.1f} ms")
    for name in ("sqlite", "postgresql"):
        for what, took in found[name].items():
            told = ", ".join(f"{key} {value:.1f}" for key, value in took.items())
            print(f"{name:10} {what:12} {told}")


if __name__ == "__main__":
    main()
