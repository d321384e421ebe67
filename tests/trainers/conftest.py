"""Runs to train, and trainers to start."""

import sys
from contextlib import suppress
from pathlib import Path

import pytest

# This folder cannot be a package: it would be called like the one that it tests.
sys.path.append(str(Path(__file__).parent))

from trainer_lives import Life, write_spec

from testkit.fakes import FakeTime
from trainers.attempt import read_spec
from trainers.checkpoint import Manifest
from trainers.contract import RunFolder
from trainers.session import Session, Stop


@pytest.fixture
def make_run(tmp_path):
    """Makes run folders with a spec: `make_run(trainer="drill", options={...})`."""

    def make(run="run", **fields):
        folder = tmp_path / run
        folder.mkdir()
        write_spec(folder, run=run, **fields)
        return folder

    return make


@pytest.fixture
def clock():
    return FakeTime()


@pytest.fixture
def open_session(make_run, clock):
    """Opens sessions, several in a row on one run if asked."""

    def open_(run=None, **fields):
        folder = RunFolder(run or make_run(**fields))
        return Session(
            folder, read_spec(folder), stop=Stop(), monotonic_s=clock, wall_time_s=lambda: 86_400.0
        )

    return open_


@pytest.fixture
def make_manifest():
    """Makes manifests of checkpoints: `make_manifest(step, mode="light")`."""

    def make(step, **fields):
        given = {
            "run": "run",
            "trainer": "drill",
            "mode": "light",
            "episodes": step // 10,
            "saved_at": 0.0,
        }
        return Manifest(step=step, **{**given, **fields})

    return make


@pytest.fixture
def start():
    """Starts trainers, and leaves none behind."""
    lives = []

    def begin(run, trainer="drill", *arguments):
        lives.append(Life(run, trainer, *arguments))
        return lives[-1]

    yield begin
    for life in lives:
        if life.process.poll() is None:
            life.process.kill()
        life.process.communicate()


@pytest.fixture
def children_of():
    """The processes that carry a run's marker in their environment, without the trainer."""

    def find(run):
        marker = f"TRAINING_SUPERVISOR_RUN={run}".encode()
        found = []
        for environment in Path("/proc").glob("[0-9]*/environ"):
            with suppress(OSError):
                if marker in environment.read_bytes().split(b"\0"):
                    found.append(int(environment.parent.name))
        return found

    return find
