"""Atari games in ale-py's native vector environment: a little faster, and never exact.

Importing this module imports neither Stable-Baselines3 nor torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from ale_py.vector_env import AtariVectorEnv

from trainers.atari.game import GAME_MAX_FRAMES, Step

if TYPE_CHECKING:
    from numpy.typing import NDArray


class NativeGames:
    """Games that native threads play. They can be neither cloned nor restored.

    They differ from `Game` in four ways. FIRE is pressed at the start of a game only,
    and relaunching the ball after a lost life is the agent's to learn. The frame
    stack is not blanked at a lost life, since the game goes on. No action is forced
    after one. And pictures are made smaller by OpenCV.

    Args:
        rom: ale-py's id of the game, such as `ms_pacman`.
        seeds: one for each game; they choose how many no-ops, up to 30, open it, and drive
            the sticky actions.
        threads: native threads that play them.
        sticky_actions: probability that a frame repeats the action of the frame before.
        game_max_frames: after which a game is cut off.
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
        self.n_games = len(seeds)
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
            # Clipped later, so that the true return can be told.
            reward_clipping=False,
        )
        self._new_seeds: NDArray[np.int64] | None = np.asarray(seeds, dtype=np.int64)
        self._frames_before = np.zeros(len(seeds), dtype=np.int32)
        self._returns = np.zeros(len(seeds), dtype=np.float64)
        self._lengths = np.zeros(len(seeds), dtype=np.int64)

    @property
    def n_actions(self) -> int:
        """How many actions the game has."""
        return len(self._games.ale.get_action_set())

    def reset(self) -> NDArray[np.uint8]:
        """Begin a new game everywhere, the first time with the seeds; the first observations."""
        # A seeded reset loads every game a second time, about 0.1 s each.
        observations, info = self._games.reset(seed=self._new_seeds)
        self._new_seeds = None
        self._frames_before = info["frame_number"] - info["episode_frame_number"]
        self._returns[:] = 0.0
        self._lengths[:] = 0
        self._newest = np.asarray(observations)
        return self._newest

    def send(self, actions: NDArray[np.int64]) -> None:
        """Begin a step everywhere."""
        self._games.send(np.asarray(actions, dtype=np.int64))

    def receive(self) -> Step:
        """Finish the step."""
        observations, rewards, terminated, truncated, info = self._games.recv()
        self._newest = observations
        self._returns += rewards
        self._lengths += 1
        # ALE counts frames over all games and in this game. Their difference is the frames of
        # earlier games, which grows exactly when a new game has begun. Lives cannot tell: after
        # the autoreset they are those of the new game, and some games have none.
        frames_before = info["frame_number"] - info["episode_frame_number"]
        new_game = frames_before != self._frames_before
        self._frames_before = frames_before
        dones = terminated | truncated
        games: dict[int, tuple[float, int]] = {}
        for i in np.flatnonzero(new_game):
            games[int(i)] = float(self._returns[i]), int(self._lengths[i])
            self._returns[i] = 0.0
            self._lengths[i] = 0
        return Step(
            observations=observations,
            rewards=rewards,
            dones=dones,
            truncated=truncated & ~terminated,
            last={
                # `final_obs` holds stale pictures for a game that goes on after a lost life.
                int(i): info["final_obs"][i] if new_game[i] else observations[i]
                for i in np.flatnonzero(dones)
            },
            games=games,
        )

    def screen(self) -> NDArray[np.uint8]:
        """The newest picture of the first game: small and grey, for there is no other."""
        picture: NDArray[np.uint8] = self._newest[0, -1]
        return picture

    def close(self) -> None:
        """Nothing to do: the emulators end with the object."""
