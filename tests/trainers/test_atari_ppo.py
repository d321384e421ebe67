"""Our PPO beside Stable-Baselines3's, on the same rollouts and the same chance."""

import subprocess
import sys
import types

import msgspec
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import PPO
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.utils import get_device

from trainers.atari import forms as atari_forms
from trainers.atari import ppo as atari_ppo
from trainers.atari.env import AtariGames
from trainers.atari.exact import ExactGames
from trainers.atari.game import OBSERVATION, Step
from trainers.atari.native import NativeGames
from trainers.atari.ppo import Adam, Form, Network, PictureBuffer, Ppo
from trainers.contract import Tuning

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:You have specified a mini-batch size"),
]

N_GAMES, N_STEPS, BATCH_SIZE = 3, 48, 64
LAYOUTS = ("contiguous", "channels_last", "space_to_depth")
SETTINGS = {
    "n_steps": N_STEPS,
    "batch_size": BATCH_SIZE,
    "n_epochs": 4,
    "learning_rate": 2.5e-4,
    "clip_range": 0.1,
    "ent_coef": 0.01,
    "seed": 1,
    "device": "cpu",
}


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    torch.set_num_threads(1)


class Fields:
    """Games without an emulator: noise, short episodes, some of them cut off."""

    n_games = N_GAMES
    n_actions = 4

    def __init__(self):
        self._rng = np.random.default_rng(7)

    def _pictures(self):
        return self._rng.integers(0, 256, (N_GAMES, 84, 84), dtype=np.uint8)

    def _blank(self, i):
        # A new episode begins with blank pictures, or not, as in the native environments.
        if self._rng.random() < 0.7:
            self._stack[i, :-1] = 0

    def reset(self):
        self._stack = np.zeros((N_GAMES, *OBSERVATION), np.uint8)
        self._stack[:, -1] = self._pictures()
        return self._stack.copy()

    def send(self, actions):
        self._actions = actions

    def receive(self):
        self._stack[:, :-1] = self._stack[:, 1:]
        self._stack[:, -1] = self._pictures()
        dones = self._rng.random(N_GAMES) < 0.2
        truncated = dones & (self._rng.random(N_GAMES) < 0.5)
        last = {int(i): self._stack[i].copy() for i in np.flatnonzero(dones)}
        for i in last:
            self._blank(i)
        rewards = self._rng.integers(-2, 3, N_GAMES).astype(np.float32)
        return Step(self._stack.copy(), rewards, dones, truncated, last, {})

    def close(self):
        pass


class Unheard(BaseCallback):
    def _on_step(self):
        return True


def rollout_of(model):
    """Collect a rollout of `model`, from the same chance each time."""
    model.set_logger(Logger(None, []))
    _, callback = model._setup_learn(10**6, Unheard())
    np.random.seed(3)
    torch.manual_seed(3)
    model.collect_rollouts(model.env, callback, model.rollout_buffer, N_STEPS)
    return model.rollout_buffer


def updated(model):
    """Learn from the rollout, from the same chance each time; what was told and the weights."""
    np.random.seed(5)
    model.train()
    told = {key: value for key, value in model.logger.name_to_value.items() if "train/" in key}
    return told, {key: value.clone() for key, value in model.policy.state_dict().items()}


@pytest.fixture(scope="module")
def stock():
    """Stable-Baselines3's model with a rollout; its weights then, and what an update does."""
    model = PPO("CnnPolicy", AtariGames(Fields()), **SETTINGS)
    weights = {key: value.clone() for key, value in model.policy.state_dict().items()}
    buffer = rollout_of(model)
    kept = {
        name: getattr(buffer, name).copy()
        for name in ("observations", "actions", "rewards", "values", "log_probs", "returns")
    }
    return kept, weights, updated(model)


def ours(layout, weights):
    model = Ppo(AtariGames(Fields()), form=Form(convolutions=layout), initialise=False, **SETTINGS)
    model.policy.load_state_dict(weights)
    return model


