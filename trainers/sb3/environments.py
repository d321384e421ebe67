"""Environments of gymnasium: made one by one, played side by side, gone on with where it can be.

Only what makes them side by side imports torch, as Stable-Baselines3 does.
"""

from __future__ import annotations

import copy
import importlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from trainers.contract import BadSpec
from trainers.sb3.recipe import Recipe

if TYPE_CHECKING:
    import gymnasium
    from stable_baselines3.common.vec_env import VecEnv

    from trainers.baselines import Tally

State = dict[str, Any]

_KEPT = frozenset({"_elapsed_steps", "rewards"})
"""what a limit of time, and what counts rewards, know of an episode"""


def make(recipe: Recipe, *, film: bool = False) -> gymnasium.Env[Any, Any]:
    """One environment, with nothing around it but what it was registered with.

    Raises:
        BadSpec: there is none of that name, it lacks something, or cannot be filmed.
    """
    import gymnasium  # noqa: PLC0415 - 0.2 s that listing the trainers need not pay

    mode = {}
    if film:
        dark = make(recipe)
        dark.close()
        if "rgb_array" not in dark.metadata.get("render_modes", ()):
            raise BadSpec(f"{recipe.env} draws no pictures (rgb_array): it cannot be recorded")
        mode = {"render_mode": "rgb_array"}
    try:
        env: gymnasium.Env[Any, Any] = gymnasium.make(recipe.env, **{**recipe.env_kwargs, **mode})
    except (gymnasium.error.Error, ImportError, TypeError, ValueError) as error:
        raise BadSpec(f"options.env: {recipe.env}: {_line(error)}") from error
    return env


def check(recipe: Recipe) -> str:
    """See that an environment can be made, and learnt by the algorithm; its own class's module.

    Raises:
        BadSpec: it cannot.
    """
    from gymnasium import spaces  # noqa: PLC0415 - as above

    env = make(recipe)
    try:
        actions = env.action_space
        kinds = tuple(getattr(spaces, name) for name in recipe.algorithm.actions)
        if not isinstance(actions, kinds):
            raise BadSpec(
                f"{recipe.algorithm.name} cannot learn {recipe.env}: its actions are "
                f"{type(actions).__name__}, not {' or '.join(recipe.algorithm.actions)}"
            )
        if recipe.algorithm.masked and not env.has_wrapper_attr("action_masks"):
            raise BadSpec(
                f"{recipe.algorithm.name} cannot learn {recipe.env}: it does not say which actions "
                "are possible (action_masks)"
            )
        return type(env.unwrapped).__module__
    finally:
        env.close()


def side_by_side(recipe: Recipe, n_envs: int, tally: Tally, *, film: bool = False) -> VecEnv:
    """Environments that play side by side, with all that the recipe lays around them."""
    from stable_baselines3.common.vec_env import (  # noqa: PLC0415 - imports torch
        DummyVecEnv,
        SubprocVecEnv,
        VecFrameStack,
        VecNormalize,
    )

    from trainers.sb3.counted import Counted  # noqa: PLC0415 - as above

    makers = [_maker(recipe, film=film)] * n_envs
    # A server forks the processes, and no process holds the pipe of another: all end with ours.
    env: VecEnv = SubprocVecEnv(makers, "forkserver") if recipe.processes else DummyVecEnv(makers)
    try:
        env = Counted(env, tally)
        if recipe.normalize is not None:
            env = VecNormalize(env, **recipe.normalize)
        if recipe.frame_stack:
            env = VecFrameStack(env, recipe.frame_stack)
    except (ValueError, AssertionError, TypeError) as error:
        env.close()
        raise BadSpec(f"normalize or frame_stack: {_line(error)}") from error
    return env


def close(env: VecEnv) -> None:
    """End all environments, and what forked them, which else would outlive us for a moment."""
    from multiprocessing import forkserver, resource_tracker  # noqa: PLC0415 - only at the end

    env.close()
    if hasattr(env.unwrapped, "processes"):
        servers: tuple[Any, ...] = forkserver._forkserver, resource_tracker._resource_tracker
        for server in servers:
            server._stop()


def places(env: VecEnv) -> list[State]:
    """Where each environment of classic control is, in plain values and tensors."""
    import numpy as np  # noqa: PLC0415 - 0.1 s that listing need not pay
    import torch  # noqa: PLC0415 - heavy

    found = []
    envs: Any = env.unwrapped
    for one in envs.envs:
        own = one.unwrapped
        place = {
            "state": torch.from_numpy(np.array(own.state)),
            "in_a_tuple": isinstance(own.state, tuple),
            "over_for": getattr(own, "steps_beyond_terminated", None),
            "random": own.np_random.bit_generator.state,
        }
        for layer in _layers(one):
            place |= {name: vars(layer)[name] for name in _KEPT & vars(layer).keys()}
        found.append(copy.deepcopy(place))
    return found


def go_on(env: VecEnv, held: list[State]) -> None:
    """Put each environment, which has been reset, where `places` has found it."""
    envs: Any = env.unwrapped
    for one, place in zip(envs.envs, held, strict=True):
        own = one.unwrapped
        state = place["state"].numpy()
        own.state = tuple(state) if place["in_a_tuple"] else state
        if hasattr(own, "steps_beyond_terminated"):
            own.steps_beyond_terminated = place["over_for"]
        own.np_random.bit_generator.state = place["random"]
        for layer in _layers(one):
            vars(layer).update({name: place[name] for name in _KEPT & vars(layer).keys()})


def _layers(env: gymnasium.Env[Any, Any]) -> Iterator[Any]:
    """What is around an environment, the outermost first."""
    layer: Any = env
    while layer is not env.unwrapped:
        yield layer
        layer = layer.env


def _maker(recipe: Recipe, *, film: bool) -> Callable[[], gymnasium.Env[Any, Any]]:
    def maker() -> gymnasium.Env[Any, Any]:
        from stable_baselines3.common.monitor import Monitor  # noqa: PLC0415 - imports torch

        env: gymnasium.Env[Any, Any] = Monitor(make(recipe, film=film))
        for module, name, given in recipe.wrappers:
            try:
                env = getattr(importlib.import_module(module), name)(env, **given)
            except (ImportError, TypeError, ValueError, AssertionError) as error:
                raise BadSpec(f"env_wrapper: {name}: {_line(error)}") from error
        return env

    return maker


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())
