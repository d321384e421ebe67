"""Jobs in a storm: real homes, a real API and a real database, all of which are killed at random.

Customers hand jobs in over HTTP, and repeat each request until it is answered. An init system
starts again whatever has died. What came of it, `testkit.storm_witness` judges.
"""

from __future__ import annotations

import contextlib
import math
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx

from testkit.machine import Machine
from testkit.patience import until
from testkit.processes import PROC, stat
from testkit.servers import QUOTED, SECRET, Server
from testkit.storm_witness import ENDS, Rows, Witness

COUNTED = Path(__file__).with_name("counted.py")
JOBS = "/ai/training/jobs"
PORTS = Path("/proc/sys/net/ipv4/ip_local_port_range")
SLOTS = 6
"""of each home"""
STEPS = 20
STALE_S = 10.0
"""the least that the settings allow"""
DARK_S = STALE_S + 2.0
"""for so long nothing trains in a home, once"""
DARK_AFTER = 0.3
"""of the jobs have ended before that"""
LOOK_S = 0.02
ASK_S = 1.0
"""between two questions of a customer"""
JOBS_A_BLOW = 2
"""so many jobs end between two blows, about"""
LINE_BYTES = 100
"""of the ledger, about"""
TENANTS = ("acme", "other", "third")
KINDS = {"goes well": 15, "never": 2, "is cancelled": 3}
"""what becomes of jobs, and how often"""
DIES_EVERY = 50
"""of so many jobs one dies once by itself, and is tried again after a minute"""
PRIORITIES = ("critical", "high", "normal", "low")
BLOWS = {
    "program": 3,
    "trainer": 5,
    "daemon": 4,
    "dispatcher": 3,
    "api": 3,
    "database": 1,
    "boot": 1,
}
"""what is killed, and how often"""
WORDS = {
    str(COUNTED): "program",
    "trainers.__main__": "trainer",
    "dispatch": "dispatcher",
    "serve": "api",
    "run": "daemon",
}
"""a word of its command line: what a process is"""
TRAINING = ("daemon", "trainer", "program")
"""without them nothing trains"""
ALL = (*WORDS.values(), "other")
MODE = f"rung = 0\nslots = {SLOTS}\nthreads = 1\n"
SETTINGS = """\
modes_dir = "modes"

[campaign]
runs = []

[checkpoints]
interval_s = 0.2

[recovery]
backoff_first_s = 0.1
backoff_max_s = 0.5
quarantine_after = 1000

[policy]
idle_after = 99

[jobs]
listen = "127.0.0.1:{port}"
stale_s = {stale_s}
min_run_s = 1
min_free_gib = 0
{store}
""" + "".join(f"[jobs.tenants.{name}]\nprograms = true\n" for name in TENANTS)
STORE = """\
database_url = "{url}"
database_password_file = "{file}"
"""


class Home(Machine):
    """One home, and the services that an init system keeps alive in it.

    Args:
        folder: where it is; its name tells it from the others.
        settings: of it.
        services: the commands that are kept alive.
    """

    def __init__(self, folder: Path, settings: str, services: Sequence[str]) -> None:
        super().__init__(folder, folder.with_suffix(".screen"))
        self.extra = {"NO_COLOR": "1"}
        (folder / "modes").mkdir()
        (folder / "modes/only.toml").write_text(MODE)
        self.configure(settings)
        self._services: dict[str, subprocess.Popen[str] | None] = dict.fromkeys(services)
        self._off_until_s = dict.fromkeys(services, 0.0)

    def keep(self) -> None:
        """Start what does not live and is not off."""
        for service, living in self._services.items():
            dead = living is None or living.poll() is not None
            if dead and time.monotonic() >= self._off_until_s[service]:
                self._services[service] = self.launch(self.command(service))

    def off(self, seconds: float = math.inf, *, spare: Sequence[str] = ()) -> None:
        """Start no service again for so long, but for those to spare; with 0, all are on again."""
        until_s = time.monotonic() + seconds
        self._off_until_s |= dict.fromkeys(self._services.keys() - set(spare), until_s)

    @property
    def is_on(self) -> bool:
        """Whether nothing of it is off."""
        return all(time.monotonic() >= until_s for until_s in self._off_until_s.values())

    def found(self, *kinds: str) -> list[int]:
        """Its living processes of these kinds."""
        return [pid for pid, kind in self._processes() if kind in kinds]

    def end(self, *kinds: str) -> None:
        """Kill all of these kinds, and what they are just starting."""
        calm = 0

        def ended() -> bool:
            nonlocal calm
            living = self.found(*kinds)
            calm = 0 if living else calm + 1
            for pid in living:
                kill(pid)
            return calm == 3

        until(ended, f"all processes of {self.home} are ended")

    def _processes(self) -> Iterator[tuple[int, str]]:
        mark = os.fsencode(self.home)
        for place in PROC.iterdir():
            if not place.name.isdigit():
                continue
            with contextlib.suppress(OSError):
                line = (place / "cmdline").read_bytes()
                marked = mark in line or mark in (place / "environ").read_bytes()
                if marked and stat(place)[:1] not in ([], ["Z"], ["X"]):
                    yield int(place.name), _kind(line.decode(errors="replace"))


