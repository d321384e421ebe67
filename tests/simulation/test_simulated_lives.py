"""Seeded lives of the real daemon, of a series of hundreds; one that fails can be lived again."""

import os
import sys
import tempfile
from pathlib import Path

import pytest

from testkit.series import sample_of_a_series
from testkit.simulated_life import SimulatedLife

LIVES, SEED = sample_of_a_series(40)
EVENTS = 120
DIARY_LINES = 60


@pytest.fixture
def home(tmp_path_factory):
    """A folder in memory where there is one: a life writes thousands of files."""
    memory = Path("/dev/shm")  # noqa: S108 - only its speed is used
    if not os.access(memory, os.W_OK):
        yield tmp_path_factory.mktemp("life")
        return
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        yield Path(folder)


@pytest.mark.parametrize("seed", range(SEED, SEED + LIVES))
def test_life(seed, home, monkeypatch):
    """Whatever happens to it, a supervisor does no harm, forgets nothing, and gets there."""
    life = SimulatedLife(seed, home, monkeypatch)
    try:
        for _ in range(EVENTS):
            life.event()
        life.finish()
    except BaseException:
        sys.stderr.write("\n".join(life.diary[-DIARY_LINES:]))
        sys.stderr.write(
            "\nLive it again with: "
            f".venv/bin/python benchmarks/series.py lives --seed {seed} --count 1\n"
        )
        raise
