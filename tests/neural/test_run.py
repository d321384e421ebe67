"""A run of networks, from its start over its deaths to the files that it leaves."""

import random
import signal

import pytest

from testkit.mortal import live, told_by
from testkit.series import sample_of_a_series
from trainers.contract import EXIT_DONE

KINDS = [
    ("forecast", "mlp"),
    ("forecast", "lstm"),
    ("anomaly", "mlp"),
    ("anomaly", "lstm"),
]
EPOCHS = 8


@pytest.mark.parametrize("kind", KINDS, ids="-".join)
def test_a_run_that_dies_again_and_again_leaves_what_one_leaves_that_lives(make_run, kind):
    """Killed after epochs and in the write of checkpoints: the same file, metrics and card."""
    model_type, algorithm = kind
    asked = {"model_type": model_type, "epochs": EPOCHS, "early_stopping_rounds": 3}
    if model_type == "forecast":
        asked["backtest"] = {"folds": 2}
    alive, mortal = (make_run(algorithm, name, **asked) for name in ("alive", "mortal"))
    count, seed = sample_of_a_series(3)
    chance = random.Random(f"{kind} {seed}")  # noqa: S311 - deaths that can be had again
    most = {"ROUND": EPOCHS, "SYNC": 12}
    deaths = [
        (mortal, what, chance.randint(1, most[what]))
        for what in (chance.choice(list(most)) for _ in range(count))
    ]
    *died, done, never_dead = live(*deaths, (mortal, "NEVER", 0), (alive, "NEVER", 0))
    assert died[0] == -signal.SIGKILL
    assert set(died) <= {-signal.SIGKILL, EXIT_DONE}
    assert done == never_dead == EXIT_DONE
    assert told_by(mortal) == told_by(alive)
    files = [(run / "model.safetensors").read_bytes() for run in (alive, mortal)]
    assert files[0] == files[1]
