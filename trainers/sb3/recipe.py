"""What is to be learnt and how: options, zoo and mode in one value, whose every name is known.

Nothing here imports torch; what has to be, stands for itself until something is learnt.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trainers.contract import BadSpec, Spec
from trainers.options import load_of
from trainers.sb3 import expressions, zoo
from trainers.sb3.algorithms import Algorithm, Known, find, known_of, near
from trainers.sb3.expressions import Linear, Named, Noise
from trainers.sb3.options import Load, Options
from trainers.session import options_of

SCHEDULE_STEPS = 1_000_000
"""over which what falls does so where nothing else says it"""
POLICIES = ("MlpPolicy", "CnnPolicy", "MultiInputPolicy")

_SCHEDULES = frozenset({"learning_rate", "clip_range", "clip_range_vf", "delta_std"})
_EXPRESSIONS = frozenset(
    {
        "policy_kwargs", "replay_buffer_class", "replay_buffer_kwargs", "rollout_buffer_class",
        "rollout_buffer_kwargs", "action_noise",
    }
)  # fmt: skip
_KINDS: dict[str, tuple[type, str]] = {
    "kwargs": (dict, "table"),
    "class": (Named, "class that is known here"),
    "noise": (Noise, "noise"),
}
"""what they are, by the end of their name"""
_CLASSES = frozenset({"activation_fn", "optimizer_class", "features_extractor_class"})
"""whose values are classes, also where they stand as words in a table"""
_NORMALIZE = (
    "norm_obs", "norm_reward", "clip_obs", "clip_reward", "gamma", "epsilon", "norm_obs_keys",
)  # fmt: skip
_OF_GYMNASIUM = (
    "ClipAction", "FilterObservation", "FlattenObservation", "FrameStackObservation",
    "GrayscaleObservation", "RescaleAction", "ResizeObservation", "TimeAwareObservation",
    "TimeLimit",
)  # fmt: skip
_WRAPPERS = {
    "AtariWrapper": "stable_baselines3.common.atari_wrappers",
    "TimeFeatureWrapper": "sb3_contrib.common.wrappers",
    **dict.fromkeys(_OF_GYMNASIUM, "gymnasium.wrappers"),
}
"""what may be laid around an environment, and where it is; all of them keep nothing for long"""
_STACK = "stable_baselines3.common.vec_env.VecFrameStack"


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What is to be learnt and how."""

    algorithm: Algorithm
    env: str
    env_kwargs: Mapping[str, Any]
    policy: str | None
    """None: what suits the observations"""
    n_envs: int
    processes: bool
    hyperparameters: Mapping[str, Any]
    """in the values of `expressions`"""
    normalize: Mapping[str, Any] | None
    frame_stack: int | None
    wrappers: tuple[tuple[str, str, Mapping[str, Any]], ...]
    """module, class and arguments of each, the innermost first"""
    schedule_steps: int
    zoo_steps: int | None
    """how long the zoo trains"""


@dataclass(slots=True)
class _Table:
    """What an entry of the zoo says, taken from it name by name."""

    values: dict[str, Any] = field(default_factory=dict)
    where: str = "options.zoo"

    def take(self, name: str, kind: type | tuple[type, ...], default: Any = None) -> Any:
        value = self.values.pop(name, None)
        if value is None:
            return default
        if isinstance(value, float) and value.is_integer() and kind is int:
            value = int(value)
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise BadSpec(f"{self.where}: {name}: {value!r} will not do")
        return value


