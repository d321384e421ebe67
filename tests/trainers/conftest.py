"""Runs to train, and trainers to start."""

import sys
from contextlib import suppress
from pathlib import Path

import pytest

# This folder cannot be a package: it would be called like the one that it tests.
sys.path.append(str(Path(__file__).parent))

from trainer_lives import Life, write_spec


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
