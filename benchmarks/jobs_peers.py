"""Takes jobs of a peer, for `benchmarks/jobs.py`: a program of its own, in the peer's Python.

    python jobs_peers.py procrastinate|huey PLACE fill COUNT
    python jobs_peers.py procrastinate|huey PLACE take COUNT

`fill` makes the store and as many jobs. `take` says "ready", waits for a line, takes jobs, and
says when it had begun and ended. PLACE is a URL of PostgreSQL, or a file of SQLite.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable
from typing import Any

CONFIG = {"algorithm": "lgbm", "features": [f"feature_{number}" for number in range(30)]}


def ready() -> float:
    """Say so, and wait until all are; when that was."""
    print("ready", flush=True)
    sys.stdin.readline()
    return time.monotonic()


async def procrastinate(place: str, what: str, count: int) -> None:
    """Of procrastinate: what its worker calls, with its own pool of connections."""
    import procrastinate  # noqa: PLC0415 - a peer

    app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=place))

    @app.task(name="train")
    def train(**config: Any) -> None:
        """Nothing: it is only taken."""

    async with app.open_async():
        if what == "fill":
            await app.schema_manager.apply_schema_async()
            await train.batch_defer_async(*(CONFIG for _ in range(count)))
            return
        worker = await app.job_manager.register_worker()
        began = ready()
        for _ in range(count):
            if await app.job_manager.fetch_job(None, worker_id=worker) is None:
                sys.exit("no job is left")
        print(began, time.monotonic(), flush=True)


def huey(place: str, what: str, count: int) -> None:
    """Of huey: what its worker calls, durable, which is not its default."""
    import huey  # noqa: PLC0415 - a peer

    app = huey.SqliteHuey(filename=place, fsync=what == "take")

    @app.task()
    def train(config: Any) -> None:
        """Nothing: it is only taken."""

    if what == "fill":
        for _ in range(count):
            train(CONFIG)
        return
    began = ready()
    left = count
    while left:
        # It gives up by itself where another one has the file.
        left -= _taken(app.dequeue) is not None
    print(began, time.monotonic(), flush=True)


def _taken(take: Callable[[], Any]) -> Any:
    import sqlite3  # noqa: PLC0415 - of one peer

    try:
        return take()
    except sqlite3.OperationalError:
        return None


def main() -> None:
    """Fill or take."""
    peer, place, what, count = sys.argv[1:]
    if peer == "procrastinate":
        asyncio.run(procrastinate(place, what, int(count)))
    else:
        huey(place, what, int(count))


if __name__ == "__main__":
    # By its own name: procrastinate warns of an app that is made where no worker could import it.
    import jobs_peers

    jobs_peers.main()