def recipe_of(spec: Spec, home: Path | None) -> Recipe:
    """The recipe of a run.

    Args:
        spec: the run's.
        home: in which the path of a zoo begins; None: it is unknown, and so is what a zoo says
            whose path is no whole one.

    Raises:
        BadSpec: a name or a value is unknown; the message names it.
    """
    options, load = options_of(spec, Options), load_of(spec, Load)
    algorithm = find(options.algorithm)
    known = known_of(algorithm)
    env = options.env or spec.name
    table = _zoo(options, env, home)
    zoo_steps, zoo_envs = table.take("n_timesteps", int), table.take("n_envs", int, 1)
    zoo_policy, stack = table.take("policy", str), table.take("frame_stack", int)
    normalize = table.take("normalize", (bool, str, dict))
    wrappers = _wrappers(table.take("env_wrapper", (str, list)), f"{table.where}: env_wrapper")
    stack = _stack(table) or stack
    env_kwargs = _table(table.take("env_kwargs", (str, dict), {}), f"{table.where}: env_kwargs")
    noise = _noise(table)
    hyper = _hyperparameters(table.values, known, algorithm, table.where)
    if noise is not None:
        hyper["action_noise"] = noise
    hyper |= _hyperparameters(options.hyperparameters, known, algorithm, "options.hyperparameters")
    recipe = Recipe(
        algorithm=algorithm,
        env=env,
        env_kwargs={**env_kwargs, **options.env_kwargs},
        policy=_policy(options.policy or zoo_policy, known),
        n_envs=load.n_envs or options.n_envs or zoo_envs,
        processes=options.processes,
        hyperparameters=hyper,
        normalize=_normalize(
            normalize if options.normalize is None else options.normalize, hyper.get("gamma")
        ),
        frame_stack=stack,
        wrappers=wrappers,
        schedule_steps=(
            options.schedule_steps or spec.up_to("steps") or zoo_steps or SCHEDULE_STEPS
        ),
        zoo_steps=zoo_steps,
    )
    _refuse_what_cannot_be(recipe)
    return recipe


def inexact(recipe: Recipe, where: str) -> str | None:
    """Why a resumed run is not what it would have been; None: it is, to the bit.

    Args:
        recipe: of the run.
        where: the module of the environment's own class.
    """
    noise = recipe.hyperparameters.get("action_noise")
    for holds, why in (
        (recipe.processes, "environments in other processes cannot be saved"),
        (
            not where.startswith("gymnasium.envs.classic_control."),
            "the environment cannot be saved",
        ),
        (recipe.wrappers or recipe.frame_stack, "what is laid around it cannot be saved"),
        (recipe.algorithm.recurrent or recipe.algorithm.name == "ars", "its algorithm draws anew"),
        (recipe.hyperparameters.get("use_sde"), "with use_sde it draws its noise anew"),
        (isinstance(noise, Noise) and noise.kind.startswith("Ornstein"), "its noise begins anew"),
    ):
        if holds:
            return why
    return None


def _zoo(options: Options, env: str, home: Path | None) -> _Table:
    if options.zoo is None:
        return _Table()
    path = Path(options.zoo)
    if not path.is_absolute():
        if home is None:
            return _Table()
        path = home / path
    return _Table(zoo.entry(path, env), f"options.zoo: {env}")


def _hyperparameters(
    given: Mapping[str, Any], known: Known, algorithm: Algorithm, where: str
) -> dict[str, Any]:
    for name in given:
        if name not in known.hyperparameters:
            hint = near(name, list(known.hyperparameters))
            raise BadSpec(f"{where}: {algorithm.name} has no {name!r}{hint}")
    return {name: _value(name, value, f"{where}: {name}") for name, value in given.items()}


def _value(name: str, value: Any, where: str) -> Any:
    """A hyper-parameter, whose text is read as what it means."""
    if name in _EXPRESSIONS:
        read = expressions.read(value, where) if isinstance(value, str) else value
        kind, words = _KINDS[name.rpartition("_")[2]]
        if not isinstance(read, kind):
            raise BadSpec(f"{where}: {value!r} is no {words}")
        return _with_classes(read, where)
    if name in _SCHEDULES and isinstance(value, str):
        found = expressions.schedule(value)
        read = expressions.read(value, where) if found is None else found
        if not isinstance(read, int | float | Linear):
            raise BadSpec(f"{where}: {value!r} is no number, and not like 'lin_3e-4'")
        return read
    if name == "train_freq" and isinstance(value, list):
        return tuple(value)
    if isinstance(value, str) and isinstance(number := expressions.schedule(value), float):
        return int(number) if number.is_integer() and value.lstrip("+-").isdigit() else number
    return value


