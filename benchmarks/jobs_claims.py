"""How many jobs a second homes claim, beside what workers of peers take; see `benchmarks/jobs.py`.

All are durable: each claim is a commit that a power cut does not undo. A peer's job is taken by the
call that its own worker makes. In each turn all are measured, one after the other, so that what
else the machine does comes to all of them.
"""

from __future__ import annotations

import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(HERE))  # a home of ours is this very file, as a program

from jobs_place import filled  # noqa: E402 - after the path is set

from state.jobs.database import url_of_home  # noqa: E402
from state.jobs.store import JobStore  # noqa: E402
from testkit import servers  # noqa: E402

HOMES = (1, 4)
EACH = 100
"""jobs that are taken in a turn, by all homes together"""
WAITING = 200
"""that wait beside these"""
PEERS = Path(__file__).with_name("jobs_peers.py")
PACKAGES = ("procrastinate", "huey", "psycopg[binary]")


def ours(url: str, count: int) -> None:
    """Claim as a dispatcher does: look who waits, and try in order; for a process of its own."""
    with contextlib.closing(JobStore(url)) as store:
        print("ready", flush=True)
        sys.stdin.readline()
        began = time.monotonic()
        claimed = 0
        while claimed < count:
            for one in store.candidates(each=10):
                claimed += store.claim(one.job_id, f"home-{os.getpid()}") is not None
                if claimed == count:
                    break
        print(began, time.monotonic(), flush=True)


def measured(turns: int) -> dict[str, Any]:
    """Rates of each, turn by turn: `{"ours, SQLite, 1": [168.0, ...], ...}`."""
    found: dict[str, list[float]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as folder, _python(Path(folder)) as python:
        for turn in range(turns):
            with servers.postgresql(durable=True) as server:
                place = Path(folder) / f"turn-{turn}"
                place.mkdir()
                stores = {
                    "ours, SQLite": url_of_home(place),
                    "huey, SQLite": str(place / "huey.db"),
                    "ours, PostgreSQL": server.create_database("ours"),
                    "procrastinate, PostgreSQL": server.create_database("theirs"),
                }
                if python is None:
                    stores = {name: at for name, at in stores.items() if name.startswith("ours")}
                for name, at in stores.items():
                    command = _command(name.partition(",")[0], python, at)
                    for homes in HOMES:
                        found[f"{name}, {homes}"].append(_rate(command, homes))
    return dict(found)


def _command(who: str, python: Path | None, place: str) -> list[str]:
    """The command that takes jobs, but for how many, once there are some."""
    count = WAITING + len(HOMES) * EACH
    if who == "ours":
        filled(place, count)
        return [sys.executable, __file__, place]
    command = [str(python), str(PEERS), who, place]
    subprocess.run([*command, "fill", str(count)], check=True)
    return [*command, "take"]


def _rate(command: list[str], homes: int) -> float:
    waits, go = os.pipe()
    words = [*command, str(EACH // homes)]
    pipe = subprocess.PIPE
    takers = [subprocess.Popen(words, stdin=waits, stdout=pipe, text=True) for _ in range(homes)]
    try:
        if any(one.stdout is None or one.stdout.readline() != "ready\n" for one in takers):
            sys.exit("one who takes jobs has failed")
        os.close(go)  # which all of them have waited for
        times = [one.communicate()[0].split() for one in takers]
    finally:
        os.close(waits)
        for one in takers:
            one.kill()
            one.wait()
    began, ended = zip(*times, strict=True)
    return EACH / (max(map(float, ended)) - min(map(float, began)))


@contextlib.contextmanager
def _python(folder: Path) -> Iterator[Path | None]:
    """A Python that has the peers; None: they cannot be installed, as is told."""
    place = folder / "peers"
    subprocess.run([sys.executable, "-m", "venv", str(place)], check=True)
    command = [str(place / "bin" / "pip"), "install", "-q", *PACKAGES]
    install = subprocess.run(command, capture_output=True, text=True, check=False)
    if install.returncode:
        why = (install.stderr.strip().splitlines() or ["no reason given"])[-1]
        print(f"NOT MEASURED: the peers; they cannot be installed: {why}", file=sys.stderr)
    yield None if install.returncode else place / "bin" / "python"


def lines(found: dict[str, Any]) -> list[str]:
    """All of it for people."""
    told = ["claims a second; median of the turns, least and most"]
    names = dict.fromkeys(name.rpartition(",")[0] for name in found)
    told += [f"{name} homes: {_spread(rates)}" for name, rates in found.items()]
    for peer in names:
        mine = f"ours,{peer.partition(',')[2]}"
        if peer != mine:
            for homes in HOMES:
                both = zip(found[f"{mine}, {homes}"], found[f"{peer}, {homes}"], strict=True)
                ratios = [own / other for own, other in both]
                told.append(f"{mine} by {peer}, {homes} homes: {_spread(ratios, 2)}")
    return told


def _spread(values: list[float], digits: int = 0) -> str:
    least, most = min(values), max(values)
    return f"{statistics.median(values):.{digits}f} ({least:.{digits}f} to {most:.{digits}f})"


if __name__ == "__main__":
    ours(sys.argv[1], int(sys.argv[2]))
