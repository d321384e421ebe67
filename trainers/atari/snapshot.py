"""What a checkpoint of an Atari run holds: how it is copied, written, read and put back.

Weights, optimizer, counters, the results of the last games, the exploration rate, all
random states and, of PPO with exact environments, the games. A copy is taken while
nothing moves; a thread may write it beside the learning that goes on. Nothing that is
loaded runs code, or unpacks to more than it could hold.

Importing this module imports torch.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec
import numpy as np
import stable_baselines3
import torch
from msgspec import msgpack
from stable_baselines3 import DQN

from trainers import durable
from trainers.atari.exact import STATE_MAX_BYTES
from trainers.atari.forms import machine
from trainers.atari.game import ALE_VERSION, SIDE
from trainers.atari.options import PPO_CONDITIONS, Load, Options
from trainers.atari.ppo import Form, Ppo
from trainers.baselines import (
    Memory,
    State,
    random_states,
    refuse_packed,
    set_random_states,
)
from trainers.contract import BadSpec, Spec

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from stable_baselines3.common.base_class import BaseAlgorithm

STATE_FILE = "state.pt"
GAMES_FILE = "games.msgpack.zlib"
"""of PPO with exact environments: the state of each game"""
PICTURES_FILE = "pictures.zlib"
"""of PPO that was stopped before all was learnt from: what the rollout is made of"""

ARITHMETIC = 1
"""counted up with each change of ours that moves a bit of what is calculated"""

GAME_MAX_BYTES = STATE_MAX_BYTES + 16
"""of the state of a game in a checkpoint"""
GAMES_FIT = {"n_envs", "environments", "sticky_actions", "ale-py"}
"""conditions under which the games of a checkpoint can go on"""


class Snapshot(NamedTuple):
    """A copy of a run that learning goes on beside."""

    state: State
    step: int
    episodes: int
    games: list[bytes] | None
    """with exact environments: the state of each game"""
    pictures: NDArray[np.uint8] | None
    """of what is not learnt from yet, where there is anything; not copied"""

    def files(self) -> Iterator[tuple[str, bytes]]:
        """What a checkpoint holds.

        Raises:
            FloatingPointError: it is worth nothing.
        """
        if not all(np.isfinite(part.numpy().sum()) for part in self.state["policy"].values()):
            # No attempt could go on from it. The newest one that can is what the next one needs.
            raise FloatingPointError("the weights are not finite numbers: they are not saved")
        # Through memory: torch reports a full disk as a RuntimeError that looks like any other.
        buffer = io.BytesIO()
        torch.save(self.state, buffer)
        yield STATE_FILE, buffer.getvalue()
        if self.games is not None:
            # A tenth of its size, at a speed that the disk would hardly beat.
            yield GAMES_FILE, zlib.compress(msgpack.encode(self.games), 1)
        if self.pictures is not None:
            yield PICTURES_FILE, zlib.compress(self.pictures.data, 1)


def conditions(spec: Spec, load: Load, options: Options, form: Form, device: torch.device) -> State:
    """What must be the same for two attempts to calculate the same."""
    return {
        "n_envs": load.n_envs,
        "environments": options.environments,
        "threads": spec.threads,
        "batch_size": load.batch_size,
        "rollout_steps": options.rollout_steps,
        "sticky_actions": options.sticky_actions,
        **{name: getattr(options, name) for name in PPO_CONDITIONS},
        **msgspec.structs.asdict(form),
        **machine(device),
        "ale-py": ALE_VERSION,
        "stable-baselines3": str(stable_baselines3.__version__),
        "numpy": str(np.__version__),
        "arithmetic": ARITHMETIC,
    }


def conditions_of(state: State) -> State:
    """Those under which the copy was taken; before they were options, PPO's were as published."""
    held: State = state.get("conditions", {})
    if not held:
        return held
    published = Options()
    return {**{name: getattr(published, name) for name in PPO_CONDITIONS}, **held}


