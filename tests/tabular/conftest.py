"""Small tables, and what learns them."""

import json
import sys
from pathlib import Path

import pytest

from testkit.tables import hourly, write

# This folder cannot be a package: it would be called like the one that it tests.
sys.path.append(str(Path(__file__).parent))

ROWS = 1440
ASKED = {
    "data": "loads.csv",
    "features": ["temperature", "day_of_week", "hour_of_day", "load_lag_24", "load_lag_168"],
    "target": "load",
    "horizon": 24,
}


@pytest.fixture
def make_run(tmp_path):
    """Makes a run in a home with a table: `make_run("lgbm", hyperparameters={...})`."""
    write(tmp_path / "loads.csv", hourly(ROWS))

    def make(algorithm, run="run", *, seed=1, threads=1, upto=None, grace_s=120, **options):
        folder = tmp_path / "runs" / run
        folder.mkdir(parents=True)
        spec = {
            "version": 2,
            "run": run,
            "trainer": "tabular",
            "name": "load",
            "mode": "light",
            "seed": seed,
            "threads": threads,
            "target": upto,
            "grace_s": grace_s,
            "checkpoint_interval_s": 0.001,
            "options": {**ASKED, "algorithm": algorithm, **options},
        }
        (folder / "spec.json").write_text(json.dumps(spec))
        return folder

    return make
