"""Folders of jobs are cleared away by real processes, which are killed while they do it."""

from __future__ import annotations

import errno
import json
import random
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from supervisor.config import Config
from supervisor.dispatching import Pruning
from supervisor.host.home import Home
from testkit.commands import Commands
from testkit.machine import Machine
from testkit.patience import until
from trainers import durable

BOX = """\
[campaign]
runs = []

[checkpoints]
interval_s = 0.2

[policy]
tick_s = 1.0

[warm]
trainers = []

[jobs]
keep_days = 0
[jobs.tenants.acme-corp]
keep = 1
"""
KILLS = 4


@pytest.fixture
def machine(tmp_path: Path, commands: Commands) -> Iterator[Machine]:
    machine = Machine(tmp_path / "box", commands=commands)
    machine.configure(BOX)
    yield machine
    machine.crash()


def started(machine: Machine, *words: str) -> subprocess.Popen[bytes]:
    with (machine.home.parent / "output.log").open("ab") as log:
        return subprocess.Popen(
            machine.command(*words),
            env=machine.environment(),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )


def told(machine: Machine, *words: str) -> Any:
    said = machine(*words, "--json")
    assert said.returncode == 0, said.stderr
    return json.loads(said.stdout)


def submitted(machine: Machine, **options: object) -> str:
    asked = {"steps_per_s": 200, **options}
    body = {"tenant_id": "acme-corp", "trainer": "drill", "options": asked}
    path = machine.home.parent / "job.json"
    path.write_text(json.dumps(body | {"target": {"steps": 300}}))
    return machine("jobs", "submit", str(path)).stdout.strip()


def test_what_is_kept_no_longer_goes_by_itself_whoever_is_killed(machine: Machine) -> None:
    """The newest model stays and can be fetched; what is known of the older one stays, too."""
    dispatcher = started(machine, "dispatch")
    machine.start()
    # It clears away once at its start, which shall not meet what is made here, and then each hour.
    until((machine.home / "pruned").exists, "it has cleared away for the first time")
    ids = []
    for _ in range(2):
        ids.append(submitted(machine))
        until(
            lambda: told(machine, "jobs", "show", ids[-1])["status"] == "COMPLETED", "it has ended"
        )
    old, new = ids
    dispatcher.kill()
    dispatcher.wait()
    runs = machine.home / "runs"
    checkpoints = runs / new / "checkpoints"
    assert len(list(checkpoints.glob("[0-9]*"))) > 2

    def would_go() -> tuple[list[str], list[str]]:
        dry = told(machine, "jobs", "prune", "--dry-run")
        return [one["job_id"] for one in dry["jobs"]], dry["thinned"]

    # The supervisor lets go of a run that has ended at one of its next looks.
    until(lambda: would_go() == ([old], [new]), "both are over")
    chance = random.Random(7)  # noqa: S311 - a series that can be had again
    for _ in range(KILLS):
        killed = started(machine, "jobs", "prune")
        time.sleep(chance.uniform(0.2, 1.5))  # at any moment of it, which nobody else can tell
        killed.kill()
        killed.wait()
        folder = runs / old
        assert not folder.exists() or (folder / "SHA256SUMS").exists()
    dispatcher = started(machine, "dispatch")
    until(lambda: durable.is_held(Home(machine.home).dispatcher), "it can be asked to end")
    until(lambda: not (runs / old).exists(), "the older one has gone")
    until(lambda: len(list(checkpoints.glob("[0-9]*"))) <= 2, "so have checkpoints")
    until(lambda: told(machine, "jobs", "prune")["jobs"] == [], "nothing more is to be done")
    dispatcher.terminate()
    assert dispatcher.wait() == 0
    assert [path.name for path in (machine.home / "pruned").glob("[0-9a-f]*")] == []
    versions = [(one["job_id"], one["kept"]) for one in told(machine, "models")["models"]]
    assert versions == [(new, True), (old, False)]
    assert told(machine, "jobs", "show", old)["metrics"]["step"] == 300
    size = sum(path.stat().st_size for path in (runs / new).rglob("*") if path.is_file())
    assert abs(told(machine, "jobs", "show", new)["kept_bytes"] - size) < 4096
    target = machine.home.parent / "model"
    told(machine, "jobs", "fetch", new, "-o", str(target))
    assert {path.name for path in target.iterdir()} == {"first.json", "second.json", "SHA256SUMS"}
    assert "300" in (target / "first.json").read_text()


def test_where_room_is_short_it_is_looked_for_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And else as rarely as was said; whoever clears away ends with who has started it."""
    home = Home(tmp_path / "home")
    home.make()
    (home.path / "supervisor.toml").write_text("[jobs]\nmin_free_gib = 1\n")
    free = [2**40]
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=free[0]))
    done = tmp_path / "done"
    count = ["sh", "-c", f"echo once >> {done}"]
    times = {"look_s": 0.01, "short_s": 0.01, "every_s": 1e6}
    with Pruning(home, Config(home.settings), count, **times):
        until(done.exists, "it is looked for at the start")
        free[0] = 2**20
        until(lambda: len(done.read_text().splitlines()) > 3, "it is looked for again and again")
    done.unlink()
    start = subprocess.Popen
    tries = iter([OSError(errno.EAGAIN, "too many processes")])

    def scarce(*command: Any, **how: Any) -> subprocess.Popen[bytes]:
        for error in tries:
            raise error
        return start(*command, **how)

    monkeypatch.setattr(subprocess, "Popen", scarce)
    with Pruning(home, Config(home.settings), count, **times):
        until(done.exists, "it is begun again where no process could be started")
    with Pruning(home, Config(home.settings), ["sleep", "1000"], **times) as hangs:
        until(lambda: hangs.child is not None, "it has begun")
    assert hangs.child is None
