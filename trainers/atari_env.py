"""ale-py's native vector environment, in the shape that Stable-Baselines3 expects.

Importing this module imports Stable-Baselines3, and with it torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from ale_py.vector_env import AtariVectorEnv
from gymnasium import spaces
from stable_baselines3.common.vec_env import VecEnv

if TYPE_CHECKING:
    from numpy.typing import NDArray

GAME_MAX_FRAMES = 108_000
"""half an hour of play, after which a game is cut off: the usual limit in publications"""


class AtariGames(VecEnv):
    """Atari games side by side, preprocessed the usual way, without gym wrappers or OpenCV.

    Observations are `(n_envs, 4, 84, 84) uint8`: the last four grey frames, each the
    maximum of two, one for every four frames of the game. Rewards are clipped to
    their sign. A lost life ends the learning episode and not the game.

    `infos[i]["episode"]` appears when a whole *game* ended: its undiscounted,
    unclipped return `r` and its length `l` in steps, over all its lives.

    It differs from Stable-Baselines3's own `AtariWrapper` in three ways: FIRE is
    pressed at the start of a game only, and relaunching the ball after a lost
    life is the agent's to learn; the frame stack is not blanked at a lost life,
    since the game goes on; and no action is forced after one.

    Args:
        rom: ale-py's id of the game, such as `ms_pacman`.
        seeds: one per environment; they choose how many no-ops, up to 30, open
            each game, and drive the sticky actions.
        threads: native threads that step them.
        sticky_actions: probability that an action is repeated instead of the chosen one.
    """

    def __init__(
        self,
        rom: str,
        seeds: Sequence[int],
        *,
        threads: int,
        sticky_actions: float = 0.0,
        game_max_frames: int = GAME_MAX_FRAMES,
    ) -> None:
        self._games = AtariVectorEnv(
            rom,
            len(seeds),
            num_threads=threads,
            repeat_action_probability=sticky_actions,
            max_num_frames_per_episode=game_max_frames,
            # Next-step autoreset would insert a transition that never happened.
            autoreset_mode="SameStep",
            # Not `episodic_life`, which starts a new game at every lost life.
            life_loss_info=True,
            # Clipped below, so that the true return can be told.
            reward_clipping=False,
        )
        self._new_seeds: NDArray[np.int64] | None = np.asarray(seeds, dtype=np.int64)
        self._frames_before = np.zeros(len(seeds), dtype=np.int32)
        self._returns = np.zeros(len(seeds), dtype=np.float64)
        self._lengths = np.zeros(len(seeds), dtype=np.int64)
        super().__init__(
            len(seeds),
            spaces.Box(0, 255, self._games.single_observation_space.shape, np.uint8),
            spaces.Discrete(len(self._games.ale.get_action_set())),
        )

    def reset(self) -> NDArray[np.uint8]:
        """Start a new game in every environment; the first time, with the seeds."""
        # A seeded reset loads every game a second time, about 0.1 s each.
        observations, info = self._games.reset(seed=self._new_seeds)
        self._new_seeds = None
        self._frames_before = info["frame_number"] - info["episode_frame_number"]
        self._returns[:] = 0.0
        self._lengths[:] = 0
        return np.asarray(observations)

    def step_async(self, actions: NDArray[np.int64]) -> None:
        """Begin a step in every environment."""
        self._games.send(np.asarray(actions, dtype=np.int64))

    def step_wait(
        self,
    ) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.bool_], list[dict[str, Any]]]:
        """Finish the step: observations, clipped rewards, ends of learning episodes, infos."""
        observations, rewards, terminated, truncated, info = self._games.recv()
        self._returns += rewards
        self._lengths += 1
        # ALE counts frames over all games and in this game. Their difference is the frames of
        # earlier games, which grows exactly when a new game has begun. Lives cannot tell: after
        # the autoreset they are those of the new game, and some games have none.
        frames_before = info["frame_number"] - info["episode_frame_number"]
        new_game = frames_before != self._frames_before
        self._frames_before = frames_before
        dones = terminated | truncated
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        for i in np.flatnonzero(dones):
            # `final_obs` holds stale pictures for a game that goes on after a lost life.
            last = info["final_obs"][i] if new_game[i] else observations[i]
            infos[i]["terminal_observation"] = last
            infos[i]["TimeLimit.truncated"] = bool(truncated[i] and not terminated[i])
        for i in np.flatnonzero(new_game):
            infos[i]["episode"] = {"r": float(self._returns[i]), "l": int(self._lengths[i])}
            self._returns[i] = 0.0
            self._lengths[i] = 0
        return observations, np.sign(rewards).astype(np.float32), dones, infos

    def close(self) -> None:
        """Nothing to do: the emulators end with the object."""

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