@pytest.mark.parametrize("layout", LAYOUTS)
def test_an_update_is_that_of_stable_baselines3(layout, stock, monkeypatch):
    """Rollout, losses and weights after four epochs agree to float tolerance in each form."""
    # A minibatch of 64 in three parts, the last of them smaller.
    monkeypatch.setattr(atari_ppo, "PART", 24)
    kept, weights, (told, after) = stock
    model = ours(layout, weights)
    buffer = rollout_of(model)
    assert np.array_equal(buffer.actions, kept["actions"])
    for name in ("rewards", "values", "log_probs", "returns"):
        assert getattr(buffer, name) == pytest.approx(kept[name], abs=1e-5)
    our_told, our_after = updated(model)
    assert our_told.keys() == told.keys()
    for key, value in told.items():
        assert our_told[key] == pytest.approx(value, rel=1e-3, abs=1e-5), key
    assert our_after.keys() == after.keys()
    moved = sum(float((after[key] - weights[key]).square().sum()) for key in after)
    apart = sum(float((after[key] - our_after[key]).square().sum()) for key in after)
    # Adam divides gradients by their size, and so makes the last digit of a small one large.
    assert (apart / moved) ** 0.5 < 0.02


@pytest.mark.parametrize("layout", LAYOUTS)
def test_minibatches_are_those_of_stable_baselines3_to_the_bit(layout):
    """Every observation of every minibatch, over ends of episodes, blank stacks and cuts."""
    _compare_buffers(Fields(), layout, n_rollouts=2)


@pytest.mark.parametrize("kind", [ExactGames, NativeGames])
def test_real_games_shift_their_pictures(kind):
    """Over lost lives and ends of games no observation is other than what was seen."""
    games = kind("breakout", [1, 2, 3], threads=1, game_max_frames=300)
    try:
        _compare_buffers(games, "space_to_depth", n_rollouts=3)
    finally:
        games.close()


def _compare_buffers(games, layout, n_rollouts):
    env = AtariGames(games)
    space, action_space = env.observation_space, env.action_space
    theirs = RolloutBuffer(N_STEPS, space, action_space, "cpu", n_envs=N_GAMES)
    mine = PictureBuffer(N_STEPS, space, action_space, "cpu", n_envs=N_GAMES)
    form = Form(convolutions=layout)
    mine.network = Network(space, form=form)
    rng = np.random.default_rng(1)
    observations, starts = env.reset(), np.ones(N_GAMES, bool)
    ended = 0
    for _ in range(n_rollouts):
        theirs.reset()
        mine.reset()
        for _ in range(N_STEPS):
            actions = rng.integers(action_space.n, size=N_GAMES)
            numbers = torch.from_numpy(rng.normal(size=(2, N_GAMES)).astype(np.float32))
            env.step_async(actions)
            after, rewards, dones, _ = env.step_wait()
            for buffer in (theirs, mine):
                buffer.add(observations, actions[:, None], rewards, starts, *numbers)
            observations, starts = after, dones
            ended += dones.sum()
        last = torch.from_numpy(rng.normal(size=N_GAMES).astype(np.float32))
        for buffer in (theirs, mine):
            buffer.compute_returns_and_advantage(last, starts)
        np.random.seed(2)
        theirs_in_order = [batch for _ in range(2) for batch in theirs.get(BATCH_SIZE)]
        np.random.seed(2)
        mine_in_order = [
            (batch, mine.inputs(batch.stacks).clone())
            for epoch in mine.minibatches(BATCH_SIZE, 2)
            for batch in epoch
        ]
        assert len(mine_in_order) == len(theirs_in_order) == 2 * 3
        for (batch, seen), expected in zip(mine_in_order, theirs_in_order, strict=True):
            arranged = mine.network.arrange(mine.network.pack(expected.observations.float()))
            assert torch.equal(seen, arranged)
            assert seen.stride() == arranged.stride()
            assert torch.equal(batch.actions, expected.actions.long().flatten())
            assert torch.equal(batch.log_probs, expected.old_log_prob)
            assert torch.equal(batch.advantages, expected.advantages)
            assert torch.equal(batch.returns, expected.returns)
    assert ended


