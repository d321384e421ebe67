"""Environments side by side whose finished episodes are counted.

Importing this module imports torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper

from trainers.baselines import Tally

if TYPE_CHECKING:
    from stable_baselines3.common.vec_env.base_vec_env import VecEnvObs, VecEnvStepReturn


class Counted(VecEnvWrapper):
    """Counts episodes as their undiscounted, unclipped return is known."""

    def __init__(self, venv: VecEnv, tally: Tally) -> None:
        super().__init__(venv)
        self._tally = tally

    def reset(self) -> VecEnvObs:
        """Begin all episodes."""
        return self.venv.reset()

    def step_wait(self) -> VecEnvStepReturn:
        """Wait for a step of all environments."""
        step: VecEnvStepReturn = self.venv.step_wait()
        for info in step[3]:
            if "episode" in info:
                self._tally.add(float(info["episode"]["r"]), int(info["episode"]["l"]))
        return step
