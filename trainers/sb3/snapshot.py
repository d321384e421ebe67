"""What a checkpoint of a run holds: how it is copied, written, read and put back.

Weights, optimizers, counters, the last returns, all random states, the statistics of
`VecNormalize`, the replay buffer and, of classic control, the environments. All of it is
tensors, plain values and bare numbers: nothing that is loaded runs code.

A replay buffer is a file for each of its arrays, of the rows that are filled and nothing else:
what they mean is known to the buffer that they are read into, and has to fit.

Importing this module imports torch.
"""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from stable_baselines3 import HerReplayBuffer
from stable_baselines3.common.buffers import DictReplayBuffer, ReplayBuffer
from stable_baselines3.common.save_util import recursive_getattr

from trainers import durable
from trainers.baselines import Memory, State, random_states, refuse_packed, set_random_states
from trainers.contract import BadSpec
from trainers.sb3.recipe import Recipe

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from stable_baselines3.common.base_class import BaseAlgorithm
    from stable_baselines3.common.running_mean_std import RunningMeanStd

    Rows = NDArray[Any]

STATE_FILE = "state.pt"
COPIED_MAX_BYTES = 64 * 1024 * 1024
"""of a replay buffer that is copied, so that learning goes on while it is written"""

COUNTERS = ("num_timesteps", "_n_updates", "_episode_num", "_n_calls", "exploration_rate")
"""of a model, as far as it has them"""
_ARRAYS = (
    "observations", "next_observations", "actions", "rewards", "dones", "timeouts",
    "ep_start", "ep_length",
)  # fmt: skip
"""of a replay buffer, as far as it has them"""


class Snapshot(NamedTuple):
    """A copy of a run that learning goes on beside, unless `wait` says that it must not."""

    state: State
    replay: dict[str, Rows]
    """by the name of a file"""
    wait: bool
    """the replay buffer is no copy"""

    def files(self) -> Iterator[tuple[str, bytes | memoryview]]:
        """What a checkpoint holds.

        Raises:
            FloatingPointError: it is worth nothing.
        """
        weights = self.state["weights"]["policy"].values()
        if not all(np.isfinite(part.float().numpy().sum()) for part in weights):
            raise FloatingPointError("the weights are not finite numbers: they are not saved")
        # Through memory: torch reports a full disk as a RuntimeError that looks like any other.
        buffer = io.BytesIO()
        torch.save(self.state, buffer)
        yield STATE_FILE, buffer.getvalue()
        for name, rows in self.replay.items():
            yield name, rows.reshape(-1).view(np.uint8).data


def load(checkpoint: Path, recipe: Recipe) -> State:
    """What a checkpoint holds, but for the replay buffer.

    Raises:
        BadSpec: it is of another algorithm or environment.
        ValueError: it is no file of torch's, or a packed one.
    """
    path = checkpoint / STATE_FILE
    refuse_packed(path)
    state: State = torch.load(path, map_location="cpu", weights_only=True)
    for what, asked in identity(recipe).items():
        if state[what] != asked:
            raise BadSpec(
                f"checkpoint {checkpoint.name} is of {what} {state[what]!r}, the spec asks for "
                f"{asked!r}: take another label"
            )
    return state


def identity(recipe: Recipe) -> dict[str, str]:
    """What a run is of, and no other checkpoint may be of."""
    return {"algorithm": recipe.algorithm.name, "env": recipe.env}


def take(model: BaseAlgorithm, memory: Memory) -> State:
    """A copy of all of a model that its learning depends on; its tensors are in `memory`."""
    weights, others = model._get_torch_save_params()
    taken = {
        "weights": {
            name: memory.copy(recursive_getattr(model, name).state_dict()) for name in weights
        },
        "others": {name: memory.copy(recursive_getattr(model, name)) for name in others},
        "counters": {name: vars(model)[name] for name in COUNTERS if name in vars(model)},
        "random": random_states(model),
        "normalize": statistics(model),
    }
    if model.device.type == "cuda":
        torch.cuda.synchronize()
    return taken


