"""What a checkpoint says of its model, and whether a run can go on from it; light."""

from __future__ import annotations

import platform
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import msgspec

from trainers import durable
from trainers.contract import BadSpec, Spec, decode
from trainers.tables import Backtest
from trainers.tables.learning.options import Algorithm, Learnable, plain

FILE = "state.json"
_FREE = (
    "allow_leakage",
    "backtest",
    "data",
    "device",
    "distributed",
    "early_stopping_rounds",
    "hyperparameters",
    "only",
    "quantiles",
    "ray_config",
    "table",
)
"""options that no round depends on; of `data`, `table` and `only` it is the rows that count"""


class Grown(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How far a model has grown."""

    rounds: int = 0
    scores: tuple[float | None, ...] = ()
    """how good it was on the validation part after each round; None: nothing is forecast"""
    whole: bool = False
    """whether no round is to come; told of the models beside the main one alone"""


class State(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What lies in a checkpoint beside the model: the content of its `state.json`."""

    version: Literal[1] = 1
    asked: dict[str, Any]
    """all that a round depends on, but the rows"""
    table_sha256: str
    """of the rows"""
    under: dict[str, str]
    """libraries and machine"""
    threads: int | None = None
    """by which it was trained; None: that changes nothing"""
    preprocess_sha256: str | None = None
    """of the source of the user's own function; None: there was none"""
    step: str | None = None
    """from one row to the next, in words"""
    fitted: tuple[dict[str, Any], ...]
    """what is done to each feature, learnt from the training part"""
    model: Grown
    trained_s: float = 0.0
    """spent on its rounds"""
    backtest: Backtest | None = None
    """what was asked of the folds"""
    beside: dict[str, Grown] = {}
    """the models of quantiles and of a fold by their names: those that are whole, and the one on
    its way"""
    rounds_beside: int = 0
    """that these have at the end: as many as are used of the model"""
    threshold: float | None = None
    """from which score on a row is an anomaly, once that is known"""
    folds: tuple[dict[str, Any], ...] = ()
    """what the folds of the backtest that are over have shown"""


class CannotGoOn(BadSpec):
    """What is asked for now is not what the checkpoint was trained with."""

    def __init__(self, spec: Spec, what: str) -> None:
        super().__init__(
            f"{what}: put that back, or begin anew with: supervisor rewind {spec.run} start"
        )


def asked_of(options: Learnable, spec: Spec) -> dict[str, Any]:
    """All that a round depends on, but the rows."""
    told = options.told
    asked = options.asked() | plain(told) | {"random_seed": options.seed(spec)}
    return {name: value for name, value in asked.items() if name not in (*_FREE, told.ROUNDS)}


def under(algorithm: Algorithm, device: str) -> dict[str, str]:
    """Libraries and machine, as they are now."""
    versions = {name: metadata.version(name) for name in algorithm.libraries}
    machine = platform.machine()
    return {**versions, "machine": machine if device == "cpu" else f"{machine} with {device}"}


def read(checkpoint: Path) -> State:
    """What a checkpoint says.

    Raises:
        BadSpec: it says nothing that can be read.
    """
    path = checkpoint / FILE
    try:
        return decode(path, durable.read(path), State)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise BadSpec(f"{path}: {error}") from error


def refuse_other(state: State, options: Learnable, spec: Spec) -> None:
    """See that what is asked for is what the checkpoint was trained with.

    Raises:
        CannotGoOn: it is not; the message says in what.
    """
    now = asked_of(options, spec)
    for name in sorted(now.keys() | state.asked.keys()):
        before, after = state.asked.get(name), now.get(name)
        if before != after:
            told = (msgspec.json.encode(value).decode() for value in (before, after))
            was, asked = told
            raise CannotGoOn(spec, f"{name} was {was} so far, and is {asked} now")
    total = options.rounds(spec)
    if not options.learns.cuts and state.model.rounds > total:
        made = f"{state.model.rounds} {options.UNIT}"
        raise CannotGoOn(spec, f"it has made {made}, and nothing is left of the first {total}")
