"""The trainers of benchmarks/gpu.py, without emulators: `gpu_trainer.py NAME --run RUN_DIR`.

`noise` is our Atari learner, all of it, on games of noise. `plain` is the published network alone,
for a box without Stable-Baselines3. Both keep the whole contract, and misbehave on demand.
"""

# ruff: noqa: PLC0415 - torch is imported when something is learnt, as our trainers do it

from __future__ import annotations

import contextlib
import importlib.util
import io
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Annotated, Any, Literal
from unittest.mock import MagicMock

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
os.environ["OPENBLAS_NUM_THREADS"] = "1"  # a warm parent must have no thread but its own
if importlib.util.find_spec("ale_py") is None:
    # What learns is imported together with what plays. Games of noise ask nothing of it.
    sys.modules["ale_py"] = MagicMock(__version__="not installed")

import msgspec
import numpy as np

from trainers import atari, registry
from trainers.__main__ import main
from trainers.atari.exact import ExactGames
from trainers.atari.game import OBSERVATION, Step
from trainers.options import load_of
from trainers.session import options_of

if TYPE_CHECKING:
    import torch
    from gymnasium import spaces
    from numpy.typing import NDArray

    from trainers.contract import Spec
    from trainers.session import Session

PICTURES = 64
"""that games of noise show, again and again"""
N_ACTIONS = 18
END = 0.005
"""the chance that a step ends a game"""
SAVED_S = 20.0
"""a first checkpoint is waited for so long"""
SIGNALS = {"kill": signal.SIGKILL, "stop": signal.SIGTERM}


