"""How a model of a table is learnt: grown in segments, judged, written, and used.

A trainer brings its `Options`, which name its algorithms, and their models; the rest is here. This
module is light: NumPy, Arrow and the library of an algorithm are imported where they are used.
"""

from __future__ import annotations

from pathlib import Path

from trainers.contract import Need, Rows, Spec
from trainers.session import Session
from trainers.tables.learning import state
from trainers.tables.learning.options import Algorithm, Hyperparameters, Learnable, Options

__all__ = [
    "Algorithm",
    "Hyperparameters",
    "Learnable",
    "Options",
    "export",
    "fits",
    "needs",
    "place_of",
    "predict",
    "rows",
    "train",
]


def fits(spec: Spec, options: Learnable, checkpoint: Path) -> None:
    """Refuse what a checkpoint was not trained with; the table itself is looked at in training.

    Raises:
        BadSpec: it says what is another now.
    """
    state.refuse_other(state.read(checkpoint), options, spec)


def needs(options: Options) -> list[Need]:
    """The table, where it lies elsewhere than in the home and is no database."""
    return place_of(options.data)


def place_of(data: str | None) -> list[Need]:
    """What has to be seen of the machine for a table that lies there."""
    if data is None or "://" in data or not Path(data).is_absolute():
        return []
    path = Path(data)
    within = path if path.is_dir() else path.parent
    return [Need(path=data, what="its table", use="read", within=str(within))]


def rows(spec: Spec, options: Options, home: Path) -> Rows:
    """What would be learnt from, read and let go of again.

    Raises:
        BadSpec: nothing can be learnt from it.
        SourceAway: a database does not answer.
    """
    from trainers.tables.learning import learner  # noqa: PLC0415 - imports NumPy

    return learner.rows(spec, options, home, learner.Tables)


def predict(spec: Spec, options: Options, checkpoint: Path, rows: Path, out: Path) -> int:
    """Write the forecasts of a table like that which was trained on; how many there are.

    Raises:
        BadSpec: the rows cannot be forecast, or the format is unknown.
    """
    fits(spec, options, checkpoint)
    from trainers.tables.learning import forecasts  # noqa: PLC0415 - imports NumPy

    return forecasts.write(spec, options, checkpoint, rows, out)


def export(spec: Spec, options: Options, checkpoint: Path, out: Path) -> None:
    """Write the model of a checkpoint as its library reads it, in its best rounds.

    Raises:
        BadSpec: the checkpoint holds no round yet.
    """
    fits(spec, options, checkpoint)
    from trainers.tables.learning import forecasts  # noqa: PLC0415 - imports NumPy

    out.write_bytes(forecasts.model_in(checkpoint, options, spec).saved())


def train(session: Session, options: Options) -> None:
    """Learn until the model is whole, judged and written, or a stop is requested."""
    if session.stop_requested:
        return
    from trainers.tables.learning import learner  # noqa: PLC0415 - imports NumPy

    learner.learn(session, options, learner.Tables)