def load(checkpoint: Path, options: Options, rom: str) -> State:
    """What a checkpoint holds, but for games and pictures.

    Raises:
        BadSpec: it is of another algorithm or game.
        ValueError: it is no file of torch's, or a packed one.
    """
    path = checkpoint / STATE_FILE
    refuse_packed(path)
    state: State = torch.load(path, map_location="cpu", weights_only=True)
    for what, asked in (("algorithm", options.algorithm), ("rom", rom)):
        if state[what] != asked:
            raise BadSpec(
                f"checkpoint {checkpoint.name} is of {what} {state[what]!r}, not {asked!r}: that "
                "is another run, under a label of its own"
            )
    return state


def begun_from(checkpoint: Path, options: Options, rom: str) -> Iterator[tuple[str, bytes]]:
    """Files of a checkpoint of step 0 with the weights of another one.

    What these weights come from is forgotten: its counters, its episodes, its games.

    Raises:
        BadSpec: as `load`.
    """
    state = load(checkpoint, options, rom)
    counters = dict.fromkeys(("num_timesteps", "n_updates", "episode_num", "n_calls", "games"), 0)
    fresh = {**state, **counters, "recent": [], "best": None, "unfinished": None}
    buffer = io.BytesIO()
    torch.save(fresh, buffer)
    yield STATE_FILE, buffer.getvalue()


def games_of(checkpoint: Path, n_games: int) -> list[bytes] | None:
    """The state of each game; None where the checkpoint holds none.

    Raises:
        ValueError: they are larger than so many games can be, or torn.
    """
    path = checkpoint / GAMES_FILE
    if not path.exists():
        return None
    return msgpack.decode(unpacked(path, n_games * GAME_MAX_BYTES), type=list[bytes])


def pictures_of(checkpoint: Path, left: State) -> NDArray[np.uint8]:
    """The pictures of a rollout that was left; raises as `games_of`."""
    stacks = left["transitions"][0]
    n_pictures = min(left["n_pictures"], 1 + stacks.numel())  # and none that nothing refers to
    content = bytearray(
        unpacked(checkpoint / PICTURES_FILE, n_pictures * SIDE**2)
    )  # torch wants to own it
    return np.frombuffer(content, np.uint8).reshape(n_pictures, SIDE, SIDE)


def unpacked(path: Path, max_bytes: int) -> bytes:
    """The content of a compressed file of a checkpoint.

    Raises:
        ValueError: it is larger than anything that is saved, or torn.
    """
    packed = durable.read(path, max_bytes + max_bytes // 1000 + 1024)  # noise grows a little
    engine = zlib.decompressobj()
    content = engine.decompress(packed, max_bytes)
    if not engine.eof:
        raise ValueError(f"{path.name} unpacks to more than {max_bytes} bytes, or is torn")
    return content


def take(model: BaseAlgorithm, memory: Memory) -> State:
    """A copy of all of a model that its learning depends on; its tensors are in `memory`."""
    policy = model.policy
    taken = {
        "num_timesteps": model.num_timesteps,
        "n_updates": model._n_updates,
        "episode_num": model._episode_num,
        "n_calls": getattr(model, "_n_calls", 0),
        "exploration_rate": getattr(model, "exploration_rate", 0.0),
        "random": random_states(model),
        "unfinished": model.unfinished() if isinstance(model, Ppo) else None,
        "policy": memory.copy(policy.state_dict()),
        "optimizer": memory.copy(policy.optimizer.state_dict()),
    }
    if model.device.type == "cuda":
        torch.cuda.synchronize()
    return taken


def restore(model: BaseAlgorithm, state: State) -> None:
    """Have a model go on where `take` has copied it."""
    model.policy.load_state_dict(state["policy"])
    model.policy.optimizer.load_state_dict(state["optimizer"])
    model.num_timesteps = state["num_timesteps"]
    model._n_updates = state["n_updates"]
    model._episode_num = state["episode_num"]
    if isinstance(model, DQN):
        model._n_calls = state["n_calls"]
        model.exploration_rate = state["exploration_rate"]
    set_random_states(model, state["random"])
