"""Any environment is learnt, killed, and gone on with as if nothing had been."""

import io
import signal
import zipfile
from copy import deepcopy

import gymnasium
import msgspec
import numpy as np
import psutil
import pytest
import stable_baselines3
import torch
from gymnasium import spaces
from PIL import Image
from trainer_lives import write_spec

from testkit.patience import until
from trainers import options, sb3
from trainers.__main__ import main
from trainers.attempt import read_spec
from trainers.checkpoint import Checkpoints
from trainers.contract import EXIT_AGAIN, EXIT_DONE, BadSpec, RunFolder
from trainers.importing import bring
from trainers.session import Session, Stop

SMALL = {"policy_kwargs": {"net_arch": [16]}}
OFF = {**SMALL, "buffer_size": 500, "learning_starts": 40, "batch_size": 16, "train_freq": 4}
LEARNT = {
    "ppo": ("CartPole-v1", {**SMALL, "n_steps": 64, "batch_size": 32, "n_epochs": 2}, True),
    "a2c": ("Pendulum-v1", {**SMALL, "n_steps": 16, "learning_rate": "lin_1e-3"}, True),
    "dqn": ("CartPole-v1", {**OFF, "exploration_fraction": 0.5}, None),
    "sac": ("Pendulum-v1", {**OFF, "gradient_steps": 1}, {"norm_reward": False}),
    "td3": ("MountainCarContinuous-v0", {**OFF, "gradient_steps": 1}, None),
}
STATE = "state.pt"