def test_a_rollout_keeps_each_picture_once():
    """Blank pictures cost nothing, and the rollout takes a quarter of the memory."""
    space = spaces.Box(0, 255, OBSERVATION, np.uint8)
    buffer = PictureBuffer(N_STEPS, space, spaces.Discrete(4), "cpu", n_envs=N_GAMES)
    buffer.network = Network(space, form=Form())
    stack = np.full((N_GAMES, *OBSERVATION), 9, np.uint8)
    zeros = torch.zeros(N_GAMES)
    for step in range(N_STEPS):
        starts = np.array([step > 0, False, False])
        stack[0, :-1] = 0 if step else 9
        buffer.add(stack, np.zeros((N_GAMES, 1), int), np.zeros(N_GAMES), starts, zeros, zeros)
    assert buffer.n_pictures == 1 + N_GAMES * (N_STEPS + 3)


def test_the_optimizer_is_torchs_adam():
    """The same steps, from and to the same state, whichever of the two goes on."""
    torch.manual_seed(1)
    shapes = [(8, 4, 3, 3), (5,)]
    values = [torch.randn(shape) for shape in shapes]
    mine, theirs = ([torch.nn.Parameter(value.clone()) for value in values] for _ in range(2))
    mine[0].data = mine[0].data.contiguous(memory_format=torch.channels_last)
    our_adam = Adam(mine, lr=0.1, eps=1e-5)
    their_adam = torch.optim.Adam(theirs, lr=0.1, eps=1e-5)
    for step in range(6):
        if step == 3:
            # Each goes on from the other's state.
            state = our_adam.state_dict()
            our_adam = Adam(mine, lr=0.5)
            our_adam.load_state_dict(their_adam.state_dict())
            their_adam = torch.optim.Adam(theirs, lr=0.5)
            their_adam.load_state_dict(state)
        for my, their in zip(mine, theirs, strict=True):
            their.grad = torch.randn(their.shape)
            my.grad = their.grad.clone(memory_format=torch.preserve_format).to(
                memory_format=torch.channels_last if my.dim() == 4 else torch.preserve_format
            )
        our_adam.step()
        their_adam.step()
        for my, their in zip(mine, theirs, strict=True):
            assert torch.allclose(my, their, rtol=1e-5, atol=1e-6)


def test_a_cold_start_does_not_load_torchs_compiler():
    """Neither building PPO nor learning with it imports torch's compiler, which takes seconds."""
    code = """
import sys
import torch
from test_atari_ppo import Fields, SETTINGS, rollout_of
from trainers.atari.env import AtariGames
from trainers.atari.ppo import Form, Ppo
model = Ppo(AtariGames(Fields()), form=Form(), initialise=True, **SETTINGS)
rollout_of(model)
model.train()
assert "torch._dynamo" not in sys.modules
"""
    _run(code)


def test_the_memory_of_a_minibatch_serves_the_next():
    """The kernel is not asked for the same pages again."""
    code = """
import resource
import torch
from trainers.atari.ppo import Form, keep_freed_memory
from trainers.atari.forms import _cycle_s, _model

def fresh_pages():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    _cycle_s(model)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

torch.set_num_threads(1)
keep_freed_memory()
model = _model(Form(), 256)
first, *_, later = [fresh_pages() for _ in range(4)]
assert later < first / 10, (first, later)
"""
    _run(code)