def restore(model: BaseAlgorithm, state: State) -> None:
    """Have a model go on where `take` has copied it, but for its random states.

    Raises:
        BadSpec: its network is another.
    """
    put_weights(model, state)
    for name, value in state["others"].items():
        recursive_getattr(model, name).data.copy_(value)
    vars(model).update({name: state["counters"][name] for name in COUNTERS if name in vars(model)})
    set_statistics(model, state["normalize"])


def put_weights(model: BaseAlgorithm, state: State, *, learning: bool = True) -> None:
    """Give a model what was learnt, and what it would need to learn on; raises as `restore`."""
    try:
        for name, held in state["weights"].items():
            if learning or name == "policy":
                recursive_getattr(model, name).load_state_dict(held)
    except (RuntimeError, ValueError, KeyError, AttributeError) as error:
        raise BadSpec(
            "the network or its optimizer is another than that of the checkpoint: take another "
            f"label, or the hyper-parameters of before ({' '.join(str(error).split())[:200]})"
        ) from error
    if hasattr(model, "weights"):  # ARS learns with a copy of its own
        parameters = torch.nn.utils.parameters_to_vector(model.policy.parameters())
        model.weights = parameters.detach().clone()


def resume_random(model: BaseAlgorithm, state: State) -> None:
    """Have all generators go on from there; the last thing before learning does."""
    set_random_states(model, state["random"])


# The statistics of VecNormalize


def statistics(model: BaseAlgorithm) -> State | None:
    """The running means and variances; None: nothing is normalised."""
    normalize = model.get_vec_normalize_env()
    if normalize is None:
        return None
    observed = getattr(normalize, "obs_rms", None)
    return {
        "observations": {key: _moments(one) for key, one in _by_key(observed).items()},
        "returns": _moments(normalize.ret_rms),
    }


def set_statistics(model: BaseAlgorithm, held: State | None) -> None:
    """Have the running means and variances go on from there.

    Raises:
        BadSpec: other things are normalised than before.
    """
    normalize = model.get_vec_normalize_env()
    observed = {} if normalize is None else _by_key(getattr(normalize, "obs_rms", None))
    if (held is None) != (normalize is None) or (held or {"observations": {}})[
        "observations"
    ].keys() != observed.keys():
        raise BadSpec("normalize: another part is normalised than before: take another label")
    if held is not None and normalize is not None:
        for key, one in observed.items():
            _set_moments(one, held["observations"][key])
        _set_moments(normalize.ret_rms, held["returns"])


def _by_key(observed: Any) -> dict[str, RunningMeanStd]:
    if observed is None:
        return {}
    return observed if isinstance(observed, dict) else {"": observed}


def _moments(one: RunningMeanStd) -> State:
    return {
        "mean": torch.from_numpy(np.array(one.mean)),
        "var": torch.from_numpy(np.array(one.var)),
        "count": float(one.count),
    }


def _set_moments(one: RunningMeanStd, held: State) -> None:
    if held["mean"].shape != one.mean.shape:
        raise BadSpec("normalize: observations have another shape than before: take another label")
    one.mean, one.var, one.count = held["mean"].numpy(), held["var"].numpy(), held["count"]


# The replay buffer


def replay_of(buffer: ReplayBuffer | None) -> tuple[State | None, dict[str, Rows], bool]:
    """What a replay buffer holds: how it stands, its arrays by file, and whether they are copies.

    What is small is copied. What is large is not: whoever writes it has to wait.
    """
    if buffer is None or buffer.size() == 0:
        return None, {}, True
    # Where memory is saved, the last observation lies in the row after the last one.
    rows = buffer.buffer_size if buffer.full else min(buffer.pos + 1, buffer.buffer_size)
    arrays = {name: array[:rows] for name, array in _arrays(buffer)}
    copied = sum(array.nbytes for array in arrays.values()) <= COPIED_MAX_BYTES
    if copied:
        arrays = {name: array.copy() for name, array in arrays.items()}
    state: State = {"pos": buffer.pos, "full": buffer.full, "rows": rows, "n_envs": buffer.n_envs}
    if isinstance(buffer, HerReplayBuffer):
        state["episode_starts"] = buffer._current_ep_start.tolist()
    return state, arrays, copied


