"""Learns forecasts and anomalies of tables, and no kill changes a bit of what it has learnt.

This module is light: it validates, and imports what learns when something is to be learnt.
"""

from __future__ import annotations

from pathlib import Path

from trainers import packages
from trainers.contract import Need, Spec
from trainers.session import Session, options_of
from trainers.tabular import state
from trainers.tabular.options import Options, refuse_bad

__all__ = ["UNIT", "Options", "check", "export", "fits", "needs", "predict", "remark", "train"]

UNIT = "rounds"
EXTRA = "tabular"
"""of the packages that are imported here"""


def check(spec: Spec) -> None:
    """Validate the configuration, and that what it needs is installed; no table is read.

    Raises:
        BadSpec: something is not as it must be.
    """
    packages.require(EXTRA)
    refuse_bad(options_of(spec, Options), spec)


def remark(spec: Spec) -> str | None:
    """What is asked for in vain."""
    options = options_of(spec, Options)
    if options.early_stopping_rounds is not None and options.patience is None:
        return "early_stopping_rounds changes nothing: no tree of a forest depends on another"
    return None


def fits(spec: Spec, checkpoint: Path) -> None:
    """Refuse what a checkpoint was not trained with; the table itself is looked at in training.

    Raises:
        BadSpec: it says what is another now.
    """
    state.refuse_other(state.read(checkpoint), options_of(spec, Options), spec)


def needs(spec: Spec) -> list[Need]:
    """The table, where it lies elsewhere than in the home and is no database."""
    data = options_of(spec, Options).data
    if data is None or "://" in data or not Path(data).is_absolute():
        return []
    path = Path(data)
    within = path if path.is_dir() else path.parent
    return [Need(path=data, what="its table", use="read", within=str(within))]


def predict(spec: Spec, checkpoint: Path, rows: Path, out: Path) -> int:
    """Write the forecasts of a table like that which was trained on; how many there are.

    Raises:
        BadSpec: the rows cannot be forecast, or the format is unknown.
    """
    fits(spec, checkpoint)
    from trainers.tabular import forecasts  # noqa: PLC0415 - imports NumPy

    return forecasts.write(spec, options_of(spec, Options), checkpoint, rows, out)


def export(spec: Spec, checkpoint: Path, out: Path) -> None:
    """Write the model of a checkpoint as its library reads it, in its best rounds.

    Raises:
        BadSpec: the checkpoint holds no round yet.
    """
    fits(spec, checkpoint)
    from trainers.tabular import forecasts  # noqa: PLC0415 - imports NumPy

    out.write_bytes(forecasts.model_in(checkpoint, options_of(spec, Options), spec).saved())


def train(session: Session) -> None:
    """Learn until the model is whole, judged and written, or a stop is requested."""
    if session.stop_requested:
        return
    from trainers.tabular import learner  # noqa: PLC0415 - imports NumPy

    learner.learn(session, options_of(session.spec, Options))
