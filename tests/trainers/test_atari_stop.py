"""A stop loses nothing: a run that was stopped is the run that was not, wherever it stood."""

import shutil
import zlib

import msgspec
import numpy as np
import pytest
import torch
from narrow import Narrow
from trainer_lives import write_spec

from trainers import atari
from trainers.atari import game as atari_game
from trainers.atari import learner as atari_learner
from trainers.atari import ppo as atari_ppo
from trainers.atari import snapshot as atari_snapshot
from trainers.atari.game import GameState
from trainers.attempt import read_spec
from trainers.checkpoint import Checkpoints
from trainers.contract import EXIT_AGAIN, EXIT_DONE, RunFolder
from trainers.session import Session, Stop

pytestmark = pytest.mark.slow

N_ENVS, BATCH_SIZE, ROLLOUT_STEPS = 2, 16, 32
STEPS = ROLLOUT_STEPS // N_ENVS
"""of all games, in a rollout"""
GRADIENT_STEPS = 4 * ROLLOUT_STEPS // BATCH_SIZE
CYCLE = STEPS + GRADIENT_STEPS
"""how often a trainer gives way between two updates"""
ROLLOUTS = 2
TARGET = ROLLOUTS * ROLLOUT_STEPS - 5
"""in the middle of the last rollout"""
OPTIONS = {"rollout_steps": ROLLOUT_STEPS, "device": "cpu", "sticky_actions": 0.25}
NEVER_S = 1e6
ALWAYS_S = 0.001


