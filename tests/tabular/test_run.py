"""A run of tables, from its start over its deaths to the files that it leaves."""

import hashlib
import json
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from testkit.patience import PATIENCE_S
from testkit.series import sample_of_a_series
from trainers.contract import EXIT_DONE
from trainers.tabular.growing import content_sha256
from trainers.tabular.models import PLACES, model_of

DIES = Path(__file__).parent / "dies.py"
TOLD = {
    "lgbm": {"n_estimators": 90, "bagging_freq": 2},
    "xgboost": {"n_estimators": 90, "subsample": 0.6},
    "rf": {"n_estimators": 35, "max_depth": 6},
    "isolation_forest": {"n_estimators": 35},
}
ASKED = {
    "lgbm": {"early_stopping_rounds": 30, "backtest": {"folds": 2}},
    "xgboost": {"early_stopping_rounds": 30, "backtest": {"folds": 2}},
    "rf": {"backtest": {"folds": 2}},
    "isolation_forest": {"model_type": "anomaly", "features": ["load"], "target": None},
}


def live(*attempts):
    """Attempts at runs, (run, how it dies, when); how each has ended."""
    ended = subprocess.run(
        [sys.executable, DIES, json.dumps(attempts, default=str)],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=True,
    )
    return json.loads(ended.stdout.splitlines()[-1])


def left_by(run, algorithm):
    """What a finished run has left: its model, and all numbers but how long they took."""
    kind = model_of(algorithm)
    model = kind((run / kind.FILE).read_bytes())
    metrics = json.loads((run / "metrics.json").read_bytes())
    del metrics["training_duration_seconds"]
    card = json.loads((run / "model_card.json").read_bytes())
    del card["run"]
    assert card["content_sha256"] == content_sha256(model.arrays())
    return model, metrics, card


@pytest.mark.parametrize("algorithm", PLACES)
def test_a_run_that_dies_again_and_again_leaves_what_one_leaves_that_lives(make_run, algorithm):
    """Killed in rounds and in the write of checkpoints: the same model, metrics and card."""
    asked = {"hyperparameters": TOLD[algorithm], **ASKED[algorithm]}
    alive, mortal = make_run(algorithm, "alive", **asked), make_run(algorithm, "mortal", **asked)
    count, seed = sample_of_a_series(5)
    chance = random.Random(f"{algorithm} {seed}")  # noqa: S311 - deaths that can be had again
    most = {"ROUND": TOLD[algorithm]["n_estimators"], "SYNC": 12}
    deaths = [
        (mortal, what, chance.randint(1, most[what]))
        for what in (chance.choice(list(most)) for _ in range(count))
    ]
    *died, done, never_dead = live(*deaths, (mortal, "NEVER", 0), (alive, "NEVER", 0))
    assert died[0] == -signal.SIGKILL
    assert set(died) <= {-signal.SIGKILL, EXIT_DONE}
    assert done == never_dead == EXIT_DONE
    (whole, *told), (model, *its) = left_by(alive, algorithm), left_by(mortal, algorithm)
    assert its == told
    if not model.FILE.endswith(".skops"):
        assert model.saved() == whole.saved()
    for line in (mortal / "SHA256SUMS").read_text().splitlines():
        total, name = line.split()
        assert total == hashlib.sha256((mortal / name).read_bytes()).hexdigest()
