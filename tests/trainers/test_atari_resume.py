"""An interrupted run is what it would have been without the interruptions, to the bit."""

import signal
import zlib

import msgspec
import numpy as np
import pytest
import torch
from trainer_lives import write_spec
from warm_lives import WarmLives

from testkit.patience import until
from trainers.atari.forms import machine
from trainers.atari.game import GameState
from trainers.checkpoint import Checkpoints
from trainers.contract import Tuning

pytestmark = pytest.mark.slow

GAMES = [
    *("MsPacman", "Asteroids", "Seaquest", "BeamRider", "SpaceInvaders"),
    *("Enduro", "Breakout", "Boxing", "Freeway", "Pong"),
]
ROLLOUT_STEPS = 64
ROLLOUTS = 7
OTHERWISE = {
    "Breakout": {
        "threads": 2,
        "tunings": (
            Tuning(
                load={"threads": 2, "batch_size": 32},
                machine=machine(torch.device("cpu")),
                choice={"convolutions": "space_to_depth"},
                took_s={},
            ),
        ),
    }
}
"""games that are learnt with threads, and in another form than the default"""
WHOLE = ("Breakout", "Pong")
"""games that are learnt with the network as it is, whose weights take most of the time"""
NEVER_S = 1e6
RANDOM_DELAY_S = 0.3
"""about one cycle of rollout, update and checkpoint"""


@pytest.fixture(scope="module")
def lives():
    """Starts trainers quickly."""
    with WarmLives() as warm:
        yield warm


@pytest.fixture
def make(tmp_path):
    """Makes run folders."""

    def make(run, game, **fields):
        folder = tmp_path / run
        folder.mkdir()
        small = {"rollout_steps": ROLLOUT_STEPS, "device": "cpu", "sticky_actions": 0.25}
        write_spec(
            folder,
            trainer="atari",
            name=game,
            n_envs=2,
            batch_size=32,
            target_steps=ROLLOUTS * ROLLOUT_STEPS,
            **{"options": small, "checkpoint_interval_s": 0.001, **fields},
        )
        return folder

    return make


def newest_step(run):
    return max((int(path.name) for path in (run / "checkpoints").glob("[0-9]*")), default=0)


def everything(run):
    """All that the newest checkpoint of a run holds, comparable."""
    checkpoint = Checkpoints(run / "checkpoints").newest().checkpoint
    state = torch.load(checkpoint.path / "state.pt", weights_only=True)
    content = zlib.decompress((checkpoint.path / "games.msgpack.zlib").read_bytes())
    games = [
        msgspec.msgpack.decode(game, type=GameState)
        for game in msgspec.msgpack.decode(content, type=list[bytes])
    ]
    return checkpoint.manifest.step, plain(state), games


def plain(value):
    """`value` with the bits and the strides of each tensor in its place."""
    if isinstance(value, torch.Tensor):
        return value.stride(), value.contiguous().numpy().tobytes()
    if isinstance(value, dict):
        return {key: plain(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(part) for part in value]
    return value


@pytest.mark.parametrize("game", GAMES)
def test_a_run_killed_at_random_points_is_the_run_that_was_not(game, lives, make):
    """Weights, optimizer, chance, and games agree to the bit after two kills and a stop."""
    fields = OTHERWISE.get(game, {})
    network = "whole" if game in WHOLE else "narrow"
    broken = make("broken", game, **fields)
    # A checkpoint is a part of an interruption: who is not interrupted writes the last one only.
    whole = make("whole", game, checkpoint_interval_s=NEVER_S, **fields)
    undisturbed = lives.start(whole, network)
    rng = np.random.default_rng(GAMES.index(game))
    resumed_from = []
    for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGKILL):
        before = newest_step(broken)
        life = lives.start(broken, network)
        until(lambda: newest_step(broken) > before or life.wait(0))  # noqa: B023 - at once
        life.wait(rng.uniform(0, RANDOM_DELAY_S))
        life.signal(number)
        assert life.wait()
        resumed_from.append(newest_step(broken))
    assert lives.start(broken, network).wait()
    assert undisturbed.wait()
    step, state, games = everything(broken)
    assert 0 < resumed_from[0] < step == ROLLOUTS * ROLLOUT_STEPS
    assert (step, state, games) == everything(whole)
