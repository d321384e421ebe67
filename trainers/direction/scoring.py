"""What a model says of other quotes, and how good that is; importing this module imports NumPy."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from trainers.contract import Spec
from trainers.direction import judging
from trainers.direction.boosting import CLASSES, Direction
from trainers.direction.boosting import read as model_of
from trainers.direction.market import outcome, part_told, read
from trainers.direction.options import Options
from trainers.tables import DataLoadError
from trainers.tables.learning import forecasts, state
from trainers.tables.prepared import Part
from trainers.tables.times import nanoseconds, told


def score(
    model: Path, rows: Path, *, begin: datetime | None = None, end: datetime | None = None
) -> dict[str, Any]:
    """How good the model of a file is on given rows, by the rule that is in it.

    All that the model needs lies in its file, so any earlier one can be scored on rows of today,
    and two on the same rows. On those that its run has judged it by, the numbers are the same.

    Args:
        model: `model.ubj` of a run, or what was exported of one, whatever it is called now.
        rows: a Parquet or CSV file of features or of quotes, or a folder of them.
        begin: the first time that is judged; what lies before it is only known; None: all is.
        end: the last one.

    Raises:
        BadSpec: the model is none of directions.
        DataLoadError: the rows are not what they must be, or none of them can be judged.
    """
    grown = model_of(model.read_bytes())
    rule = grown.rule
    market = read([str(rows.absolute())], None, rule.features)
    came = outcome(market, rule)
    judged = came.known & market.known
    if begin is not None:
        judged &= market.times >= nanoseconds(begin)
    if end is not None:
        judged &= market.times <= nanoseconds(end)
    at = np.flatnonzero(judged)
    if not len(at):
        raise DataLoadError(f"none of {len(market.times):,} quotes can be judged")
    part = Part(
        x=np.ascontiguousarray(market.x[at]),
        y=came.classes[at].astype(np.float64),
        times=market.times[at],
        positions=at,
    )
    course = judging.course(part, market, came, rule)
    found = judging.judge(course, grown.predict(part.x, 1), rule.threshold)
    return {**found, "judged": part_told(part.times), "rows_sha256": market.sha256}


def model_in(spec: Spec, options: Options, checkpoint: Path) -> Direction:
    """The model of a checkpoint, in the rounds that are worth using, with the rule of its use.

    Raises:
        BadSpec: it has none.
    """
    grown = forecasts.model_in(checkpoint, options, spec)
    rule = options.rule(state.read(checkpoint).threshold)
    return Direction(grown.saved()).ruled(rule)


def write(spec: Spec, options: Options, checkpoint: Path, rows: Path, out: Path) -> int:
    """Write how probable each direction is after each quote, and which is told; how many there are.

    Raises:
        BadSpec: nothing can be said of these rows, or the format is unknown.
    """
    forecasts.refuse_unknown(out)
    model = model_in(spec, options, checkpoint)
    market = read([str(rows.absolute())], None, options.features)
    known = market.known
    times, probabilities = market.times[known], model.predict(market.x[known], spec.threads)
    columns: dict[str, list[Any]] = {"time": [told(int(time)) for time in times]}
    for number, name in enumerate(CLASSES):
        columns[name] = probabilities[:, number].tolist()
    classes = judging.decided(probabilities, model.rule.threshold)
    columns["direction"] = [CLASSES[number] for number in classes.tolist()]
    forecasts.put(columns, times, out)
    return len(times)
