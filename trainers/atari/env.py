"""Atari games in the shape that Stable-Baselines3 expects.

Importing this module imports Stable-Baselines3, and with it torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.vec_env import VecEnv

from trainers.atari.game import OBSERVATION, Step

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Games(Protocol):
    """Games side by side: `ExactGames` or `NativeGames`."""

    n_games: int

    @property
    def n_actions(self) -> int:
        """How many actions the game has."""

    def reset(self) -> NDArray[np.uint8]:
        """Begin a new game everywhere; the first observations."""

    def send(self, actions: NDArray[np.int64]) -> None:
        """Begin a step everywhere."""

    def receive(self) -> Step:
        """Finish the step."""

    def screen(self) -> NDArray[np.uint8]:
        """What a person would see of the first game, between two steps: RGB, or grey alone."""

    def close(self) -> None:
        """Let go of processes and memory."""


class AtariGames(VecEnv):
    """Games side by side.

    Observations are `(n_envs, 4, 84, 84) uint8`: the last four grey pictures, one for
    every four frames of the game. Rewards are clipped to their sign. A lost life
    ends the learning episode and not the game.

    `infos[i]["episode"]` appears when a whole *game* ended: its undiscounted,
    unclipped return `r` and its length `l` in steps, over all its lives.
    """

    def __init__(self, games: Games) -> None:
        self._games = games
        super().__init__(
            games.n_games,
            spaces.Box(0, 255, OBSERVATION, np.uint8),
            spaces.Discrete(games.n_actions),
        )

    def reset(self) -> NDArray[np.uint8]:
        """Begin a new game in every environment."""
        return self._games.reset()

    def step_async(self, actions: NDArray[np.int64]) -> None:
        """Begin a step in every environment."""
        self._games.send(actions)

    def step_wait(
        self,
    ) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.bool_], list[dict[str, Any]]]:
        """Finish the step: observations, clipped rewards, ends of learning episodes, infos."""
        step = self._games.receive()
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        for i, observation in step.last.items():
            infos[i]["terminal_observation"] = observation
            infos[i]["TimeLimit.truncated"] = bool(step.truncated[i])
        for i, (game_return, length) in step.games.items():
            infos[i]["episode"] = {"r": game_return, "l": length}
        return step.observations, np.sign(step.rewards).astype(np.float32), step.dones, infos

    def close(self) -> None:
        """End the games."""
        self._games.close()

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """Only the render mode, which there is none of."""
        if attr_name != "render_mode":
            raise AttributeError(attr_name)
        return [None for _ in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:  # noqa: ARG002
        """Refused: the environments are not Python objects."""
        raise AttributeError(attr_name)

    def env_method(
        self,
        method_name: str,
        *method_args: Any,  # noqa: ARG002
        indices: Any = None,  # noqa: ARG002
        **method_kwargs: Any,  # noqa: ARG002
    ) -> list[Any]:
        """Refused: the environments are not Python objects."""
        raise AttributeError(method_name)

    def env_is_wrapped(
        self,
        wrapper_class: type[Any],  # noqa: ARG002
        indices: Any = None,
    ) -> list[bool]:
        """No environment is wrapped."""
        return [False for _ in self._get_indices(indices)]
