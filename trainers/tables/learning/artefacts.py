"""What a finished run leaves in its folder: the model, how good it is, and what it was made of."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import msgspec

from trainers import durable
from trainers.contract import SUMS, Spec
from trainers.packages import DISTRIBUTION
from trainers.tables.learning import quantiles
from trainers.tables.learning.growing import Floats, Model, content_sha256, file_of
from trainers.tables.learning.options import Learnable
from trainers.tables.prepared import Part, Prepared
from trainers.tables.scores import Judgement, judge

METRICS, CARD = "metrics.json", "model_card.json"
PICTURES = ("forecast.png", "trades.png")
"""of which each kind of model has one"""
DURATION = "training_duration_seconds"


def judged(
    prepared: Prepared,
    train: Part,
    part: Part,
    forecast: Floats,
    asked: Sequence[float] = (),
    forecast_of_them: Floats | None = None,
) -> dict[str, Any]:
    """How good forecasts of a part are, and of its quantiles, and what costs nothing; plain."""
    judgement: Judgement = judge(prepared, train, part, forecast)
    told: dict[str, Any] = msgspec.to_builtins(judgement)
    warnings = told.pop("warnings")
    told = {**told.pop("scores"), **told, "warning": "; ".join(warnings) or None}
    if forecast_of_them is not None:
        its = quantiles.judge(prepared, train, part, asked, forecast_of_them)
        told["quantiles"] = msgspec.to_builtins(its)
    return told


def write(
    folder: Path,
    spec: Spec,
    options: Learnable,
    model: Model,
    of_quantiles: Mapping[str, Model],
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
    asked = msgspec.to_builtins(options)
    if "data" in asked:  # an address may hold a password; what is told of it does not
        asked["data"] = prepared["data"]["source"]
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
        **({"quantiles": _quantiles_card(of_quantiles)} if of_quantiles else {}),
        "options": asked,
        **prepared,
        # What took how long is no property of the model.
        "metrics": {name: value for name, value in metrics.items() if name != DURATION},
        "environment": {DISTRIBUTION: _version(), **under},
    }
    contents = {
        model.FILE: model.saved(),
        **{file_of(type(one), name): one.saved() for name, one in of_quantiles.items()},
        METRICS: _json(metrics),
        CARD: _json(card),
        **pictures,
    }
    for path in _models(folder, type(model)):
        if path.name not in contents:  # of a quantile that is not asked for any more
            path.unlink()
    for name, content in contents.items():
        durable.write(folder / name, content)
    lines = (
        f"{hashlib.sha256(content).hexdigest()}  {name}\n" for name, content in contents.items()
    )
    durable.write(folder / SUMS, "".join(lines).encode())


def remove(folder: Path, model: type[Model]) -> None:
    """Remove what a run has left that has gone back since, and is not done any more."""
    for path in (
        *(folder / name for name in (SUMS, CARD, METRICS, *PICTURES)),
        *_models(folder, model),
    ):
        path.unlink(missing_ok=True)


def _models(folder: Path, kind: type[Model]) -> list[Path]:
    """Its model and those of quantiles."""
    return [*folder.glob(kind.FILE), *folder.glob(file_of(kind, "q*"))]


def _quantiles_card(of_quantiles: Mapping[str, Model]) -> dict[str, Any]:
    return {
        "content_sha256": {
            name: content_sha256(model.arrays()) for name, model in of_quantiles.items()
        },
        "crossing": "the quantiles of each row are sorted",
    }


def _json(value: Any) -> bytes:
    return msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n"


def _version() -> str:
    try:
        return metadata.version(DISTRIBUTION)
    except metadata.PackageNotFoundError:
        return "unknown"
