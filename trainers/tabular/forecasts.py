"""Forecasts of rows by the model of a checkpoint; importing this module imports NumPy and Arrow."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from trainers.contract import BadSpec, Spec
from trainers.tables import rows_of
from trainers.tables.preprocessing import Fitted
from trainers.tables.times import told
from trainers.tabular import state
from trainers.tabular.growing import Curve, Model
from trainers.tabular.models import model_of
from trainers.tabular.options import Options

SUFFIXES = (".csv", ".json", ".parquet")


def model_in(checkpoint: Path, options: Options) -> Model:
    """The model of a checkpoint, in the rounds that are worth using.

    Raises:
        BadSpec: it has none.
    """
    kind, grown = model_of(options.algorithm), state.read(checkpoint).model
    if not grown.rounds:
        raise BadSpec("the checkpoint holds no round of the model yet")
    model = kind((checkpoint / kind.FILE).read_bytes())
    used = Curve(grown.scores, options.patience).used
    return model if used == model.rounds else model.cut(used)


def write(spec: Spec, options: Options, checkpoint: Path, rows: Path, out: Path) -> int:
    """Write the forecasts of a table; how many there are.

    Raises:
        BadSpec: the rows cannot be forecast, or the format is unknown.
    """
    if out.suffix not in SUFFIXES:
        raise BadSpec(f"forecasts are written as {', '.join(SUFFIXES)}, and not as {out.name}")
    model = model_in(checkpoint, options)
    fitted = msgspec.convert(state.read(checkpoint).fitted, tuple[Fitted, ...])
    asked = msgspec.structs.replace(options, data=str(rows.absolute()), table=None)
    part = rows_of(asked, None, fitted)
    forecast = model.predict(part.x, spec.threads)
    times, values = [told(int(time)) for time in part.times], forecast.tolist()
    pairs = zip(times, values, strict=True)
    if out.suffix == ".parquet":
        moments = pa.array(part.times, pa.timestamp("ns", "UTC"))
        pq.write_table(pa.table({"time": moments, "forecast": forecast}), out)
    elif out.suffix == ".json":
        rows_told = [{"time": time, "forecast": value} for time, value in pairs]
        out.write_bytes(msgspec.json.format(msgspec.json.encode(rows_told)) + b"\n")
    else:
        lines = (f"{time},{value!r}\n" for time, value in pairs)
        out.write_text("".join(["time,forecast\n", *lines]), encoding="utf-8")
    return len(times)