class Options(atari.Options, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Those of the Atari learner, and how it misbehaves."""

    ask_mib: Annotated[int, msgspec.Meta(ge=0)] = 0
    """memory that it asks for before it learns"""
    end_by: Literal["", "kill", "stop"] = ""
    """the signal that it sends itself amid an update, once a checkpoint of this life is written"""
    features: Annotated[int, msgspec.Meta(gt=0)] = 512
    """of each observation; fewer than the published ones make quick steps and small checkpoints"""
    deterministic: bool = False
    """whether cuDNN may choose only what gives the same bits each time"""


class NoiseGames(ExactGames):
    """Games of noise: what is seen, and what it earns, follows from seed, step and action.

    They can be cloned and restored, as the real ones. An observation is the one before, shifted by
    a picture, as a rollout presumes.
    """

    n_actions = N_ACTIONS

    def __init__(self, n_games: int, seed: int) -> None:
        self.n_games = n_games
        self._seed = seed
        pictures = (PICTURES, *OBSERVATION[1:])
        self._pictures = np.random.default_rng(seed).integers(0, 256, pictures, np.uint8)
        self._t = 0
        self._stacks = np.zeros((n_games, *OBSERVATION), np.uint8)
        self._returns = np.zeros(n_games)
        self._lengths = np.zeros(n_games, np.int64)
        self._actions = np.zeros(n_games, np.int64)

    def reset(self) -> NDArray[np.uint8]:
        """Begin a new game everywhere."""
        self._t = 0
        self._stacks[:] = 0
        self._stacks[:, -1] = self._pictures[np.arange(self.n_games) % PICTURES]
        return self._stacks.copy()

    def send(self, actions: NDArray[np.int64]) -> None:
        """Begin a step."""
        self._actions = np.asarray(actions)

    def receive(self) -> Step:
        """Finish it."""
        self._t += 1
        chance = np.random.default_rng([self._seed, self._t])
        seen = (chance.integers(PICTURES, size=self.n_games) + self._actions) % PICTURES
        dones = chance.random(self.n_games) < END
        rewards = (seen % 7 == 0).astype(np.float32)
        self._returns += rewards
        self._lengths += 1
        self._stacks[:, :-1] = self._stacks[:, 1:]
        self._stacks[:, -1] = self._pictures[seen]
        ended = [int(i) for i in np.flatnonzero(dones)]
        last = {i: self._stacks[i].copy() for i in ended}
        over = {i: (float(self._returns[i]), int(self._lengths[i])) for i in ended}
        self._returns[dones], self._lengths[dones] = 0, 0
        self._stacks[dones, :-1] = 0
        never = np.zeros(self.n_games, np.bool_)
        return Step(self._stacks.copy(), rewards, dones, never, last, over)

    def clone(self) -> list[bytes]:
        """The state of each game."""
        return [
            msgspec.msgpack.encode((self._t, float(earned), int(length), stack.tobytes()))
            for earned, length, stack in zip(
                self._returns, self._lengths, self._stacks, strict=True
            )
        ]

    def restore(self, states: Sequence[bytes]) -> NDArray[np.uint8]:
        """Go on from what `clone` gave."""
        for i, state in enumerate(states):
            self._t, self._returns[i], self._lengths[i], stack = msgspec.msgpack.decode(state)
            self._stacks[i] = np.frombuffer(stack, np.uint8).reshape(OBSERVATION)
        return self._stacks.copy()

    def screen(self) -> NDArray[np.uint8]:
        """What the first game shows."""
        picture: NDArray[np.uint8] = self._stacks[0, -1].copy()
        return picture

    def close(self) -> None:
        """Nothing is held."""


def check(spec: Spec) -> None:
    """Validate the options."""
    options_of(spec, Options)


def learn(session: Session) -> None:
    """Learn from games of noise as from real ones."""
    options = options_of(session.spec, Options)
    load = load_of(session.spec, atari.Load)
    games = NoiseGames(load.n_envs, session.spec.seed)
    import torch

    from trainers.atari import learner, ppo
    from trainers.atari.ppo import Minibatch, Network, Ppo

    _prepare(options)

    class Narrowed(Network):
        def __init__(self, observation_space: spaces.Box, **fields: Any) -> None:
            super().__init__(observation_space, **fields)
            self._features_dim = options.features
            n_inputs: Any = self.linear[0].in_features
            self.linear[0] = torch.nn.Linear(n_inputs, options.features)

    if options.features != Options().features:
        ppo.Network = Narrowed  # type: ignore[misc]
    update = Ppo.update

    def update_and_end(self: Ppo, minibatch: Minibatch, clip_range: float) -> torch.Tensor:
        told = update(self, minibatch, clip_range)
        if self._place.done:
            _end(session, options, self.num_timesteps)
        return told

    Ppo.update = update_and_end  # type: ignore[method-assign]
    learner.learn(session, options, load, "noise", games)


def warm_up_plainly(_: Sequence[Spec]) -> Iterator[None]:
    """Import what learns plainly, as `atari.warm_up` does: no GPU is touched."""
    os.environ["PYTORCH_NVML_BASED_CUDA_CHECK"] = "1"
    import torch

    torch.set_num_threads(1)
    yield


def learn_plainly(session: Session) -> None:
    """Learn to call pictures of noise by their numbers."""
    import torch
    from torch import nn

    options, spec = options_of(session.spec, Options), session.spec
    load = load_of(spec, atari.Load)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if options.device == "cuda" != device:
        raise RuntimeError("the options ask for CUDA, and torch finds no usable GPU")
    _prepare(options)
    torch.set_num_threads(spec.threads)
    torch.manual_seed(spec.seed)
    network = nn.Sequential(
        *(nn.Conv2d(4, 32, 8, 4), nn.ReLU(), nn.Conv2d(32, 64, 4, 2), nn.ReLU()),
        *(nn.Conv2d(64, 64, 3, 1), nn.ReLU(), nn.Flatten(), nn.Linear(3136, options.features)),
        *(nn.ReLU(), nn.Linear(options.features, N_ACTIONS)),
    ).to(device)
    optimizer = torch.optim.Adam(network.parameters(), lr=2.5e-4)
    if session.checkpoint:
        path = session.checkpoint.path / "state.pt"
        state = torch.load(path, map_location=device, weights_only=True)
        network.load_state_dict(state["policy"])
        optimizer.load_state_dict(state["optimizer"])

    def save() -> None:
        file = io.BytesIO()
        torch.save({"policy": network.state_dict(), "optimizer": optimizer.state_dict()}, file)
        session.save([("state.pt", file.getvalue())], replace=True)

    while not session.target_reached and not session.stop_requested:
        # Drawn on the processor, from seed and step: the same for every life, on every device.
        chance = torch.Generator().manual_seed(spec.seed + session.step)
        for _ in range(options.rollout_steps // load.batch_size):
            shape = (load.batch_size, *OBSERVATION)
            pictures = torch.randint(0, 256, shape, generator=chance, dtype=torch.uint8)
            numbers = torch.randint(0, N_ACTIONS, (load.batch_size,), generator=chance)
            told = network(pictures.to(device) / 255.0)
            loss = nn.functional.cross_entropy(told, numbers.to(device))
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        session.progress(session.step + options.rollout_steps)
        session.log({"train/loss": loss.item()})
        if session.checkpoint_due():
            save()
        _end(session, options, session.step)
    save()


def _prepare(options: Options) -> None:
    """Misbehave as far as that comes before all learning."""
    import torch

    torch.backends.cudnn.deterministic = options.deterministic
    if options.ask_mib:
        device = "cuda" if torch.cuda.is_available() else "cpu"
        torch.empty(options.ask_mib * 2**20, dtype=torch.uint8, device=device)


def _end(session: Session, options: Options, step: int) -> None:
    """Send this process the signal that was asked for, once there is something to go on from."""
    if not options.end_by or session.stop_requested:
        return
    until_s = time.monotonic() + SAVED_S
    # From the third cycle on: the first checkpoint is begun after the first.
    while step > 2 * options.rollout_steps and time.monotonic() < until_s:
        if session.checkpoint is not None:
            os.kill(os.getpid(), SIGNALS[options.end_by])
            return
        time.sleep(0.01)


TRAINERS = {
    "noise": SimpleNamespace(Load=atari.Load, check=check, train=learn, warm_up=atari.warm_up),
    "plain": SimpleNamespace(
        Load=atari.Load, check=check, train=learn_plainly, warm_up=warm_up_plainly
    ),
}

if __name__ == "__main__":
    registry.load = TRAINERS.__getitem__  # type: ignore[assignment]
    with contextlib.suppress(BrokenPipeError):
        sys.exit(main())