def _with_classes(value: Any, where: str) -> Any:
    if not isinstance(value, dict):
        return value
    found = dict(value)
    for name in _CLASSES & found.keys():
        if isinstance(found[name], str):
            found[name] = expressions.read(found[name], f"{where}: {name}")
        if not isinstance(found[name], Named):
            raise BadSpec(f"{where}: {name} must be a class that is known here")
    return found


def _policy(name: str | None, known: Known) -> str | None:
    policies = list(known.policies or POLICIES)
    if name is not None and name not in policies:
        raise BadSpec(
            f"options.policy: no {name!r}{near(name, policies)}; there are: {', '.join(policies)}"
        )
    return name


def _normalize(value: bool | str | dict[str, Any] | None, gamma: Any) -> dict[str, Any] | None:
    if value is None or value is False:
        return None
    given = {} if value is True else _table(value, "normalize")
    for name in given:
        if name not in _NORMALIZE:
            raise BadSpec(f"normalize: no {name!r}{near(name, list(_NORMALIZE))}")
    return ({"gamma": gamma} if gamma is not None else {}) | given


def _table(value: str | dict[str, Any], where: str) -> dict[str, Any]:
    read = expressions.read(value, where) if isinstance(value, str) else value
    if not isinstance(read, dict):
        raise BadSpec(f"{where}: {value!r} is no table")
    return read


def _wrappers(value: Any, where: str) -> tuple[tuple[str, str, Mapping[str, Any]], ...]:
    found = []
    for one in value if isinstance(value, list) else [value] if value else []:
        path, given = (
            next(iter(one.items())) if isinstance(one, dict) and len(one) == 1 else (one, {})
        )
        module, _, name = str(path).rpartition(".")
        place = _WRAPPERS.get(name)
        if place is None or not module.replace("gym.", "gymnasium.").startswith(place):
            raise BadSpec(f"{where}: {str(path)[:80]!r} is not known here")
        # Tables have no tuples, and constructors want them for shapes.
        arguments = {
            key: tuple(part) if isinstance(part, list) else part
            for key, part in _table(given or {}, where).items()
        }
        found.append((place, name, arguments))
    return tuple(found)


def _stack(table: _Table) -> int | None:
    """How many observations a wrapper of all environments stacks; no other is known."""
    value = table.take("vec_env_wrapper", (str, list, dict))
    ones = value if isinstance(value, list) else [value] if value else []
    match ones:
        case []:
            return None
        case [dict(one)] if list(one) == [_STACK] and isinstance(one[_STACK], dict):
            inner = _Table(dict(one[_STACK]), f"{table.where}: {_STACK}")
            stack: int | None = inner.take("n_stack", int)
            if stack is not None and not inner.values:
                return stack
    raise BadSpec(f"{table.where}: vec_env_wrapper: {str(ones[0])[:80]!r} is not known here")


def _noise(table: _Table) -> Noise | None:
    kind, std = table.take("noise_type", str), table.take("noise_std", (int, float), 0.0)
    if kind is None:
        return None
    kinds: dict[str, Callable[[], Noise]] = {
        "normal": lambda: Noise("NormalActionNoise", {"sigma": std}),
        "ornstein-uhlenbeck": lambda: Noise("OrnsteinUhlenbeckActionNoise", {"sigma": std}),
    }
    if kind.strip() not in kinds:
        raise BadSpec(f"{table.where}: noise_type: {kind!r} is not known here")
    return kinds[kind.strip()]()


def _refuse_what_cannot_be(recipe: Recipe) -> None:
    hyper = recipe.hyperparameters
    frequency = hyper.get("train_freq")
    if isinstance(frequency, tuple) and "episode" in frequency and recipe.n_envs > 1:
        raise BadSpec("train_freq in episodes: n_envs must be 1")
    replays = "buffer_size" in known_of(recipe.algorithm).hyperparameters
    if replays and recipe.frame_stack and recipe.normalize is not None:
        raise BadSpec("frame_stack and normalize: no algorithm with a replay buffer can do both")
    if (hyper.get("replay_buffer_kwargs") or {}).get("copy_info_dict"):
        raise BadSpec("replay_buffer_kwargs: copy_info_dict: no checkpoint could hold that")
