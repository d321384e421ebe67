"""A run of directions, from its start over its deaths to the files that it leaves."""

import hashlib
import random
import signal

from testkit.mortal import live, model_left_by, told_by
from testkit.series import sample_of_a_series
from trainers.contract import EXIT_DONE


def test_a_run_that_dies_again_and_again_leaves_what_one_leaves_that_lives(make_run):
    """Killed in rounds and in the write of checkpoints, with other threads: the same bytes."""
    asked = {"params": {"nround": 90, "maxDepth": 4}, "early_stopping_rounds": 60}
    alive, mortal = make_run("alive", **asked), make_run("mortal", threads=2, **asked)
    count, seed = sample_of_a_series(5)
    chance = random.Random(f"direction {seed}")  # noqa: S311 - deaths that can be had again
    most = {"ROUND": 90, "SYNC": 12}
    deaths = [
        (mortal, what, chance.randint(1, most[what]))
        for what in (chance.choice(list(most)) for _ in range(count))
    ]
    *died, done, never_dead = live(*deaths, (mortal, "NEVER", 0), (alive, "NEVER", 0))
    assert died[0] == -signal.SIGKILL
    assert set(died) <= {-signal.SIGKILL, EXIT_DONE}
    assert done == never_dead == EXIT_DONE
    assert told_by(mortal) == told_by(alive)
    assert model_left_by(mortal).saved() == model_left_by(alive).saved()
    assert (mortal / "trades.png").read_bytes() == (alive / "trades.png").read_bytes()
    for line in (mortal / "SHA256SUMS").read_text().splitlines():
        total, name = line.split()
        assert total == hashlib.sha256((mortal / name).read_bytes()).hexdigest()