@pytest.mark.parametrize(
    ("own", "policy"), [({}, "PASSIVE"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE")]
)
def test_threads_that_wait_sleep(own, policy):
    """Torch's threads leave the processor to others, unless a person knows better."""
    code = "from trainers import attempt; attempt.limit_threads(2); import torch"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": ".", "OMP_DISPLAY_ENV": "true", **own},
    )
    assert f"OMP_WAIT_POLICY = '{policy}'" in done.stderr
    assert "OMP_NUM_THREADS = '2'" in done.stderr


def _run(code):
    """Run this in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        env={"PYTHONPATH": "tests/trainers:.", "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("seconds", "chosen"),
    [
        ({"contiguous": 2.0, "channels_last": 1.0, "space_to_depth": 0.99}, "channels_last"),
        ({"contiguous": 2.0, "channels_last": 1.0, "space_to_depth": 0.9}, "space_to_depth"),
        ({"contiguous": 0.5, "channels_last": 1.0, "space_to_depth": 0.9}, "contiguous"),
    ],
)
def test_another_form_is_chosen_only_by_a_clear_margin(seconds, chosen, monkeypatch):
    """The default stands unless a form is quicker beyond the noise of its trials."""
    monkeypatch.setattr(atari_forms, "TRIAL_S", 0.0)
    monkeypatch.setattr(atari_forms, "_model", lambda form, _: _Standing(form))
    monkeypatch.setattr(atari_forms, "_cycle_s", lambda model: seconds[model.form.convolutions])
    (found,) = atari_forms.probe([(1, 64)])
    assert found.took_s == seconds
    assert found.choice == {"convolutions": chosen}


class _Standing:
    device = torch.device("cpu")

    def __init__(self, form):
        self.form = form


def test_a_probe_times_every_form(monkeypatch):
    """Real trials, as short as can be, give a choice that a trainer on this machine takes."""
    monkeypatch.setattr(atari_forms, "TRIAL_S", 0.0)
    (found,) = atari_forms.probe([(1, 64)])
    assert set(found.took_s) == set(LAYOUTS)
    assert min(found.took_s.values()) > 0
    again = msgspec.json.decode(msgspec.json.encode(found), type=Tuning)
    device = get_device("auto")
    assert atari_forms.form_of(again, device) == (msgspec.convert(found.choice, Form), None)
    assert atari_forms.form_of(None, device) == (Form(), None)


def test_a_choice_of_another_machine_does_not_hold():
    """Another torch, processor or device, or words of another version: the default, and why."""
    here = atari_forms.machine(torch.device("cpu"))
    choice = {"convolutions": "contiguous"}
    for machine, words, why in (
        ({**here, "torch": "0.1"}, choice, "not 0.1"),
        ({}, choice, "not known"),
        (here, {"convolutions": "sideways"}, "cannot be used"),
    ):
        load = {"threads": 1, "batch_size": 64}
        tuning = Tuning(load=load, machine=machine, choice=words, took_s={})
        form, said = atari_forms.form_of(tuning, torch.device("cpu"))
        assert form == Form()
        assert why in said


@pytest.mark.parametrize(
    ("then", "now", "is_told"),
    [("NVIDIA A", "NVIDIA B", True), ("NVIDIA A", "processor", False)],
)
def test_a_choice_of_another_gpu_is_told_and_of_no_gpu_is_not(monkeypatch, then, now, is_told):
    """Another GPU can be tried anew; a run beside the GPU can not, and trials would not help."""
    monkeypatch.setattr(atari_forms, "machine", lambda _: {"torch": "2", "device": now})
    tuning = Tuning(
        load={"threads": 1, "batch_size": 64},
        machine={"torch": "2", "device": then},
        choice={"convolutions": "contiguous"},
        took_s={},
    )
    form, said = atari_forms.form_of(tuning, torch.device("cpu"))
    assert form == Form()
    assert (said is not None) == is_told


def test_two_gpus_of_one_name_are_told_apart(monkeypatch):
    """A card may be cut down, and another cuDNN or TF32 calculates otherwise."""

    def named(sizes=132, tf32=True, cudnn=90100):
        card = types.SimpleNamespace(name="NVIDIA H100", multi_processor_count=sizes)
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: card)
        monkeypatch.setattr(torch.backends.cudnn, "version", lambda: cudnn)
        monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", tf32)
        return atari_forms.machine(torch.device("cuda"))["device"]

    names = {named(), named(sizes=114), named(tf32=False), named(cudnn=91000)}
    assert len(names) == 4
    assert all(name.startswith("NVIDIA H100, ") for name in names)


def test_the_games_of_a_trial_can_be_played():
    """They are games like any others, of noise: nothing is won, and none ends."""
    env = AtariGames(atari_forms._Noise())
    first = env.reset()
    observations, rewards, dones, infos = env.step(np.zeros(env.num_envs, np.int64))
    assert observations.shape == first.shape == (env.num_envs, *OBSERVATION)
    assert not rewards.any()
    assert not dones.any()
    assert not any("episode" in info for info in infos)
    assert atari_forms._Noise().screen().shape == OBSERVATION[1:]
    env.close()
