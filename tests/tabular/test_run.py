"""A run of tables, from its start over its deaths to the files that it leaves."""

import hashlib
import random
import signal

import pytest

from testkit.mortal import live, model_left_by, told_by
from testkit.series import sample_of_a_series
from trainers.contract import EXIT_DONE
from trainers.tabular import Options

TOLD = {
    "lgbm": {"n_estimators": 90, "bagging_freq": 2},
    "xgboost": {"n_estimators": 90, "subsample": 0.6},
    "rf": {"n_estimators": 35, "max_depth": 6},
    "isolation_forest": {"n_estimators": 35},
}
ASKED = {
    "lgbm": {"early_stopping_rounds": 30, "backtest": {"folds": 2}, "quantiles": [0.1, 0.9]},
    "xgboost": {"early_stopping_rounds": 30, "backtest": {"folds": 2}, "quantiles": [0.1, 0.9]},
    "rf": {"backtest": {"folds": 2}},
    "isolation_forest": {"model_type": "anomaly", "features": ["load"], "target": None},
}


@pytest.mark.parametrize("algorithm", Options.ALGORITHMS)
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
    assert told_by(mortal) == told_by(alive)
    whole, model = model_left_by(alive), model_left_by(mortal)
    if not model.FILE.endswith(".skops"):
        assert model.saved() == whole.saved()
        for path in alive.glob("model.q*"):
            assert (mortal / path.name).read_bytes() == path.read_bytes()
    for line in (mortal / "SHA256SUMS").read_text().splitlines():
        total, name = line.split()
        assert total == hashlib.sha256((mortal / name).read_bytes()).hexdigest()