@pytest.fixture(autouse=True, scope="module")
def _light():
    """Lives that begin soon: with a narrow network, and with emulators that are loaded already."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(atari_ppo, "Network", Narrow)
        patch.setattr(atari_game, "_loaded", {})
        atari_game.preload("breakout", 2 * N_ENVS)
        yield


class StopAt(Stop):
    """Asks for a stop when the trainer gives way for the n-th time."""

    def __init__(self, n, monkeypatch):
        super().__init__()
        self.given_way = 0
        give_way = atari_learner._Pilot._give_way

        def counted(pilot):
            self.given_way += 1
            self.requested = self.given_way >= n
            give_way(pilot)

        monkeypatch.setattr(atari_learner._Pilot, "_give_way", counted)


@pytest.fixture
def make(tmp_path):
    """Makes run folders: `make("run", n_envs=4)`."""

    def make(name, **fields):
        run = tmp_path / name
        run.mkdir(exist_ok=True)
        spec = {
            "trainer": "atari",
            "name": "Breakout",
            "n_envs": N_ENVS,
            "batch_size": BATCH_SIZE,
            "checkpoint_interval_s": NEVER_S,
            "options": OPTIONS,
        }
        write_spec(run, **{**spec, "target_steps": TARGET, **fields})
        return run

    return make


def live(run, stop=None):
    """One life in this process; its session and exit code."""
    folder = RunFolder(run)
    session = Session(folder, read_spec(folder), stop=stop)
    atari.train(session)
    return session, session.finish()


def stopped(run, n, monkeypatch):
    """One life that is stopped when it gives way for the n-th time; its session."""
    with monkeypatch.context() as patch:
        session, code = live(run, StopAt(n, patch))
    assert code == EXIT_AGAIN
    return session


def newest(run):
    return Checkpoints(run / "checkpoints").newest().checkpoint


def state_of(run):
    return torch.load(newest(run).path / "state.pt", weights_only=True)


def everything(run):
    """All that the newest checkpoint of a run holds, comparable."""
    checkpoint = newest(run)
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


def lines_of(run):
    """What the run has measured, without its times."""
    lines = map(msgspec.json.decode, (run / "metrics.jsonl").read_bytes().splitlines())
    times = {"at", "steps_per_s"}
    return [{key: value for key, value in line.items() if key not in times} for line in lines]


@pytest.fixture(scope="module")
def whole(tmp_path_factory, _light):
    """A run that nobody has stopped: all that its checkpoint holds, and what it measured."""
    run = tmp_path_factory.mktemp("whole") / "run"
    run.mkdir()
    fields = {"n_envs": N_ENVS, "batch_size": BATCH_SIZE, "checkpoint_interval_s": NEVER_S}
    write_spec(
        run, trainer="atari", name="Breakout", target_steps=TARGET, options=OPTIONS, **fields
    )
    assert live(run)[1] == EXIT_DONE
    return everything(run), lines_of(run)


@pytest.mark.parametrize(
    "n",
    [
        *(1, STEPS, STEPS + 1, STEPS + 4, CYCLE, CYCLE + 9),
        *(2 * CYCLE - GRADIENT_STEPS - 1, 2 * CYCLE - 1, 2 * CYCLE),
    ],
)
def test_wherever_it_is_stopped_nothing_is_lost(n, make, monkeypatch, whole):
    """In each step of each rollout and of each update: same weights, games, chance and figures."""
    run = make("run")
    rollouts, place = divmod(n, CYCLE)
    session = stopped(run, n, monkeypatch)
    played = rollouts * ROLLOUT_STEPS + min(place, STEPS) * N_ENVS
    assert state_of(run)["num_timesteps"] == played
    # The target is not told as reached before all is learnt.
    assert session.step == newest(run).manifest.step == min(played, TARGET - 1)
    assert live(run)[1] == EXIT_DONE
    assert (everything(run), lines_of(run)) == whole


@pytest.mark.parametrize(
    "stops",
    [
        [3, 4, 2],
        [STEPS - 1, 1, 1, 1],
        [STEPS + 3, 2, STEPS],
        [CYCLE + STEPS - 1, 1, 2, 1],
    ],
)
def test_several_stops_lose_nothing(stops, make, monkeypatch, whole):
    """Twice in a rollout, twice in an update, and with the target reached but not learnt."""
    run = make("run")
    for n in stops:
        stopped(run, n, monkeypatch)
    given_way = StopAt(10**9, monkeypatch)
    assert live(run, given_way)[1] == EXIT_DONE
    assert (everything(run), lines_of(run)) == whole
    # Not only is it the same: nothing of it was done twice.
    assert given_way.given_way == ROLLOUTS * CYCLE - sum(stops)


def test_a_stop_before_the_first_step_writes_nothing(make, monkeypatch):
    """What the checkpoint holds is what there is."""
    run = make("run")
    stopped(run, 5, monkeypatch)
    before = newest(run).manifest
    stop = Stop()
    load = atari_snapshot.load

    def slow(*arguments):
        stop.requested = True
        return load(*arguments)

    monkeypatch.setattr(atari_snapshot, "load", slow)
    assert live(run, stop)[1] == EXIT_AGAIN
    assert newest(run).manifest == before


def test_a_death_after_a_stop_costs_what_came_after_it(make, monkeypatch, whole):
    """The checkpoint of the stop is gone on from again and again."""
    run = make("run")
    for n in (7, STEPS + 3):
        stopped(run, n, monkeypatch)
        with monkeypatch.context() as patch:
            patch.setattr(atari_learner._Pilot, "_save", lambda *_, **__: None)
            held = newest(run).manifest
            live(run, StopAt(CYCLE + 1, patch))
        assert newest(run).manifest == held
    assert live(run)[1] == EXIT_DONE
    assert (everything(run)) == whole[0]


def test_a_save_after_a_stop_in_an_update_replaces_it(make, monkeypatch, whole):
    """The update is over at the same step; who goes on from there need not repeat it."""
    run = make("run", checkpoint_interval_s=ALWAYS_S)
    stopped(run, STEPS + 3, monkeypatch)
    assert state_of(run)["unfinished"]
    with monkeypatch.context() as patch:
        taken = atari_learner._Pilot._leave
        patch.setattr(atari_learner._Pilot, "_leave", lambda pilot: _die(pilot, taken))
        with pytest.raises(_Died):
            live(run, StopAt(GRADIENT_STEPS - 3 + 1, patch))
    assert newest(run).manifest.step == ROLLOUT_STEPS
    assert not state_of(run)["unfinished"]
    make("run")
    assert live(run)[1] == EXIT_DONE
    assert everything(run) == whole[0]


class _Died(Exception):
    pass


def _die(pilot, _):
    pilot._session.settle()
    raise _Died


OTHER_MODE = {"n_envs": 2 * N_ENVS, "batch_size": 2 * BATCH_SIZE}


@pytest.mark.parametrize(
    ("n", "other"),
    [
        *((n, OTHER_MODE) for n in (9, STEPS, STEPS + 3)),
        (STEPS - 1, {"n_envs": 1}),
        (9, {"options": {**OPTIONS, "rollout_steps": 2 * ROLLOUT_STEPS}}),
        (9, {"options": {**OPTIONS, "rollout_steps": ROLLOUT_STEPS // 4}}),
        (STEPS + 3, {"options": {**OPTIONS, "rollout_steps": ROLLOUT_STEPS // 4}}),
        (9, {"options": {**OPTIONS, "environments": "native"}}),
    ],
)
def test_a_move_of_mode_loses_no_step(n, other, make, monkeypatch):
    """What was played is learnt from in the other mode, with as many new steps as are missing."""
    run = make("run", target_steps=10_000)
    stopped(run, n, monkeypatch)
    left = state_of(run)
    make("run", target_steps=10_000, **other)
    learnt, boundaries = [], []
    update, start = atari_learner.Ppo.update, atari_learner._Pilot._on_rollout_start

    def updated(model, minibatch, clip_range):
        learnt.append(len(minibatch.actions))
        return update(model, minibatch, clip_range)

    def started(pilot):
        boundaries.append(pilot.model.num_timesteps)
        if len(boundaries) == 2:
            raise atari_learner._Stopped
        start(pilot)

    monkeypatch.setattr(atari_learner.Ppo, "update", updated)
    monkeypatch.setattr(atari_learner._Pilot, "_on_rollout_start", started)
    live(run)
    assert boundaries[0] == left["num_timesteps"]
    n_new = boundaries[1] - boundaries[0]
    n_kept = len(left["unfinished"]["transitions"][1])
    if left["unfinished"]["order"] is not None:
        # The rest of the update, and nothing is played for it.
        n_before = left["unfinished"]["epoch"] * n_kept + left["unfinished"]["done"]
        assert (n_new, sum(learnt)) == (0, 4 * n_kept - n_before)
    else:
        n_envs = other.get("n_envs", N_ENVS)
        n_wanted = other.get("options", OPTIONS)["rollout_steps"]
        assert n_kept == left["num_timesteps"] % ROLLOUT_STEPS or n_kept == ROLLOUT_STEPS
        assert n_new == max(0, (n_wanted - n_kept) // n_envs * n_envs)
        assert sum(learnt) == 4 * (n_kept + n_new)


def test_moves_of_mode_in_one_rollout_keep_all_that_was_played(make, monkeypatch):
    """Through three modes, with a stop in each, until the rollout is full."""
    run = make("run", target_steps=10_000)
    stopped(run, 3, monkeypatch)
    make("run", target_steps=10_000, n_envs=4)
    stopped(run, 2, monkeypatch)
    make("run", target_steps=10_000, n_envs=1)
    stopped(run, 1, monkeypatch)
    stopped(run, 4, monkeypatch)
    left = state_of(run)["unfinished"]
    assert state_of(run)["num_timesteps"] == 3 * 2 + 2 * 4 + 1 + 4
    assert len(left["transitions"][1]) == 19
    make("run", target_steps=10_000)
    stopped(run, 6 + 1, monkeypatch)
    left = state_of(run)
    assert (left["num_timesteps"], left["unfinished"]["done"]) == (31, BATCH_SIZE)


def test_a_checkpoint_of_an_older_version_goes_on(make, monkeypatch, whole):
    """One that was written at an update boundary knows nothing of half rollouts."""
    run = make("run", target_steps=ROLLOUT_STEPS)
    assert live(run)[1] == EXIT_DONE
    checkpoint = newest(run)
    state = state_of(run)
    del state["unfinished"]
    aside = run / "aside"
    shutil.move(checkpoint.path, aside)
    torch.save(state, aside / "state.pt")
    files = [(name, (aside / name).read_bytes()) for name in checkpoint.manifest.files]
    Checkpoints(run / "checkpoints").save(
        msgspec.structs.replace(checkpoint.manifest, files={}), files
    )
    make("run")
    # Its schedules have decayed over another target, and so it is not the same run.
    assert live(run)[1] == EXIT_DONE
    assert newest(run).manifest.step == everything(run)[0] == whole[0][0]


@pytest.mark.parametrize("convolutions", ["contiguous", "channels_last", "space_to_depth"])
def test_pictures_are_unpacked_as_they_were_packed(convolutions):
    """A checkpoint holds plain pictures, whatever form calculates."""
    from gymnasium import spaces  # noqa: PLC0415

    from trainers.atari.game import OBSERVATION  # noqa: PLC0415
    from trainers.atari.ppo import Form, Network  # noqa: PLC0415

    space = spaces.Box(0, 255, OBSERVATION, np.uint8)
    network = Network(space, form=Form(convolutions=convolutions))
    chance = np.random.default_rng(1)
    pictures = torch.from_numpy(chance.integers(0, 256, (5, 84, 84), np.uint8))
    assert torch.equal(network.unpack(network.pack(pictures)), pictures)
