"""Learns from quotes whether a price goes down, stays or goes up within seconds.

This module is light: it validates, and imports what learns when something is to be learnt.
"""

from __future__ import annotations

from pathlib import Path

from trainers import packages
from trainers.contract import Need, Rows, Spec
from trainers.direction.options import Options
from trainers.session import Session, options_of
from trainers.tables import learning

__all__ = ["UNIT", "Options", "check", "export", "fits", "needs", "predict", "rows", "train"]

UNIT = "rounds"
EXTRA = "direction"
"""of the packages that are imported here"""


def check(spec: Spec) -> None:
    """Validate the options, and that what is needed is installed; no quote is read.

    Raises:
        BadSpec: something is not as it must be.
    """
    packages.require(EXTRA)
    options_of(spec, Options).refuse_bad()


def fits(spec: Spec, checkpoint: Path) -> None:
    """Refuse what a checkpoint was not trained with; see `learning.fits`."""
    learning.fits(spec, options_of(spec, Options), checkpoint)


def needs(spec: Spec) -> list[Need]:
    """The features, where they lie elsewhere than in the home."""
    return learning.place_of(options_of(spec, Options).dataset.featurePath)


def rows(spec: Spec, home: Path) -> Rows:
    """The quotes that would be learnt from, read and let go of again.

    Raises:
        BadSpec: nothing can be learnt from them.
    """
    from trainers.direction.learner import Directions  # noqa: PLC0415 - imports NumPy
    from trainers.tables.learning import learner  # noqa: PLC0415

    return learner.rows(spec, options_of(spec, Options), home, Directions)


def predict(spec: Spec, checkpoint: Path, rows: Path, out: Path) -> int:
    """Write how probable each direction is after each quote of a file; how many there are.

    Raises:
        BadSpec: nothing can be said of these rows, or the format is unknown.
    """
    fits(spec, checkpoint)
    from trainers.direction import scoring  # noqa: PLC0415 - imports NumPy

    return scoring.write(spec, options_of(spec, Options), checkpoint, rows, out)


def export(spec: Spec, checkpoint: Path, out: Path) -> None:
    """Write the model of a checkpoint as XGBoost reads it, with the rule that it is used by.

    Raises:
        BadSpec: the checkpoint holds no round yet.
    """
    fits(spec, checkpoint)
    from trainers.direction import scoring  # noqa: PLC0415 - imports NumPy

    out.write_bytes(scoring.model_in(spec, options_of(spec, Options), checkpoint).saved())


def train(session: Session) -> None:
    """Learn until the model is whole, judged and written, or a stop is requested."""
    if session.stop_requested:
        return
    from trainers.direction.learner import Directions  # noqa: PLC0415 - imports NumPy
    from trainers.tables.learning import learner  # noqa: PLC0415

    learner.learn(session, options_of(session.spec, Options), Directions)
