"""What the trainers that learn with Stable-Baselines3 have in common.

What is loaded runs no code, and unpacks to no more than it is.

Importing this module imports torch.
"""

from __future__ import annotations

import io
import random
import zipfile
from collections import deque
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from stable_baselines3.common.logger import KVWriter, Logger

from trainers.contract import Score
from trainers.session import Session

if TYPE_CHECKING:
    from stable_baselines3.common.base_class import BaseAlgorithm

RECENT_EPISODES = 100
"""episodes whose mean is the mean return"""

State = dict[str, Any]


class Schedules:
    """Makes progress mean steps out of `schedule_steps`, whatever `learn` was asked for."""

    schedule_steps: int

    def _update_current_progress_remaining(
        self,
        num_timesteps: int,
        total_timesteps: int,  # noqa: ARG002 - the parent's signature
    ) -> None:
        self._current_progress_remaining = max(0.0, 1.0 - num_timesteps / self.schedule_steps)


class Tally:
    """The finished episodes: how many, the last of them, and the best mean so far."""

    def __init__(self) -> None:
        self.episodes = 0
        self.recent: deque[tuple[float, int]] = deque(maxlen=RECENT_EPISODES)
        self.best: float | None = None

    def add(self, episode_return: float, length: int) -> None:
        """Count an episode that is over."""
        self.episodes += 1
        self.recent.append((episode_return, length))

    @property
    def return_mean(self) -> float | None:
        """The mean undiscounted return of the last episodes; None before the first one is over."""
        return fmean(episode[0] for episode in self.recent) if self.recent else None

    @property
    def length_mean(self) -> float | None:
        """How many steps they took; None likewise."""
        return fmean(episode[1] for episode in self.recent) if self.recent else None

    @property
    def score(self) -> Score | None:
        """The mean return as a score; None before the first episode is over."""
        return None if self.return_mean is None else return_mean(self.return_mean)

    def record(self, logger: Logger) -> None:
        """Add what is known of the last episodes to what Stable-Baselines3 writes next."""
        mean = self.return_mean
        if mean is not None and (self.best is None or mean > self.best):
            self.best = mean
        for key, value in {
            "rollout/return_mean": mean,
            "rollout/return_mean_best": self.best,
            "rollout/length_mean": self.length_mean,
        }.items():
            if value is not None:
                logger.record(key, value)

    def snapshot(self) -> State:
        """What a checkpoint holds of it."""
        return {"games": self.episodes, "recent": list(self.recent), "best": self.best}

    def restore(self, state: State) -> None:
        """Go on from what a checkpoint holds."""
        self.episodes = state["games"]
        self.recent.extend(state["recent"])
        self.best = state["best"]


def return_mean(mean: float | None) -> Score:
    """A score of the mean return of episodes, of which higher is better; None: not known yet."""
    return Score(name="return_mean", value=mean)


class Lines(KVWriter):
    """Stable-Baselines3's records as what the session logs."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def write(
        self,
        key_values: dict[str, Any],
        key_excluded: dict[str, tuple[str, ...]],
        step: int = 0,  # noqa: ARG002 - the session knows it
    ) -> None:
        """Write one line."""
        no_curves = [key for key, excluded in key_excluded.items() if "tensorboard" in excluded]
        self._session.log(key_values, file_only=no_curves)

    def close(self) -> None:
        """Nothing is open."""


class Memory:
    """Memory for copies of tensors, used again each time: new memory takes twice as long."""

    def __init__(self) -> None:
        self._copies: dict[tuple[Any, ...], torch.Tensor] = {}

    def copy(self, value: Any) -> Any:
        """`value`, with copies of all tensors in it; the next call overwrites them."""
        if isinstance(value, dict):
            return {key: self.copy(part) for key, part in value.items()}
        if isinstance(value, list):
            return [self.copy(part) for part in value]
        if not isinstance(value, torch.Tensor):
            return value
        # Shared parameters have several names and one place, and stay one tensor in the copy.
        place = (value.data_ptr(), value.dtype, value.shape, value.stride())
        if place not in self._copies:
            # From a GPU to pinned memory: no copy waits for the one before.
            self._copies[place] = torch.empty_like(
                value, device="cpu", pin_memory=value.is_cuda, requires_grad=False
            )
        return self._copies[place].copy_(value.detach(), non_blocking=True)


def refuse_packed(file: Path | io.BytesIO, name: str | None = None) -> None:
    """Refuse to load what would unpack to more than it is: torch itself never packs.

    Args:
        file: a path, or what lies there.
        name: how it is called; None: as its path.

    Raises:
        ValueError: it is packed, or nothing that `torch.save` writes today.
    """
    if isinstance(file, Path):
        size_bytes, name = file.stat().st_size, name or file.name
    else:
        size_bytes = len(file.getbuffer())
    try:
        with zipfile.ZipFile(file) as archive:
            parts = archive.infolist()
    except (zipfile.BadZipFile, NotImplementedError) as error:
        raise ValueError(f"{name} is not what torch saves: {error}") from error
    packed = any(part.compress_type != zipfile.ZIP_STORED for part in parts)
    if packed or sum(part.file_size for part in parts) > size_bytes:
        raise ValueError(f"{name} is packed, as torch packs nothing")


def random_states(model: BaseAlgorithm) -> State:
    """The states of all generators that the learning draws from."""
    # The global generator: Stable-Baselines3 draws its minibatches from it.
    drawn: Any = np.random.get_state(legacy=False)
    return {
        "python": random.getstate(),
        # Checkpoints hold tensors and plain values only, so that loading one runs no code.
        "numpy": {**drawn, "state": {**drawn["state"], "key": drawn["state"]["key"].tolist()}},
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state(model.device) if model.device.type == "cuda" else None,
        "actions": model.action_space.np_random.bit_generator.state,
    }


def set_random_states(model: BaseAlgorithm, states: State) -> None:
    """Have all generators go on from there."""
    random.setstate(states["python"])
    drawn = states["numpy"]
    key = np.asarray(drawn["state"]["key"], dtype=np.uint32)
    np.random.set_state({**drawn, "state": {**drawn["state"], "key": key}})
    torch.set_rng_state(states["torch"])
    if isinstance(states["cuda"], torch.Tensor) and model.device.type == "cuda":
        torch.cuda.set_rng_state(states["cuda"], model.device)
    model.action_space.np_random.bit_generator.state = states["actions"]
