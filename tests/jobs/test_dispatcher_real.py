"""A real supervisor, real trainers, a real store, and a dispatcher that is killed."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from state.jobs.records import Job, NewJob, Patch
from state.jobs.store import JobStore
from supervisor.config import Config
from supervisor.host.clock import SystemClock
from supervisor.host.home import Home
from supervisor.jobs.dispatcher import Dispatcher
from testkit.machine import Machine
from testkit.patience import PATIENCE_S, until

SETTINGS = """\
[campaign]
runs = []
trainer = "drill"

[checkpoints]
interval_s = 0.5
"""


@pytest.fixture
def machine(home: Path) -> Iterator[Machine]:
    machine = Machine(home / "box")
    machine.configure(SETTINGS)
    yield machine
    machine.crash()


def dispatch(machine: Machine, url: str) -> int:
    """A dispatcher in a process of its own; its pid."""
    pid = os.fork()
    if pid:
        return pid
    try:
        signal.alarm(int(PATIENCE_S))
        dispatcher = Dispatcher(
            Home(machine.home),
            Config(machine.home / "supervisor.toml"),
            machine.home,
            open_store=lambda: JobStore(url),
            clock=SystemClock(),
            say=lambda line: None,
        )
        dispatcher.run(threading.Event())
    finally:
        os._exit(9)


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def a_job(steps: int, steps_per_s: float = 200.0, **options: object) -> NewJob:
    config = {
        "trainer": "drill",
        "target": {"steps": steps},
        "options": {"steps_per_s": steps_per_s, **options},
    }
    return NewJob(tenant_id="acme-corp", config=config, trainer="drill")


def submitted(store: JobStore, new: NewJob) -> str:
    job = store.create(new)
    assert isinstance(job, Job)
    return job.job_id


def became(store: JobStore, job_id: str) -> Job:
    job = store.get(job_id)
    assert job is not None
    return job


def test_a_job_is_trained_by_a_real_trainer_whoever_is_killed(
    machine: Machine, url: str, reopened: Callable[[], JobStore]
) -> None:
    """It goes on from its checkpoint, in the same attempt, and ends once with what it measured."""
    pid = dispatch(machine, url)
    machine.start()
    store = reopened()
    job_id = submitted(store, a_job(800))
    fails = submitted(store, a_job(10, no_such_option=1))
    until(lambda: became(store, job_id).became.progress > 10, "it has begun")
    kill(pid)
    machine.crash()
    machine.boot = "c" * 32
    machine.start()
    pid = dispatch(machine, url)
    until(lambda: became(store, job_id).ended, "it has ended")
    job = became(store, job_id)
    assert job.became.status == "COMPLETED"
    assert job.became.metrics is not None
    assert job.became.metrics["step"] == 800
    assert job.became.metrics["return_mean"] == 8.0
    assert job.became.attempt == 1
    assert job.became.used_s > 3.0
    assert job.became.kept_bytes > 0
    assert store.history(job_id)
    error = became(store, fails).became.error
    assert error is not None
    assert error["error"] == "ConfigValidationError"
    ends = [
        event.content["status"]
        for event in store.events(0, job_id=job_id)
        if event.kind == "state" and event.content["status"] not in ("PENDING", "RUNNING")
    ]
    assert ends == ["COMPLETED"]
    kill(pid)


def test_a_running_job_is_paused_and_cancelled(
    machine: Machine, url: str, reopened: Callable[[], JobStore]
) -> None:
    """By what is asked in the store alone; it has saved before it ends."""
    pid = dispatch(machine, url)
    machine.start()
    store = reopened()
    job_id = submitted(store, a_job(1_000_000))
    until(lambda: became(store, job_id).became.status == "RUNNING", "it runs")
    until(lambda: became(store, job_id).became.as_of is not None, "it was seen")
    store.patch(job_id, Patch(paused=True))
    until(lambda: became(store, job_id).became.status == "PENDING", "it waits")
    store.patch(job_id, Patch(paused=False))
    until(lambda: became(store, job_id).became.status == "RUNNING", "it goes on")
    store.cancel(job_id)
    until(lambda: became(store, job_id).ended, "it has ended")
    assert became(store, job_id).became.status == "CANCELLED"
    assert list((machine.home / "runs" / job_id / "checkpoints").iterdir())
    kill(pid)