class Storm:
    """So many jobs, and what happens to them.

    Args:
        place: a folder for all of it.
        count: how many jobs.
        seed: decides who is struck and what is asked.
        homes: how many share the store.
        server: a PostgreSQL, which has the store; None: it is a file of the one home.
    """

    def __init__(
        self, place: Path, count: int, seed: int, *, homes: int = 1, server: Server | None = None
    ) -> None:
        self._count, self._seed, self._server = count, seed, server
        self._chance = random.Random(seed)  # noqa: S311 - a storm that can be had again
        self._ledger = place / "ledger"
        self._ledger.mkdir(parents=True)
        self.witness = Witness(self._ledger, STALE_S)
        self.blows: Counter[str] = Counter()
        store, self._address = "", str(place / "home-0" / "jobs.db")
        if server is not None:
            self._address = server.create_database("storm")
            (place / "password").write_text(SECRET)
            (place / "password").chmod(0o600)
            url = self._address.replace(f":{QUOTED}@", "@")
            store = STORE.format(url=url, file=place / "password")
        port = free_port(self._chance)
        settings = SETTINGS.format(port=port, stale_s=STALE_S, store=store)
        self._homes = [
            Home(place / f"home-{number}", settings, ("run", "dispatch" if number else "serve"))
            for number in range(homes)
        ]
        self._client = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60)
        self._over = threading.Event()
        """nobody asks any more: something has failed"""
        self._dark_since_at: float | None = None
        self._was_dark = False

    def rage(self) -> list[str]:
        """Have all jobs end while the storm blows; what was wrong."""
        with self._kept(), ThreadPoolExecutor(3 * SLOTS * len(self._homes)) as customers:
            lives = [customers.submit(self._live, number) for number in range(self._count)]
            try:
                self._blow(lives)
                until(self._is_calm, "nothing trains that is over")
            finally:
                self._over.set()
                customers.shutdown(cancel_futures=True)
            wanted = {number: life.result() for number, life in enumerate(lives)}
            rows = Rows.of(self._address)
        return self.witness.judge(wanted, rows)

    @contextlib.contextmanager
    def _kept(self) -> Iterator[None]:
        """An init system keeps all services alive; in the end nothing lives."""
        over = threading.Event()

        def keep() -> None:
            while not over.wait(LOOK_S):
                for home in self._homes:
                    home.keep()

        init = threading.Thread(target=keep)
        init.start()
        try:
            yield
        finally:
            over.set()
            init.join()
            for home in self._homes:
                home.end(*ALL)

    def _is_calm(self) -> bool:
        return not any(home.found("trainer", "program") for home in self._homes)

    # Blows.

    def _blow(self, lives: Sequence[Future[tuple[str, str]]]) -> None:
        left, due_bytes = self._count // JOBS_A_BLOW, self._next_blow()
        while not all(life.done() for life in lives) or self._dark_since_at is not None:
            done = [life for life in lives if life.done()]
            for life in done:
                life.result()
            if left and self.witness.size_bytes >= due_bytes and self._strikes():
                left -= 1
                due_bytes = self._next_blow()
            self._see_to_the_dark(len(done))
            time.sleep(LOOK_S)

    def _next_blow(self) -> float:
        """When there is a blow again: where there is so much more in the ledger.

        By the clock whoever starts slowly would be struck again before having done anything.
        """
        mean_bytes = JOBS_A_BLOW * STEPS * LINE_BYTES
        return self.witness.size_bytes + self._chance.expovariate(1 / mean_bytes)

    def _strikes(self) -> bool:
        """Whether somebody was there to be struck."""
        (what,) = self._chance.choices(list(BLOWS), list(BLOWS.values()))
        if what == "database":
            if self._server is None:
                return False
            self._server.kill()
            self._server.start()
        elif what == "boot":
            home = self._chance.choice(self._homes)
            if not home.is_on:
                return False
            home.off()
            home.end(*ALL)
            home.boot = f"{int(home.boot, 16) + 1:032x}"
            home.off(self._chance.uniform(0, 2))
        else:
            living = [pid for home in self._homes for pid in home.found(what)]
            if not living:
                return False
            kill(self._chance.choice(living))
        self.blows[what] += 1
        return True

    def _see_to_the_dark(self, done: int) -> None:
        """Once nothing trains in the last home, for so long that its jobs are stale."""
        home = self._homes[-1]
        alone = len(self._homes) == 1
        if self._dark_since_at is None:
            due = not self._was_dark and DARK_AFTER * self._count < done and home.is_on
            if due and home.found("program") and self._running_at(home):
                home.off(spare=("serve",) if alone else ())
                home.end(*(TRAINING if alone else ALL))
                self._dark_since_at = now()
            return
        if now() < self._dark_since_at + DARK_S:
            return
        stale = [job for job in self._running_at(home) if job["stale"]]
        self.witness.was_dark(home.home.name, self._dark_since_at, now())
        self._was_dark = bool(stale)
        if stale and not alone:
            self._take_over(stale[0]["job_id"])
        self._dark_since_at = None
        home.off(0)

    def _running_at(self, home: Home) -> list[dict[str, Any]]:
        """Jobs of a home that are told to run."""
        told = self._ask("GET", JOBS, params={"status": "RUNNING", "limit": 200})["jobs"]
        at_home = self.witness.at_home()
        return [job for job in told if at_home.get(job["job_id"]) == home.home.name]

    def _take_over(self, job_id: str) -> None:
        """Have another home begin a job anew whose home is dark: that one becomes a late worker."""
        said = self._homes[0]("jobs", "take-over", job_id, "--yes")
        if said.returncode == 0:
            self.witness.was_taken_over(job_id, self._homes[-1].home.name)
            self.blows["taken over"] += 1

    # Customers.

    def _live(self, number: int) -> tuple[str, str]:
        """One customer's: a job is handed in, changed perhaps, and followed to its end."""
        chance = random.Random(f"{self._seed} {number}")  # noqa: S311 - as above
        (kind,) = chance.choices(list(KINDS), list(KINDS.values()))
        kind = "dies once" if number % DIES_EVERY == DIES_EVERY - 1 else kind
        key = {"Idempotency-Key": f"{self._seed}-{number}"}
        body = self._body(number, kind, chance)
        job_id = self._ask("POST", JOBS, json=body, headers=key)["job_id"]
        page = f"{JOBS}/{job_id}"
        if chance.random() < 0.2:
            again = self._ask("POST", JOBS, json=body, headers=key)["job_id"]
            assert again == job_id, f"{again} and {job_id} are of one key"
        if kind == "is cancelled":
            time.sleep(chance.uniform(0, 4))
            self._ask("DELETE", page)
        elif chance.random() < 0.2:
            time.sleep(chance.uniform(0, 2))
            self._ask("PATCH", page, json={"priority": chance.choice(PRIORITIES)})
        status, ended_at = self._until_ended(page)
        if kind == "never" and status == "FAILED":
            (self._ledger / f"mended-{job_id}").touch()
            self.witness.was_over(job_id, ended_at, now())
            self._ask("POST", f"{page}/retry", headers=key)
            status, ended_at = self._until_ended(page)
        if status == "COMPLETED":
            self.witness.was_over(job_id, ended_at, math.inf)
        return job_id, kind

    def _body(self, number: int, kind: str, chance: random.Random) -> dict[str, Any]:
        words = [sys.executable, "-I", "-S", str(COUNTED), str(self._ledger), str(STEPS), kind]
        return {
            "tenant_id": chance.choice(TENANTS),
            "trainer": "command",
            "target": {"steps": STEPS},
            "options": {
                "command": words,
                "checkpoints": "count-*.txt",
                "resume": ["{checkpoint}"],
                "progress": {},
            },
            "priority": chance.choice(PRIORITIES),
            "metadata": {"number": number},
        }

    def _until_ended(self, page: str) -> tuple[str, float]:
        """How a job has ended, and since when that is known."""

        def ended() -> tuple[str, float] | None:
            asked_at = now()
            job = self._ask("GET", page)
            came_at = now()
            self.witness.answered(asked_at, came_at, job)
            return (job["status"], came_at) if job["status"] in ENDS else None

        return until(ended, f"{page} has ended", look_s=ASK_S)

    def _ask(self, method: str, page: str, **more: Any) -> Any:
        """Ask until there is an answer, as whoever must not lose a request."""
        said = ["nothing"]

        def answered() -> httpx.Response | None:
            assert not self._over.is_set(), "the storm is over"
            with contextlib.suppress(httpx.TransportError):
                answer = self._client.request(method, page, **more)
                said[:] = [answer.text]
                if answer.status_code == 503 or (method == "POST" and answer.status_code == 409):
                    return None  # the store is away, or the same request is at work
                return answer
            return None

        answer = until(
            answered,
            f"{method} {page} is answered",
            lambda: f"{said[0]}\n{self._homes[0].screen.read_text()[-3000:]}",
            look_s=0.25,
        )
        assert answer.is_success or (method != "POST" and answer.status_code == 409), answer.text
        return answer.json()


def free_port(chance: random.Random) -> int:
    """One that no connection is given by itself.

    While nobody listens, who asks again and again would in the end be connected with itself.
    """
    first = int(PORTS.read_text().split()[0])
    while True:
        port = chance.randrange(first // 2, first)
        with socket.socket() as one, contextlib.suppress(OSError):
            one.bind(("127.0.0.1", port))
            return port


def now() -> float:
    """Wall time, as the programs write it down and the API tells it."""
    return time.time()  # noqa: TID251 - what is compared are their times


def kill(pid: int) -> None:
    """`kill -9`, where it lives still."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _kind(line: str) -> str:
    """What a process is, by its command line."""
    return next((kind for word, kind in WORDS.items() if word in line.split("\0")), "other")
