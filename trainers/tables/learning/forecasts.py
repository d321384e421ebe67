"""Forecasts of rows by the model of a checkpoint; importing this module imports NumPy and Arrow."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from trainers.contract import BadSpec, Spec
from trainers.tables import rows_of
from trainers.tables.learning import state
from trainers.tables.learning.growing import Curve, Floats, Model, file_of
from trainers.tables.learning.options import Learnable, Options, quantile_name
from trainers.tables.learning.quantiles import in_order
from trainers.tables.prepared import Part
from trainers.tables.preprocessing import Fitted
from trainers.tables.times import Times, told

SUFFIXES = (".csv", ".json", ".parquet")


def model_in(checkpoint: Path, options: Learnable, spec: Spec) -> Model:
    """The model of a checkpoint, in the rounds that are worth using.

    Raises:
        BadSpec: it has none.
    """
    kind, grown = options.learns.model, state.read(checkpoint).model
    if not grown.rounds:
        raise BadSpec("the checkpoint holds no round of the model yet")
    model = _read(kind, checkpoint / kind.FILE)
    return model.cut(Curve(grown.scores[: options.rounds(spec)], options.patience).used)


def models_of_quantiles(
    checkpoint: Path, options: Options, spec: Spec, used: int
) -> dict[str, Model]:
    """The models of the quantiles in a checkpoint by their names, of so many rounds.

    Raises:
        BadSpec: one of them is not whole yet.
    """
    kind, held = options.learns.model, state.read(checkpoint)
    found: dict[str, Model] = {}
    for name in map(quantile_name, options.quantiles):
        grown = held.beside.get(name)
        if grown is None or not grown.whole or held.rounds_beside != used:
            raise BadSpec(f"the checkpoint holds no whole model of {name} yet: run {spec.run} on")
        found[name] = _read(kind, checkpoint / file_of(kind, name))
    return found


def _read(kind: type[Model], path: Path) -> Model:
    try:
        return kind(path.read_bytes())
    except ValueError as error:
        raise BadSpec(f"{path}: {error}") from error


def of_quantiles(models: Iterable[Model], x: Floats, threads: int) -> Floats:
    """Their forecasts as they make them, (rows, quantiles)."""
    return np.column_stack([model.predict(x, threads) for model in models])


def write(spec: Spec, options: Options, checkpoint: Path, rows: Path, out: Path) -> int:
    """Write the forecasts of a table; how many there are.

    Raises:
        BadSpec: the rows cannot be forecast, or the format is unknown.
    """
    refuse_unknown(out)
    model, held = model_in(checkpoint, options, spec), state.read(checkpoint)
    asked = msgspec.structs.replace(
        options, data=str(rows.absolute()), table=None, only={}, labels=None
    )
    fitted = msgspec.convert(held.fitted, tuple[Fitted, ...])
    part = rows_of(
        asked,
        None,
        fitted,
        step=held.step,
        length=options.told.length,
        preprocess_sha256=held.preprocess_sha256,
    )
    columns: dict[str, list[Any]] = {"time": [told(int(time)) for time in part.times]}
    if options.forecasts:
        columns["forecast"] = model.predict(part.x, spec.threads).tolist()
    if models := models_of_quantiles(checkpoint, options, spec, model.rounds):
        ordered = in_order(of_quantiles(models.values(), part.x, spec.threads))
        columns |= dict(zip(models, ordered.T.tolist(), strict=True))
    if options.model_type == "anomaly":
        strange = strangeness(model, options, part, threads=spec.threads)
        # Where nobody knows yet what a row was, nothing is said of it.
        columns["score"] = [None if math.isnan(one) else one for one in strange.tolist()]
        if held.threshold is not None:
            columns["anomaly"] = [
                None if one is None else int(one >= held.threshold) for one in columns["score"]
            ]
    put(columns, part.times, out)
    return len(part)


def refuse_unknown(out: Path) -> None:
    """Refuse a name of which nobody knows what to write.

    Raises:
        BadSpec: it ends otherwise.
    """
    if out.suffix not in SUFFIXES:
        raise BadSpec(f"forecasts are written as {', '.join(SUFFIXES)}, and not as {out.name}")


def put(columns: dict[str, list[Any]], times: Times, out: Path) -> None:
    """Write columns, `time` first, as the name of the file says."""
    if out.suffix == ".parquet":
        pq.write_table(
            pa.table({**columns, "time": pa.array(times, pa.timestamp("ns", "UTC"))}), out
        )
        return
    lines = list(zip(*columns.values(), strict=True))
    if out.suffix == ".json":
        content = [dict(zip(columns, line, strict=True)) for line in lines]
        out.write_bytes(msgspec.json.format(msgspec.json.encode(content)) + b"\n")
        return
    with out.open("w", encoding="utf-8", newline="") as file:
        file.write(f"{','.join(columns)}\n")
        for line in lines:
            file.write(f"{','.join('' if value is None else str(value) for value in line)}\n")


def strangeness(model: Model, options: Options, rows: Part, *, threads: int) -> Floats:
    """How strange each row is, the more the stranger; NaN where nobody knows what it was."""
    told = model.predict(rows.x, threads)
    return np.abs(rows.y - told) if options.forecasts else told
