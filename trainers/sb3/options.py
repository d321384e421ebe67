"""What can be set in the trainer of gymnasium's environments; light, as nothing that learns is."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from trainers.contract import Positive


class Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is learnt, and how."""

    env: str | None = None
    """an environment that gymnasium knows, such as `Pendulum-v1`; `package:Name-v0` imports a
    package that registers it; unset: the name of the run"""
    env_kwargs: dict[str, Any] = {}
    """what its constructor is given"""
    algorithm: str = "ppo"
    """a2c, ddpg, dqn, ppo, sac or td3; with sb3-contrib ars, crossq, ppo_lstm, ppo_mask, qrdqn, tqc
    or trpo, too"""
    policy: str | None = None
    """its network, such as `MlpPolicy`; unset: what the zoo says, or what suits the observations"""
    hyperparameters: dict[str, Any] = {}
    """what the algorithm's constructor is given; the rest is as the library has it"""
    zoo: str | None = None
    """a file of tuned hyper-parameters in the format of rl-baselines3-zoo, whose entry of this
    environment is used; a path within the home, or a whole one"""
    n_envs: Positive | None = None
    """environments that play side by side, where the mode says nothing; unset: what the zoo says,
    or 1"""
    processes: bool = False
    """each environment in a process of its own: for environments that calculate for long"""
    normalize: bool | dict[str, Any] | None = None
    """observations and rewards are normalised by their running mean and variance; a table is what
    `VecNormalize` is given; unset: what the zoo says, or no"""
    schedule_steps: Positive | None = None
    """steps over which all that falls does so; unset: the target, or else what the zoo says, or a
    million"""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto: the GPU where there is one"""


class Load(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How heavy a run is for the machine."""

    n_envs: Positive | None = None
    """environments that play side by side; unset: as the options have it"""
