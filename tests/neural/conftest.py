"""Small tables, and networks that learn them."""

import sys
from pathlib import Path

import pytest

from testkit.tables import hourly, table_run, write

# This folder cannot be a package: it would be called like the one that it tests.
sys.path.append(str(Path(__file__).parent))

ROWS = 700
ASKED = {
    "forecast": {
        "data": "loads.csv",
        "features": ["temperature", "hour_of_day", "load_lag_24", "load_lag_48"],
        "target": "load",
        "horizon": 24,
    },
    "anomaly": {"data": "loads.csv", "features": ["load", "temperature"], "horizon": 0},
}
QUICK = {
    ("forecast", "mlp"): {"hidden_sizes": [16], "dropout": 0.1},
    ("forecast", "lstm"): {"hidden_size": 8, "sequence_length": 4},
    ("anomaly", "mlp"): {"hidden_sizes": [16], "code_size": 1},
    ("anomaly", "lstm"): {"hidden_size": 8, "sequence_length": 4},
}


@pytest.fixture
def make_run(tmp_path):
    """Makes a run in a home with a table: `make_run("lstm", model_type="anomaly", epochs=3)`."""
    write(tmp_path / "loads.csv", hourly(ROWS))

    def make(algorithm, run="run", *, model_type="forecast", epochs=6, told=None, **more):
        kind = {"model_type": model_type, "algorithm": algorithm}
        told = {**QUICK[model_type, algorithm], "epochs": epochs, **(told or {})}
        asked = {**ASKED[model_type], **kind, "hyperparameters": told, **more}
        return table_run(tmp_path, "neural", run, **asked)

    return make
