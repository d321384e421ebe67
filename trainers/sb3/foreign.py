"""A model that Stable-Baselines3 has saved elsewhere, as a checkpoint of a run.

In such a zip lie weights, as torch saves them, and a table `data`, in which all that is no plain
value is a pickle. The weights are read, and plain numbers of that table; no pickle is.

Importing this module imports torch.
"""

from __future__ import annotations

import importlib.util
import io
import pickle
import zipfile
from pathlib import Path
from typing import Any

import msgspec
import torch
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm

from trainers.baselines import Memory, State, Tally, refuse_packed, return_mean
from trainers.contract import BadSpec, Spec
from trainers.registry import Imported
from trainers.sb3 import learner, snapshot
from trainers.sb3.algorithms import ALGORITHMS, Algorithm, known_of
from trainers.sb3.recipe import Recipe
from trainers.sb3.snapshot import COUNTERS, Snapshot

DATA, OTHERS, SUFFIX = "data", "pytorch_variables.pth", ".pth"
"""files of such a zip: its table, what is no network, and how the others end"""
NAMES_MAX = 3
"""that a refusal tells"""


def taken(recipe: Recipe, spec: Spec, path: Path) -> Imported:
    """What a zip of Stable-Baselines3 holds, as a checkpoint of a run of that recipe.

    Raises:
        BadSpec: it is none, or of another algorithm, or its network is another.
    """
    try:
        refuse_packed(path)
        with zipfile.ZipFile(path) as archive:
            data = msgspec.json.decode(archive.read(DATA), type=dict[str, Any])
            held = {
                name.removesuffix(SUFFIX): _tensors(archive.read(name), name)
                for name in archive.namelist()
                if name.endswith(SUFFIX)
            }
    except (ValueError, KeyError, IsADirectoryError, pickle.UnpicklingError, RuntimeError) as error:
        words = " ".join(str(error).split())[:200]
        raise BadSpec(f"{path.name} is no zip that Stable-Baselines3 has saved: {words}") from error
    _refuse_another(recipe.algorithm, data)
    with learner.unlearnt(recipe, spec) as model:
        counters = {
            name: data[name]
            for name in COUNTERS
            if name in vars(model) and type(data.get(name)) is type(vars(model)[name])
        }
        others = held.pop(OTHERS.removesuffix(SUFFIX), None) or {}
        blank = snapshot.take(model, Memory())
        state = {**blank, "weights": held, "others": others}
        state["counters"] = blank["counters"] | counters
        try:
            snapshot.restore(model, state)
        except RuntimeError as error:
            raise BadSpec(f"{path.name}: {' '.join(str(error).split())[:200]}") from error
        whole = {
            **snapshot.identity(recipe),
            **snapshot.take(model, Memory()),
            "tally": Tally().snapshot(),
            "conditions": learner.conditions(recipe, spec, model),
            "places": None,
            "replay": None,
        }
        remarks = []
        if isinstance(model, OffPolicyAlgorithm):
            remarks.append("it has no replay buffer, which is filled before anything is learnt")
        if model.get_vec_normalize_env() is not None:
            remarks.append(
                "the statistics of VecNormalize lie in a pickle beside it, which is not opened: "
                "they begin anew, so it plays badly at first"
            )
    try:
        files = [
            (name, bytes(content)) for name, content in Snapshot(whole, {}, wait=False).files()
        ]
    except FloatingPointError as error:
        raise BadSpec(f"{path.name}: its weights are not finite numbers") from error
    step = data.get("num_timesteps")
    return Imported(
        files=files,
        step=step if type(step) is int else None,
        score=return_mean(None),
        remarks=tuple(remarks),
    )


def _tensors(content: bytes, name: str) -> State:
    """What torch has saved: tensors and plain values, or nothing."""
    refuse_packed(io.BytesIO(content), name)
    held: State = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    return held


def _refuse_another(algorithm: Algorithm, data: dict[str, Any]) -> None:
    """Refuse a table that lacks more of what that algorithm is told than of what another is.

    Which one has saved it stands in a pickle alone, and the weights of a few are alike.
    """

    def lacking(other: Algorithm) -> list[str]:
        names = known_of(other).hyperparameters
        return [name for name in names if not {name, f"_{name}"} & data.keys()]

    there = [one for one in ALGORITHMS.values() if importlib.util.find_spec(one.package)]
    lacks = lacking(algorithm)
    if len(lacks) > min(len(lacking(other)) for other in there):
        raise BadSpec(
            f"it is no model of {algorithm.name}: it does not say {', '.join(lacks[:NAMES_MAX])}"
        )
