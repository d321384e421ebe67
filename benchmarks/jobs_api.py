"""How quickly the API answers, and what it takes; see `benchmarks/jobs.py`."""

from __future__ import annotations

import json
import math
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

from jobs_clients import Took
from jobs_place import Place, body, filled, memory_mib, processor_s

from state.jobs.database import url_of_home

CLIENTS = Path(__file__).with_name("jobs_clients.py")
WARM_S = 5.0
ENDED = 300
"""jobs that have ended; the others wait"""
AIMS = {"GET": 50.0, "create": 100.0}
"""milliseconds of the 99th percentile"""
MEMORY_AIM_MIB = 70.0


def measured(url: str | None, jobs: int, for_s: float, trainers: int) -> dict[str, Any]:
    """A server with its dispatcher, and a supervisor with trainers at work beside it.

    Args:
        url: of the job store; None: SQLite, in the home.
        jobs: that are there.
        for_s: how long twenty clients ask.
        trainers: at most two.
    """
    with tempfile.TemporaryDirectory() as folder, Place(Path(folder), url) as place:
        place.start("run", "--plain")
        place.serve()
        empty = memory_mib(place.processes["serve"].pid)
        place.train(trainers)
        what: dict[str, Any] = filled(url or url_of_home(place.home), jobs, ENDED)
        what |= {"body": body("tenant-1"), "tenant": "tenant-1"}
        watched = {"server": place.processes["serve"].pid, "dispatcher": place.dispatcher}
        before, began = {name: processor_s(pid) for name, pid in watched.items()}, time.monotonic()
        command = [sys.executable, str(CLIENTS), str(place.port), str(WARM_S), str(for_s)]
        asked = subprocess.run(
            command,
            input=json.dumps(what).encode(),
            stdout=subprocess.PIPE,
            check=True,
            start_new_session=True,
        )
        took_s = time.monotonic() - began
        used = {name: (processor_s(pid) - before[name]) / took_s for name, pid in watched.items()}
        said = json.loads(asked.stdout)
        took = [Took(*one) for one in said["took"]]
        return {
            "latency": _latency(took),
            "failed": sorted({f"{one.kind}: {one.status}" for one in took if one.status >= 400}),
            "processors": {**used, "clients": said["processor"]},
            "memory_mib": {
                "server, empty": empty,
                **{name: memory_mib(pid) for name, pid in watched.items()},
                "supervisor": memory_mib(place.processes["run"].pid),
            },
        }


def _latency(took: list[Took]) -> dict[str, dict[str, float]]:
    """In milliseconds, of each kind, of all GETs, and of what was late before it was sent."""
    kinds: dict[str, list[float]] = defaultdict(list)
    for one in took:
        kinds[one.kind].append(one.ms)
        if one.kind != "create":
            kinds["GET"].append(one.ms)
        kinds["sent late"].append(one.sent_late_ms)
    return {name: _percentiles(sorted(values)) for name, values in sorted(kinds.items())}


def _percentiles(values: list[float]) -> dict[str, float]:
    def at(part: float) -> float:
        return values[math.ceil(part * len(values)) - 1]

    return {
        "count": len(values),
        "median": statistics.median(values),
        "p95": at(0.95),
        "p99": at(0.99),
        "most": values[-1],
    }


def lines(store: str, found: dict[str, Any]) -> list[str]:
    """All of it for people."""
    told = [f"{store}: milliseconds from when a request was due to the end of its answer"]
    told.append(f"{'':20}{'count':>7}{'median':>9}{'p95':>9}{'p99':>9}{'most':>9}")
    for name, one in found["latency"].items():
        numbers = "".join(f"{one[key]:9.1f}" for key in ("median", "p95", "p99", "most"))
        told.append(f"{name:20}{one['count']:7.0f}{numbers}")
    told += [f"{'FAILED':20}{one}" for one in found["failed"]]
    for name, one in found["memory_mib"].items():
        told.append(f"{name:20}{one['rss']:7.1f} MiB resident, {one['pss']:.1f} proportional")
    for name, share in found["processors"].items():
        told.append(f"{name:20}{100 * share:7.1f} % of a processor")
    for name, aim_ms in AIMS.items():
        p99 = found["latency"][name]["p99"]
        told.append(f"{_reached(p99 <= aim_ms)} p99 of {name}: {p99:.1f} ms, at most {aim_ms:g}")
    rss = found["memory_mib"]["server"]["rss"]
    aim = f"at most {MEMORY_AIM_MIB:g} MiB"
    told.append(f"{_reached(rss <= MEMORY_AIM_MIB)} memory of the server: {rss:.1f} MiB, {aim}")
    return told


def _reached(is_so: bool) -> str:
    return f"{'reached' if is_so else 'MISSED':8}"
