"""A home with all the processes that jobs need, for `benchmarks/jobs.py`, and what they cost."""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import unquote, urlsplit
from urllib.request import Request, urlopen

from state.jobs.migrations import migrate
from state.jobs.records import Ending, Job, Model, NewJob, Seen
from state.jobs.store import JobStore
from supervisor.programs import program

PATIENCE_S = 120.0
ROWS = 60_000
TENANTS = 7
POINTS = 20
"""of such a history"""
METRICS = {"mae": 2.971, "rmse": 5.972, "mape": 0.5162, "r2_score": 0.9933, "skill": 0.8222}
FEATURES = ["temperature", *(f"load_lag_{lag}" for lag in range(24, 53))]
LONG: dict[str, Any] = {
    "algorithm": "lgbm",
    "hyperparameters": {"n_estimators": 100_000, "num_leaves": 255, "learning_rate": 0.001},
    "training_start": "1970-01-01T00:00:00",
    "training_end": "2000-01-01T00:00:00",
    "features": FEATURES,
    "target": "load",
}
"""what trains as long as anybody measures"""
SETTINGS = """\
[campaign]
runs = []

[checkpoints]
interval_s = 30

[jobs]
listen = "127.0.0.1:{port}"
"""
CHUNK = 500


def body(tenant: str, priority: str = "normal") -> dict[str, Any]:
    """A body of `POST /jobs`."""
    return {"tenant_id": tenant, "model_type": "forecast", "config": LONG, "priority": priority}


class Place:
    """A home; nothing that was started in it outlives a `with`.

    Args:
        folder: an empty one.
        url: of the job store; None: the file of the home.
    """

    def __init__(self, folder: Path, url: str | None = None) -> None:
        self.home = folder / "home"
        self.home.mkdir()
        self.port = _free_port()
        settings, self._environment = SETTINGS.format(port=self.port), dict(os.environ)
        if url is not None:
            settings += f'database_url = "{re.sub(":[^:@/]+@", "@", url)}"\n'
            (self.home / "password").write_text(_password(url))
            (self.home / "password").chmod(0o600)
            settings += 'database_password_file = "password"\n'
        (self.home / "supervisor.toml").write_text(settings)
        for tenant in range(TENANTS):
            _table(self.home / "tables" / f"tenant-{tenant}")
        self._screen = folder / "screen"
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Place:
        return self

    def __exit__(self, *_: object) -> None:
        for process in reversed(self.processes.values()):
            process.send_signal(signal.SIGTERM)
        for process in self.processes.values():
            process.wait(PATIENCE_S)

    def start(self, *words: str, command: list[str] | None = None) -> subprocess.Popen[bytes]:
        """Start one of its processes, as a service of its own is started."""
        command = [*(command or program("supervisor.cli")), "--home", str(self.home), *words]
        with self._screen.open("ab") as screen:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE if command[1] == "-c" else screen,
                stderr=screen,
                start_new_session=True,
            )
        self.processes[words[0]] = process
        return process

    def serve(self) -> None:
        """Start the API, with its dispatcher, and wait until it answers."""
        self.start("serve")
        self.until(lambda: self.asks("/health") is not None, "the API answers")
        self.until(lambda: self.dispatcher, "somebody dispatches")

    @property
    def dispatcher(self) -> int:
        """The process that `serve` has started; 0: there is none yet."""
        tasks = Path(f"/proc/{self.processes['serve'].pid}/task").glob("*/children")
        children = [int(pid) for task in tasks for pid in task.read_text().split()]
        return next((pid for pid in children if b"dispatch" in _words(pid)), 0)

    def asks(self, path: str, sent: dict[str, Any] | None = None) -> Any:
        """What the API answers; None: it does not."""
        request = Request(
            f"http://127.0.0.1:{self.port}/ai/training{path}",
            None if sent is None else json.dumps(sent).encode(),
            {"Content-Type": "application/json"},
        )
        try:
            with urlopen(request, timeout=PATIENCE_S) as answer:  # noqa: S310
                return json.load(answer)
        except HTTPError as error:
            return json.load(error)
        except OSError:
            return None

    def train(self, trainers: int) -> None:
        """Have trainers at work, for jobs of their own."""
        mine = body("tenant-0", "critical")
        asked = [self.asks("/jobs", mine)["job_id"] for _ in range(trainers)]
        for job_id in asked:
            self.until(
                lambda job_id=job_id: self.asks(f"/jobs/{job_id}")["progress"] > 0, "a job trains"
            )

    def until(self, condition: Callable[[], object], what: str) -> None:
        """Wait for what comes soon."""
        deadline_s = time.monotonic() + PATIENCE_S
        while not condition():
            if time.monotonic() > deadline_s:
                sys.exit(f"{what}: not within {PATIENCE_S:.0f} s\n{self._screen.read_text()}")
            time.sleep(0.1)


