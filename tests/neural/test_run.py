"""A run of networks, from its start over its deaths to the files that it leaves."""

import random
import signal

import pytest

from testkit.mortal import live, told_by
from testkit.series import sample_of_a_series
from trainers.contract import EXIT_DONE

EPOCHS = 8
MOST = {"ROUND": EPOCHS, "SYNC": 12}
ALGORITHMS = ("mlp", "lstm")


@pytest.mark.parametrize("model_type", ["forecast", "anomaly"])
def test_a_run_that_dies_again_and_again_leaves_what_one_leaves_that_lives(make_run, model_type):
    """Killed after epochs and in the write of checkpoints: the same file, metrics and card."""
    asked = {"model_type": model_type, "epochs": EPOCHS, "early_stopping_rounds": 3}
    if model_type == "forecast":
        asked["backtest"] = {"folds": 2}
    count, seed = sample_of_a_series(3)
    attempts = []
    for algorithm in ALGORITHMS:
        alive, mortal = (
            make_run(algorithm, f"{algorithm}-{n}", **asked) for n in ("alive", "mortal")
        )
        chance = random.Random(f"{model_type} {algorithm} {seed}")  # noqa: S311 - to be had again
        kinds = [chance.choice(list(MOST)) for _ in range(count)]
        attempts += [(mortal, what, chance.randint(1, MOST[what])) for what in kinds]
        attempts += [(mortal, "NEVER", 0), (alive, "NEVER", 0)]
    ended = live(*attempts)
    while attempts:
        *died, done, never_dead = ended[: count + 2]
        del ended[: count + 2]
        assert died[0] == -signal.SIGKILL
        assert set(died) <= {-signal.SIGKILL, EXIT_DONE}
        assert done == never_dead == EXIT_DONE
        mortal, alive = (run for run, *_ in attempts[count : count + 2])
        del attempts[: count + 2]
        assert told_by(mortal) == told_by(alive)
        files = [(run / "model.safetensors").read_bytes() for run in (alive, mortal)]
        assert files[0] == files[1]