def fill(buffer: ReplayBuffer, checkpoint: Path, held: State | None) -> str | None:
    """Fill a replay buffer with what a checkpoint holds; what is lost of it, in words.

    Raises:
        ValueError: the files are not what they should be.
    """
    if held is None:
        return "it has no replay buffer from before: that is filled first"
    same = held["n_envs"] == buffer.n_envs and (
        held["rows"] <= buffer.buffer_size
        if not held["full"]
        else held["rows"] == buffer.buffer_size
    )
    rows, shared = held["rows"], buffer.n_envs / held["n_envs"]
    read = {
        name: _read(checkpoint / name, rows, held["n_envs"], array)
        for name, array in _arrays(buffer)
    }
    if same:
        for name, array in _arrays(buffer):
            array[:rows] = read[name]
        buffer.pos, buffer.full = held["pos"], held["full"]
        if isinstance(buffer, HerReplayBuffer):
            buffer._current_ep_start = np.array(held["episode_starts"], dtype=np.int64)
        return None
    if type(buffer) not in (ReplayBuffer, DictReplayBuffer) or buffer.optimize_memory_usage:
        return "its replay buffer holds episodes that cannot be dealt anew: it is filled again"
    # Single transitions are as good in any other order of rows.
    count = rows if held["full"] else held["pos"]
    new_rows = min(int(count / shared), buffer.buffer_size)
    order = (np.arange(count) + (held["pos"] if held["full"] else 0)) % rows
    for name, array in _arrays(buffer):
        single = read[name][order].reshape(-1, *array.shape[2:])
        kept = single[len(single) - new_rows * buffer.n_envs :]
        array[:new_rows] = kept.reshape(new_rows, *array.shape[1:])
    buffer.full = new_rows == buffer.buffer_size
    buffer.pos = 0 if buffer.full else new_rows
    return None


def cut_off(buffer: ReplayBuffer) -> None:
    """Say that the last episodes end here, as a limit of time would have it: new ones follow."""
    if buffer.size() == 0:
        return
    if isinstance(buffer, HerReplayBuffer):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it warns of what is meant here
            buffer.truncate_last_trajectory()
        return
    last = (buffer.pos - 1) % buffer.buffer_size
    if buffer.handle_timeout_termination:
        buffer.timeouts[last][buffer.dones[last] == 0] = 1
        buffer.dones[last] = 1
    elif buffer.optimize_memory_usage:
        # The row after it will hold the beginning of another episode.
        buffer.dones[last] = 1


def _arrays(buffer: ReplayBuffer) -> Iterator[tuple[str, Rows]]:
    """All arrays by the names of their files."""
    for name in _ARRAYS:
        value = getattr(buffer, name, None)
        if isinstance(value, dict):
            # A key may be anything, and a name of a file may not.
            for place, key in enumerate(sorted(value)):
                yield f"replay-{name}-{place}.raw", value[key]
        elif value is not None:
            yield f"replay-{name}.raw", value


def _read(path: Path, rows: int, n_envs: int, like: Rows) -> Rows:
    """An array of a checkpoint, as one of a buffer is; it stays on the disk until it is used."""
    shape = (rows, n_envs, *like.shape[2:])
    size_bytes = math.prod(shape) * like.itemsize
    with durable.open_regular(path) as file:
        there = file.seek(0, io.SEEK_END)
        if there != size_bytes:
            raise ValueError(f"{path.name} has {there} bytes, {size_bytes} are wanted")
        return np.memmap(file, dtype=like.dtype, mode="r", shape=shape)