class Countdown(gymnasium.Env):
    """Counts down from ten, whatever is done; it can be neither saved nor drawn."""

    action_space = spaces.Box(-1.0, 1.0, (1,), np.float32)
    observation_space = spaces.Box(0.0, 10.0, (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.left = 10
        return np.array([10], np.float32), {}

    def step(self, action):
        self.left -= 1
        return np.array([self.left], np.float32), float(action[0]), self.left == 0, False, {}


class Chosen(Countdown):
    """Only two of its three actions are ever possible."""

    action_space = spaces.Discrete(3)

    def action_masks(self):
        return np.array([True, False, True])

    def step(self, action):
        assert action != 1
        return super().step([action])


class Wanted(Countdown):
    """Wants a place to be reached, which it draws anew in each episode."""

    observation_space = spaces.Dict(
        {
            name: spaces.Box(-1.0, 10.0, (1,), np.float32)
            for name in ("observation", "achieved_goal", "desired_goal")
        }
    )

    def reset(self, *, seed=None, options=None):
        self.wanted = self.np_random.uniform(-1, 1, 1).astype(np.float32)
        return self._seen(super().reset(seed=seed)[0]), {}

    def step(self, action):
        seen, *rest = super().step(action)
        return self._seen(seen), *rest

    def compute_reward(self, achieved, desired, _):
        return -np.abs(achieved - desired)[..., 0]

    def _seen(self, place):
        names = ("observation", "achieved_goal", "desired_goal")
        return dict(zip(names, (place, place.copy(), self.wanted.copy()), strict=True))


class Painted(Countdown):
    """Is seen as a picture."""

    action_space = spaces.Discrete(2)
    observation_space = spaces.Box(0, 255, (36, 36, 3), np.uint8)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.full((36, 36, 3), self.left, np.uint8), {}

    def step(self, action):
        _, *rest = super().step([action])
        return np.full((36, 36, 3), self.left, np.uint8), *rest


@pytest.fixture(autouse=True)
def _registered():
    kinds = (Countdown, Chosen, Wanted, Painted)
    for kind in kinds:
        gymnasium.register(f"{kind.__name__}-v0", entry_point=kind)
    yield
    for kind in kinds:
        del gymnasium.registry[f"{kind.__name__}-v0"]


class StopAt(Stop):
    """Asks for a stop once the session is at a step."""

    def __init__(self, step):
        super().__init__()
        self.step = step
        self.session = None

    @property
    def requested(self):
        return self.session is not None and self.session.step >= self.step

    @requested.setter
    def requested(self, _):
        pass


@pytest.fixture
def learn(tmp_path):
    """Learns up to a step: `learn("run", 128, algorithm="ppo")` gives the session that did."""

    def attempt(run, steps, *, stop_at=None, load=None, name=None, interval_s=0.01, **given):
        folder = RunFolder(tmp_path / "runs" / run)
        folder.path.mkdir(parents=True, exist_ok=True)
        algorithm = given.setdefault("algorithm", "ppo")
        env, hyperparameters, normalize = LEARNT[algorithm]
        given = {
            "env": env,
            "hyperparameters": hyperparameters,
            "device": "cpu",
            "schedule_steps": 400,
            "normalize": normalize,
            **given,
        }
        write_spec(
            folder.path,
            trainer="sb3",
            name=name or "anything",
            target_steps=steps,
            checkpoint_interval_s=interval_s,
            options=given,
            load=load or {},
        )
        spec = read_spec(folder)
        options.validate(sb3, spec)
        stop = StopAt(stop_at) if stop_at else Stop()
        session = Session(folder, spec, stop=stop)
        stop.session = session
        sb3.train(session)
        assert session.finish() == (EXIT_AGAIN if stop_at else EXIT_DONE)
        return session

    return attempt


def files_of(session):
    """The content of a checkpoint's files, but for the state."""
    return {
        path.name: path.read_bytes()
        for path in session.checkpoint.path.iterdir()
        if path.suffix == ".raw"
    }


def state_of(session):
    """The state in a checkpoint; nothing but tensors and plain values can be loaded so.

    The best mean is that of the moments at which a line was logged, which come by the clock.
    """
    state = torch.load(session.checkpoint.path / STATE, weights_only=True)
    del state["tally"]["best"]
    return state


def same(one, other):
    """Whether two values are equal to the bit, whatever they consist of."""
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other


def notices_of(session):
    return msgspec.json.decode(session.folder.heartbeat.read_bytes())["notices"]


@pytest.mark.parametrize("algorithm", LEARNT)
def test_classic_control_goes_on_to_the_bit(learn, algorithm):
    """Weights, optimizers, counters, schedules, random numbers, statistics, replay buffer."""
    whole = learn("whole", 256, algorithm=algorithm, n_envs=2)
    learn("cut", 128, algorithm=algorithm, n_envs=2)
    cut = learn("cut", 256, algorithm=algorithm, n_envs=2)
    assert same(state_of(whole), state_of(cut))
    assert files_of(whole) == files_of(cut)
    assert bool(files_of(cut)) == (algorithm in ("dqn", "sac", "td3"))
    assert notices_of(cut) == []
    assert (cut.step, cut.episodes) == (whole.step, whole.episodes)


def test_a_stop_is_not_the_end_of_it(learn):
    """A stop between two rollouts keeps all; what falls does so over the whole run."""
    whole = learn("whole", 256, algorithm="a2c")
    stopped = learn("cut", 256, algorithm="a2c", stop_at=100)
    assert 100 < stopped.checkpoint.manifest.step <= 128
    assert same(state_of(whole), state_of(learn("cut", 256, algorithm="a2c")))
    rates = [
        group["lr"] for group in state_of(whole)["weights"]["policy.optimizer"]["param_groups"]
    ]
    assert rates == [pytest.approx(1e-3 * (1 - 256 / 400))]


def test_a_long_rollout_is_left_in_its_midst(learn, monkeypatch):
    """Its steps count as not made, since nothing was learnt from them."""
    from trainers.sb3 import learner  # noqa: PLC0415 - imports torch

    monkeypatch.setattr(learner, "NEAR_S", 0)
    learn("run", 64)
    stopped = learn("run", 10_000, stop_at=150, interval_s=1000)
    assert stopped.checkpoint.manifest.step == stopped.step == 128
    assert stopped.checkpoint.manifest.episodes == state_of(stopped)["tally"]["games"]
    again = learn("run", 192)
    assert again.step == 192
    assert any("in the midst of a rollout" in notice for notice in notices_of(again))
    updates = [state_of(session)["counters"]["_n_updates"] for session in (stopped, again)]
    assert updates == [4, 6]


def test_a_stop_before_anything_is_learnt_takes_nothing_away(learn):
    """The checkpoint that the attempt went on from is left, episodes and all."""
    before = learn("run", 64)
    place = state_of(before)["places"]
    stopped = learn("run", 10_000, stop_at=70)
    assert stopped.step == 64
    assert place is not None
    assert same(state_of(stopped)["places"], place)
    held = before.checkpoint.path.stat().st_ino
    again = learn("run", 64)
    assert again.checkpoint.path.stat().st_ino == held  # nothing was left to do


def test_what_cannot_be_saved_begins_new_episodes_with_its_old_replay_buffer(learn):
    """A person hears why; no transition is lost, and the episode that was cut off ends there."""
    given = {"algorithm": "sac", "env": "Countdown-v0", "normalize": True}
    before = learn("run", 104, **given)
    held, counted = files_of(before), state_of(before)
    assert counted["replay"]["pos"] == 104
    after = learn("run", 108, **given)
    assert any("with new episodes: the environment cannot be saved" in n for n in notices_of(after))
    now = files_of(after)
    for name in ("observations", "next_observations", "actions", "rewards"):
        one = np.frombuffer(held[f"replay-{name}.raw"], np.float32)[:104]
        assert np.array_equal(one, np.frombuffer(now[f"replay-{name}.raw"], np.float32)[:104])
    over = np.frombuffer(now["replay-dones.raw"], np.float32)
    cut = np.frombuffer(now["replay-timeouts.raw"], np.float32)
    assert (over[103], cut[103], cut[:103].sum()) == (1, 1, 0)
    observed = [state_of(session)["normalize"]["observations"][""] for session in (before, after)]
    # A step of four, and the first look at a new episode.
    assert observed[1]["count"] == pytest.approx(observed[0]["count"] + 5)
    assert after.episodes >= before.episodes > 0
    assert state_of(after)["counters"]["_n_updates"] > counted["counters"]["_n_updates"]


def test_a_replay_buffer_is_dealt_anew_to_other_environments(learn):
    """The mode that gives fewer or more takes nothing that was played away."""
    given = {"algorithm": "sac", "env": "Countdown-v0"}
    before = learn("run", 120, load={"n_envs": 2}, **given)
    after = learn("run", 124, load={"n_envs": 1}, **given)
    rewards = [
        np.frombuffer(files_of(session)["replay-rewards.raw"], np.float32)[:120]
        for session in (before, after)
    ]
    assert np.array_equal(*rewards)
    assert state_of(after)["replay"] | {"rows": 0} == {
        "pos": 124, "full": False, "rows": 0, "n_envs": 1
    }  # fmt: skip
    assert any("n_envs 1, not 2" in notice for notice in notices_of(after))


def test_a_smaller_replay_buffer_keeps_what_is_newest(learn):
    """Also of one that was full, whose newest transition lies in its middle."""
    full = {**OFF, "buffer_size": 100}
    given = {"algorithm": "sac", "env": "Countdown-v0"}
    before = learn("run", 140, hyperparameters=full, **given)
    after = learn("run", 144, hyperparameters={**full, "buffer_size": 60}, **given)
    old = np.frombuffer(files_of(before)["replay-rewards.raw"], np.float32)
    new = np.frombuffer(files_of(after)["replay-rewards.raw"], np.float32)
    assert state_of(before)["replay"]["pos"] == 40
    assert np.array_equal(new[4:], np.roll(old, -40)[-56:])


HINDSIGHT = {
    **OFF,
    "replay_buffer_class": "HerReplayBuffer",
    "replay_buffer_kwargs": "dict(n_sampled_goal=2)",
}
THRIFTY = {
    **OFF,
    "buffer_size": 100,
    "policy_kwargs": {"features_extractor_kwargs": {"features_dim": 8}},
    "optimize_memory_usage": True,
    "replay_buffer_kwargs": {"handle_timeout_termination": False},
}


@pytest.mark.parametrize(
    ("algorithm", "env", "hyperparameters"),
    [("sac", "Wanted-v0", HINDSIGHT), ("dqn", "Painted-v0", THRIFTY)],
)
def test_a_replay_buffer_of_whole_episodes_goes_on_or_is_filled_again(
    learn, algorithm, env, hyperparameters
):
    """With as many environments it is kept; with others it cannot be, and nothing is learnt yet."""
    given = {"algorithm": algorithm, "env": env, "hyperparameters": hyperparameters}
    given["normalize"] = False
    learn("run", 120, **given)
    kept = learn("run", 124, **given)
    assert state_of(kept)["replay"]["pos"] == 124 % hyperparameters["buffer_size"]
    updates = state_of(kept)["counters"]["_n_updates"]
    other = learn("run", 148, n_envs=2, **given)
    assert state_of(other)["replay"]["pos"] * 2 == 24
    assert state_of(other)["counters"]["_n_updates"] == updates
    assert any("filled again" in notice for notice in notices_of(other))
    assert state_of(learn("run", 180, n_envs=2, **given))["counters"]["_n_updates"] > updates


def test_what_a_zoo_lays_around_an_environment_is_there(learn, tmp_path):
    """Noise, wrappers and statistics of what they make; the run begins new episodes then."""
    zoo = tmp_path / "td3.yml"
    zoo.write_text(
        "MountainCarContinuous-v0:\n  noise_type: normal\n  noise_std: 0.1\n"
        '  normalize: "dict(norm_reward=False)"\n'
        "  env_wrapper:\n    - gymnasium.wrappers.RescaleAction:\n"
        "        min_action: -1.0\n        max_action: 1.0\n"
        "    - sb3_contrib.common.wrappers.TimeFeatureWrapper\n"
    )
    given = {"algorithm": "td3", "zoo": str(zoo), "normalize": None}
    before = learn("run", 60, **given)
    weights = state_of(before)["weights"]["policy"]["actor.mu.0.weight"]
    assert weights.shape == (16, 3)  # position, velocity and time
    assert state_of(before)["normalize"]["observations"][""]["mean"].shape == (3,)
    after = learn("run", 100, **given)
    assert any("what is laid around it cannot be saved" in one for one in notices_of(after))


def test_what_is_laid_around_an_environment_may_change(learn, tmp_path):
    """Episodes that were saved without it are not gone on with."""
    zoo = tmp_path / "ppo.yml"
    limit = "gymnasium.wrappers.TimeLimit: {max_episode_steps: 50}"
    zoo.write_text(f"CartPole-v1:\n  env_wrapper:\n    - {limit}\n")
    learn("run", 64)
    assert any("with new episodes" in one for one in notices_of(learn("run", 128, zoo=str(zoo))))
    assert any("with new episodes" in one for one in notices_of(learn("run", 192)))


def test_observations_are_stacked(learn, tmp_path):
    """As many of the last ones as a zoo says, each normalised."""
    zoo = tmp_path / "ppo.yml"
    zoo.write_text("CartPole-v1:\n  frame_stack: 3\n  n_envs: 2\n  normalize: true\n")
    session = learn("run", 128, zoo=str(zoo), normalize=None)
    weights = state_of(session)["weights"]["policy"]["mlp_extractor.policy_net.0.weight"]
    assert weights.shape == (16, 3 * 4)
    assert len(sb3.evaluate(session.spec, session.checkpoint.path, 3)) == 3


def test_only_what_is_possible_is_done(learn):
    """In training, after a resume and in an evaluation."""
    LEARNT["ppo_mask"] = ("Chosen-v0", {**SMALL, "n_steps": 20, "batch_size": 20}, False)
    learn("run", 40, algorithm="ppo_mask")
    session = learn("run", 80, algorithm="ppo_mask")
    assert len(sb3.evaluate(session.spec, session.checkpoint.path, 2)) == 2


def test_the_run_of_another_algorithm_or_environment_is_refused(learn):
    """What it has learnt is left as it is; a network of another shape is told, too.

    So it is before anything is trained, where settings are on trial.
    """
    first = learn("run", 64, normalize=False)

    def refused(what, **given):
        with pytest.raises(BadSpec, match=what):
            learn("run", 128, **{"normalize": False, **given})
        with pytest.raises(BadSpec, match=what):
            sb3.fits(read_spec(first.folder), first.checkpoint.path)

    refused(r"is of algorithm 'ppo'.*take another label", algorithm="a2c")
    refused(r"is of env 'CartPole-v1'.*take another label", env="Acrobot-v1")
    refused("take another label", hyperparameters={"policy_kwargs": {"net_arch": [8]}})
    refused("another part is normalised", normalize=True)
    sb3.fits(learn("run", 128, normalize=False).spec, first.checkpoint.path)


def test_what_the_library_refuses_is_told_in_one_line(learn):
    """Whoever gave it has to change it; another start is pointless."""
    with pytest.raises(BadSpec, match="ppo refuses what it is given"):
        learn("run", 64, hyperparameters={"policy_kwargs": {"net_archh": [1]}})


def test_what_is_packed_or_torn_is_not_loaded(learn):
    """A few kilobytes may hold gigabytes, and a file may hold less than it should."""
    session = learn("run", 104, algorithm="sac", env="Countdown-v0")
    path = session.checkpoint.path
    torn = path / "replay-rewards.raw"
    whole = torn.read_bytes()
    torn.write_bytes(whole[:-4])
    spec = session.spec
    from trainers.sb3 import environments, learner, snapshot  # noqa: PLC0415 - import torch
    from trainers.sb3.recipe import recipe_of  # noqa: PLC0415

    recipe = recipe_of(spec, None)
    env = environments.side_by_side(recipe, 1, learner.Tally())
    model = learner._built(recipe, env, 1, "cpu")
    with pytest.raises(ValueError, match="bytes"):
        snapshot.fill(model.replay_buffer, path, state_of(session)["replay"])
    env.close()
    (path / "whole.pt").write_bytes((path / STATE).read_bytes())
    with (
        zipfile.ZipFile(path / "whole.pt") as good,
        zipfile.ZipFile(path / STATE, "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        for part in good.infolist():
            packed.writestr(part.filename, good.read(part))
    with pytest.raises(ValueError, match="packed"):
        sb3.evaluate(spec, path, 1)


def test_weights_that_are_no_numbers_are_not_saved(learn):
    """No attempt could go on from them."""
    far = {**SMALL, "n_steps": 16, "learning_rate": 3e38}
    with pytest.raises(FloatingPointError, match="not saved"):
        learn("run", 16, algorithm="a2c", hyperparameters=far)


def test_a_large_replay_buffer_is_not_copied(learn, monkeypatch):
    """It is written from where it lies, and is the same."""
    from trainers.sb3 import snapshot  # noqa: PLC0415 - imports torch

    copied = learn("copied", 104, algorithm="sac")
    monkeypatch.setattr(snapshot, "COPIED_MAX_BYTES", 0)
    assert files_of(learn("large", 104, algorithm="sac")) == files_of(copied)


@pytest.mark.parametrize("algorithm", ["ppo", "sac"])
def test_an_evaluation_plays_whole_episodes_and_learns_nothing(learn, algorithm):
    """The same ones each time, with statistics that stand still."""
    session = learn("run", 128, algorithm=algorithm)
    returns = sb3.evaluate(session.spec, session.checkpoint.path, 5)
    assert len(returns) == 5
    assert returns == sb3.evaluate(session.spec, session.checkpoint.path, 5)
    if algorithm == "ppo":
        assert all(value >= 8 for value in returns)  # undiscounted, not normalised


@pytest.mark.parametrize("algorithm", ["ars", "ppo_lstm", "qrdqn"])
def test_algorithms_of_the_other_library_go_on(learn, algorithm):
    """Where it is installed."""
    LEARNT.update(
        ars=("CartPole-v1", {"n_delta": 2}, None),
        ppo_lstm=("CartPole-v1", {"n_steps": 64, "batch_size": 32, "n_epochs": 1}, None),
        qrdqn=("CartPole-v1", {**OFF, "policy_kwargs": {"net_arch": [8], "n_quantiles": 5}}, None),
    )
    before = learn("run", 128, algorithm=algorithm)
    after = learn("run", before.step + 64, algorithm=algorithm)
    assert after.step >= before.step + 64
    updates = [state_of(session)["counters"]["_n_updates"] for session in (before, after)]
    assert updates[1] > updates[0]
    assert len(sb3.evaluate(after.spec, after.checkpoint.path, 2)) == 2


def test_a_film_shows_the_environment(learn, tmp_path, capsys, monkeypatch):
    """In its colours and at its speed, with what it is below."""
    monkeypatch.setattr("os.nice", lambda _: None)
    session = learn("run", 128, name="CartPole")
    capsys.readouterr()
    file = tmp_path / "film.gif"
    arguments = ["sb3", "--run", str(session.folder.path), "--json", f"--record={file}"]
    assert main([*arguments, "--seconds", "600"]) == 0
    told = msgspec.json.decode(capsys.readouterr().out)
    with Image.open(io.BytesIO(file.read_bytes())) as film:
        assert film.n_frames == told["pictures"] > 8
        first = np.asarray(film.convert("RGB"))
        film.seek(film.n_frames - 1)
        last = np.asarray(film.convert("RGB"))
        assert film.info["duration"] == 20
    assert first.shape[:2] == (told["height"], told["width"])
    assert (first[5, 5] > 250).all()
    assert {tuple(colour) for colour in first[:400].reshape(-1, 3).tolist()} & {(202, 152, 101)}
    assert not np.array_equal(first[:400], last[:400])
    assert len(told["returns"]) == 1
    assert told["pictures"] == told["returns"][0]


def test_what_draws_nothing_cannot_be_filmed(learn):
    """One line says so."""
    session = learn("run", 104, algorithm="sac", env="Countdown-v0")
    with pytest.raises(BadSpec, match="draws no pictures"):
        sb3.record(session.spec, session.checkpoint.path, episodes=1, seconds=1.0)


@pytest.mark.slow
def test_environments_in_processes_of_their_own_end_with_the_trainer(make_run, start):
    """Upon a stop before it ends, and however it ends soon after; the next attempt goes on."""
    given = {"algorithm": "sac", "hyperparameters": OFF, "device": "cpu"}
    fields = {"trainer": "sb3", "name": "Pendulum-v1", "checkpoint_interval_s": 0.1}
    run = make_run(options={**given, "processes": True}, **fields)
    step = 0
    for ending in (signal.SIGTERM, signal.SIGKILL):
        life = start(run, "sb3")
        beat = life.wait_for_step(step + 1)
        assert beat["began"]["step"] == step
        life.wait_for(lambda life=life: life.heartbeat()["checkpoint_step"])
        children = psutil.Process(life.process.pid).children(recursive=True)
        assert len(children) >= 2  # the environment, and what forked it
        life.signal(ending)
        life.end()
        if ending == signal.SIGTERM:
            assert not any(child.is_running() for child in children)
            step = life.heartbeat()["step"]
            assert step > 0
        until(lambda children=children: not any(child.is_running() for child in children))
    write_spec(run, options=given, target_steps=1, **fields)
    assert Session(RunFolder(run), read_spec(RunFolder(run))).step >= step


@pytest.mark.parametrize("algorithm", ["ppo", "a2c", "dqn", "sac", "td3", "ddpg"])
def test_a_model_that_the_library_has_saved_is_gone_on_from(learn, tmp_path, algorithm):
    """Its weights and counters are those of before; what lies there as a pickle is never opened."""
    LEARNT.setdefault("ddpg", LEARNT["td3"])
    env, given, _ = LEARNT[algorithm]
    given = {name: value for name, value in given.items() if name != "learning_rate"}
    kind = getattr(stable_baselines3, algorithm.upper())
    model = kind("MlpPolicy", env, **deepcopy(given), device="cpu").learn(80)
    zipped = tmp_path / "model.zip"
    model.save(zipped)
    spec = spec_of(tmp_path, algorithm=algorithm, env=env, hyperparameters=given)
    brought = bring(tmp_path / "runs/new", "sb3", spec, zipped, step=None, score=None)
    assert brought.step == model.num_timesteps
    folder = RunFolder(tmp_path / "runs/new")
    found = Checkpoints(folder.checkpoints).newest().checkpoint
    state = torch.load(found.path / STATE, weights_only=True)
    assert same(state["weights"]["policy"], dict(model.policy.state_dict()))
    assert state["counters"]["_n_updates"] == model._n_updates
    session = learn(
        "new", brought.step + 64, algorithm=algorithm, hyperparameters=given, normalize=None
    )
    assert session.step >= brought.step + 64


def test_what_is_no_such_model_or_another_is_not_brought(learn, tmp_path):
    """Nothing of the run has changed then."""
    env, given, _ = LEARNT["ppo"]
    zipped = tmp_path / "model.zip"
    stable_baselines3.PPO("MlpPolicy", env, **deepcopy(given), device="cpu").save(zipped)

    def refused(source, what, **options):
        spec = spec_of(tmp_path, **{"algorithm": "ppo", "env": env, **options})
        with pytest.raises(BadSpec, match=what):
            bring(tmp_path / "runs/new", "sb3", spec, source, step=1, score=None)

    refused(zipped, "is no model of a2c: it does not say .*rms_prop", algorithm="a2c")
    refused(zipped, "the network or its optimizer is another", hyperparameters={})
    refused(zipped, "the network or its optimizer is another", algorithm="ppo", env="Acrobot-v1")
    weights = tmp_path / "weights.pth"
    torch.save({"a": torch.zeros(1)}, weights)
    refused(weights, "is no zip that Stable-Baselines3 has saved")
    with zipfile.ZipFile(zipped) as old, zipfile.ZipFile(tmp_path / "bad.zip", "w") as new:
        for name in old.namelist():
            content = old.read(name) if name != "policy.pth" else pickled(Opened())
            new.writestr(name, content)
    refused(tmp_path / "bad.zip", "is no zip that Stable-Baselines3 has saved")
    assert not (tmp_path / "runs/new/checkpoints").exists()


class Opened:
    """Ends the test if anybody opens it."""

    def __reduce__(self):
        return pytest.fail, ("it was opened",)


def pickled(value):
    """As torch saves it."""
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def spec_of(tmp_path, **options):
    """A file with the spec of a run that is to be."""
    folder = tmp_path / "asked/new"
    folder.mkdir(parents=True, exist_ok=True)
    write_spec(folder, trainer="sb3", name="anything", target_steps=1000, options=options)
    return folder / "spec.json"
