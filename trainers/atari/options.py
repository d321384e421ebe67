"""What can be set in the Atari trainer; light, as nothing else that learns is."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from trainers.contract import Positive

Rate = Annotated[float, msgspec.Meta(gt=0, le=1)]
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
Weight = Annotated[float, msgspec.Meta(ge=0)]


class Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is learnt, and how.

    The defaults are published: those of rl-baselines3-zoo for `NoFrameskip-v4`, but for
    `rollout_steps`, which all modes have in common. PPO's are those of cleanrl's `ppo_atari.py` and
    of Schulman et al. 2017, too; of DQN's, discount, batch and updates are as in Mnih et al. 2015.

    Where both have a word for values of their own, there is an option of each, so that none is
    taken for the other's.
    """

    algorithm: Literal["ppo", "dqn"] = "ppo"
    """what learns"""
    game: str | None = None
    """such as `MsPacman`; None: the spec's name"""
    sticky_actions: Annotated[float, msgspec.Meta(ge=0, lt=1)] = 0.0
    """probability that an action is repeated; 0 as in NoFrameskip-v4, 0.25 as in v5"""
    environments: Literal["exact", "native"] = "exact"
    """exact: a resumed run goes on with the very games of its checkpoint; native: with new ones,
    each step a little cheaper"""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto: the GPU where there is one"""
    rollout_steps: Positive = 4096
    """PPO: transitions collected between two updates, over all environments"""
    gamma: Share = 0.99
    """what a reward one step later is worth of the same reward now"""
    nominal_steps: Positive = 10_000_000
    """steps over which all that falls does so, where the target is in episodes"""
    ppo_learning_rate: Rate = 2.5e-4
    """PPO: of Adam, at the beginning"""
    anneal_learning_rate: bool = True
    """PPO: it falls to nothing at the target, in a straight line"""
    ppo_max_grad_norm: Annotated[float, msgspec.Meta(gt=0)] = 0.5
    """PPO: a longer gradient is shortened to this norm"""
    n_epochs: Positive = 4
    """PPO: how often each transition is learnt from"""
    gae_lambda: Share = 0.95
    """PPO: 0: an advantage is told by one reward and the value after it; 1: by all rewards"""
    clip_range: Rate = 0.1
    """PPO: how far an update may move the probability of an action, as a share, at the beginning"""
    anneal_clip_range: bool = True
    """PPO: it falls to nothing at the target, in a straight line"""
    ent_coef: Weight = 0.01
    """PPO: weight of the entropy in the loss, which keeps the policy curious"""
    vf_coef: Weight = 0.5
    """PPO: weight of the error of the values in the loss"""
    dqn_learning_rate: Rate = 1e-4
    """DQN: of Adam"""
    dqn_max_grad_norm: Annotated[float, msgspec.Meta(gt=0)] = 10.0
    """DQN: a longer gradient is shortened to this norm"""
    buffer_size: Positive = 100_000
    """DQN: transitions kept; each takes 28 KB of memory"""
    learning_starts: Positive = 100_000
    """DQN: transitions played at random before learning starts"""
    replay_batch_size: Positive = 32
    """DQN: transitions drawn for a gradient step, whatever the mode's batch size"""
    transitions_per_update: Positive = 4
    """DQN: transitions played for each gradient step, over all environments"""
    target_update_interval: Positive = 1000
    """DQN: transitions after which the target network is copied anew"""
    exploration_fraction: Rate = 0.1
    """DQN: share of the target over which random actions become rare, in a straight line"""
    exploration_initial: Share = 1.0
    """DQN: share of random actions at the beginning"""
    exploration_final: Share = 0.01
    """DQN: share of random actions in the end"""


PPO_CONDITIONS = (
    "gamma",
    "nominal_steps",
    "ppo_learning_rate",
    "anneal_learning_rate",
    "ppo_max_grad_norm",
    "n_epochs",
    "gae_lambda",
    "clip_range",
    "anneal_clip_range",
    "ent_coef",
    "vf_coef",
)
"""hyper-parameters that move a bit of what PPO learns, and may be changed within a run"""


class Load(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How heavy a game is for the machine; by default as PPO was published for Atari."""

    n_envs: Positive = 8
    """environments of each game, which play side by side"""
    batch_size: Positive = 256
    """PPO: samples per gradient step"""
