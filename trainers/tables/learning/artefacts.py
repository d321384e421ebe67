"""What a finished run leaves in its folder: the model, how good it is, and what it was made of."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import msgspec

from trainers import durable
from trainers.contract import Spec
from trainers.packages import DISTRIBUTION
from trainers.tables.learning.growing import Floats, Model, content_sha256
from trainers.tables.learning.options import Learnable
from trainers.tables.prepared import Part, Prepared
from trainers.tables.scores import Judgement, judge

METRICS, CARD, SUMS = "metrics.json", "model_card.json", "SHA256SUMS"
PICTURES = ("forecast.png", "trades.png")
"""of which each kind of model has one"""
DURATION = "training_duration_seconds"


def judged(prepared: Prepared, train: Part, part: Part, forecast: Floats) -> dict[str, Any]:
    """How good forecasts of a part are, and what costs nothing; plain values."""
    judgement: Judgement = judge(prepared, train, part, forecast)
    told: dict[str, Any] = msgspec.to_builtins(judgement)
    warnings = told.pop("warnings")
    return {**told.pop("scores"), **told, "warning": "; ".join(warnings) or None}


def write(
    folder: Path,
    spec: Spec,
    options: Learnable,
    model: Model,
    *,
    metrics: dict[str, Any],
    under: dict[str, str],
    prepared: dict[str, Any],
    pictures: Mapping[str, bytes],
) -> None:
    """Write the files of a finished model, each whole or not at all, and last what they hash to.

    Raises:
        OSError: the disk is full or failing.
    """
    card = {
        "version": 1,
        "run": spec.run,
        "name": spec.name,
        "model_type": options.model_type,
        "algorithm": options.algorithm,
        "hyperparameters": msgspec.to_builtins(options.told),
        "random_seed": options.seed(spec),
        "rounds": model.rounds,
        "content_sha256": content_sha256(model.arrays()),
        "options": msgspec.to_builtins(options),
        **prepared,
        # What took how long is no property of the model.
        "metrics": {name: value for name, value in metrics.items() if name != DURATION},
        "environment": {DISTRIBUTION: _version(), **under},
    }
    contents = {
        model.FILE: model.saved(),
        METRICS: _json(metrics),
        CARD: _json(card),
        **pictures,
    }
    for name, content in contents.items():
        durable.write(folder / name, content)
    lines = (
        f"{hashlib.sha256(content).hexdigest()}  {name}\n" for name, content in contents.items()
    )
    durable.write(folder / SUMS, "".join(lines).encode())


def remove(folder: Path, model: type[Model]) -> None:
    """Remove what a run has left that has gone back since, and is not done any more."""
    for name in (SUMS, CARD, METRICS, *PICTURES, model.FILE):
        (folder / name).unlink(missing_ok=True)


def _json(value: Any) -> bytes:
    return msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n"


def _version() -> str:
    try:
        return metadata.version(DISTRIBUTION)
    except metadata.PackageNotFoundError:
        return "unknown"
