"""Which algorithms there are, and what each can be told: read from the libraries' source.

To import one takes seconds, for all of them import torch. Their source says the same in
milliseconds, so that a wrong name is told before anything is started.
"""

from __future__ import annotations

import ast
import difflib
import importlib
import importlib.util
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from trainers import durable
from trainers.contract import BadSpec

SOURCE_MAX_BYTES = 2**20
CONTRIB = "sb3_contrib"
OURS = frozenset({"self", "policy", "env", "seed", "device", "verbose", "tensorboard_log"})
"""what constructors take and no hyper-parameter is: options of ours, or ours to decide"""

_BOX, _DISCRETE = ("Box",), ("Discrete",)
_COUNTED = ("Discrete", "MultiDiscrete", "MultiBinary")
_ANY = (*_BOX, *_COUNTED)


class Algorithm(NamedTuple):
    """An algorithm, before it is imported."""

    name: str
    kind: str
    """its class"""
    module: str
    """in which the class is written down"""
    actions: tuple[str, ...]
    """spaces of actions that it can learn in"""
    recurrent: bool = False
    masked: bool = False
    """whether the environment says which actions are possible"""

    @property
    def package(self) -> str:
        """The library that it is of."""
        return self.module.partition(".")[0]

    def load(self) -> Any:
        """Its class; this imports torch."""
        return getattr(importlib.import_module(self.package), self.kind)


class Known(NamedTuple):
    """What an algorithm's source says of it."""

    hyperparameters: tuple[str, ...]
    policies: tuple[str, ...]


ALGORITHMS = {
    one.name: one
    for one in (
        Algorithm("a2c", "A2C", "stable_baselines3.a2c.a2c", _ANY),
        Algorithm("ddpg", "DDPG", "stable_baselines3.ddpg.ddpg", _BOX),
        Algorithm("dqn", "DQN", "stable_baselines3.dqn.dqn", _DISCRETE),
        Algorithm("ppo", "PPO", "stable_baselines3.ppo.ppo", _ANY),
        Algorithm("sac", "SAC", "stable_baselines3.sac.sac", _BOX),
        Algorithm("td3", "TD3", "stable_baselines3.td3.td3", _BOX),
        Algorithm("ars", "ARS", f"{CONTRIB}.ars.ars", (*_BOX, *_DISCRETE)),
        Algorithm("crossq", "CrossQ", f"{CONTRIB}.crossq.crossq", _BOX),
        Algorithm(
            "ppo_lstm",
            "RecurrentPPO",
            f"{CONTRIB}.ppo_recurrent.ppo_recurrent",
            _ANY,
            recurrent=True,
        ),
        Algorithm("ppo_mask", "MaskablePPO", f"{CONTRIB}.ppo_mask.ppo_mask", _COUNTED, masked=True),
        Algorithm("qrdqn", "QRDQN", f"{CONTRIB}.qrdqn.qrdqn", _DISCRETE),
        Algorithm("tqc", "TQC", f"{CONTRIB}.tqc.tqc", _BOX),
        Algorithm("trpo", "TRPO", f"{CONTRIB}.trpo.trpo", _ANY),
    )
}


def find(name: str) -> Algorithm:
    """The algorithm of that name, whose library is installed.

    Raises:
        BadSpec: there is none, or its library is not there.
    """
    found = ALGORITHMS.get(name)
    if found is None:
        raise BadSpec(
            f"options.algorithm: there is no {name!r}{near(name, list(ALGORITHMS))}; "
            f"there are: {', '.join(ALGORITHMS)}"
        )
    if importlib.util.find_spec(found.package) is None:
        raise BadSpec(f"options.algorithm: {name!r} is in sb3-contrib: pip install sb3-contrib")
    return found


def near(name: str, known: list[str]) -> str:
    """What somebody may have meant, in words; "" where nothing is close."""
    close = difflib.get_close_matches(name, known, n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


@cache
def known_of(algorithm: Algorithm) -> Known:
    """What it can be told."""
    spec = importlib.util.find_spec(algorithm.package)
    assert spec is not None  # noqa: S101 - whoever found it has looked
    assert spec.origin is not None  # noqa: S101 - a library of files
    *folders, file = algorithm.module.split(".")[1:]
    path = Path(spec.origin).parent.joinpath(*folders, f"{file}.py")
    return _read(path, algorithm)


def _read(path: Path, algorithm: Algorithm) -> Known:
    tree = ast.parse(durable.read(path, SOURCE_MAX_BYTES, follow=True))
    (body,) = (
        node.body
        for node in tree.body
        if isinstance(node, ast.ClassDef) and node.name == algorithm.kind
    )
    parameters: tuple[str, ...] = ()
    policies: tuple[str, ...] = ()
    for node in body:
        if isinstance(node, ast.FunctionDef) and node.name == "__init__":
            words = (*node.args.args, *node.args.kwonlyargs)
            parameters = tuple(
                word.arg for word in words if word.arg not in OURS and word.arg[0] != "_"
            )
        if (
            isinstance(node, ast.AnnAssign)
            and isinstance(node.target, ast.Name)
            and node.target.id == "policy_aliases"
            and isinstance(node.value, ast.Dict)
        ):
            policies = tuple(
                str(key.value) for key in node.value.keys if isinstance(key, ast.Constant)
            )
    return Known(parameters, policies)
