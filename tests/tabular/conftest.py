"""Small tables, and what learns them."""

import sys
from pathlib import Path

import pytest

from testkit.tables import hourly, table_run, write

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

    def make(algorithm, run="run", **more):
        return table_run(tmp_path, "tabular", run, **{**ASKED, "algorithm": algorithm, **more})

    return make