def filled(url: str, jobs: int, ended: int = 0) -> dict[str, list[str]]:
    """Jobs in a store, as ids: some have ended, with all that they leave, and the others wait."""
    migrate(url)
    store = JobStore(url)
    with contextlib.closing(store):
        over = [_ended(store, number) for number in range(ended)]
        waiting: list[str] = []
        while len(waiting) + len(over) < jobs:
            with store._writing() as doing:  # many at once, which nobody else needs
                waiting += [doing.taken_in(_new(number)).job_id for number in range(CHUNK)]
        _settle(store)
    return {"waiting": waiting, "ended": over}


def _settle(store: JobStore) -> None:
    """What PostgreSQL does by itself within some minutes, and SQLite never needs."""
    engine = store._database._engine
    if engine.dialect.name == "postgresql":
        with engine.connect() as connection:
            alone = connection.execution_options(isolation_level="AUTOCOMMIT")
            alone.exec_driver_sql("VACUUM (ANALYZE)")


def _new(number: int) -> NewJob:
    return NewJob(
        tenant_id=f"tenant-{number % TENANTS}",
        config=body("")["config"],
        model_type="forecast",
        trainer="tabular",
        model_name=f"model-{number % 5}",
    )


def _ended(store: JobStore, number: int) -> str:
    job = store.create(_new(number))
    claimed = store.claim(job.job_id, "another home") if isinstance(job, Job) else None
    if claimed is None or claimed.claim is None:
        sys.exit("somebody else uses the store")
    history = tuple((step, METRICS) for step in range(POINTS))
    seen = Seen(status="RUNNING", attempt=1, metrics=METRICS, history=history, used_s=number % 90)
    store.mirror(claimed.job_id, claimed.claim.token, seen)
    model = Model(sha256=f"{number:064x}", size_bytes=300_000)
    ending = Ending(status="COMPLETED", metrics=METRICS, model=model, used_s=number % 90)
    store.finish(claimed.job_id, claimed.claim.token, ending)
    return claimed.job_id


def _table(folder: Path) -> None:
    """Made-up hours, enough of them that a round takes a while."""
    folder.mkdir(parents=True)
    first = folder.parent / "tenant-0" / "features.load_forecasting.csv"
    if first.exists():
        os.link(first, folder / first.name)
        return
    with first.open("w") as file:
        file.write("time,temperature,load\n")
        for hour in range(ROWS):
            warm = 10 - 12 * math.cos(hour / 8766 * 2 * math.pi) + hour * 7919 % 37 / 10
            at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(hour * 3600))
            file.write(f"{at},{warm:.1f},{500 + 4 * abs(warm - 18) + hour * 31 % 50:.1f}\n")


# What a process costs.


def memory_mib(pid: int) -> dict[str, float]:
    """Resident memory, and the same with what is shared divided among those who share it."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    found = dict(re.findall(r"^(Rss|Pss):\s+(\d+) kB", text, re.MULTILINE))
    return {name.lower(): int(kib) / 1024 for name, kib in found.items()}


def processor_s(pid: int) -> float:
    """What it has used, those of its threads too that have ended."""
    user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def wakes(pid: int) -> int:
    """How often a thread of it has slept and woken up."""
    found = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        text = (task / "status").read_text()
        found += int(text.partition("\nvoluntary_ctxt_switches:")[2].split()[0])
    return found


def _words(pid: int) -> list[bytes]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return []


def _password(url: str) -> str:
    return unquote(urlsplit(url).password or "")


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])
