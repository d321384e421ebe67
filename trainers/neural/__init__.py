"""Learns forecasts and anomalies of tables with networks, and no kill changes a bit of them.

This module is light: it validates, and imports what learns when something is to be learnt.
"""

from __future__ import annotations

from pathlib import Path

from trainers import packages
from trainers.contract import Need, Rows, Spec
from trainers.neural.options import Options
from trainers.session import Session, options_of
from trainers.tables import learning

__all__ = ["UNIT", "Options", "check", "export", "fits", "needs", "predict", "rows", "train"]

UNIT = "epochs"
EXTRA = "neural"
"""of the packages that are imported here"""


def check(spec: Spec) -> None:
    """Validate the configuration, and that what it needs is installed; no table is read.

    Raises:
        BadSpec: something is not as it must be.
    """
    packages.require(EXTRA)
    options_of(spec, Options).refuse_bad(spec)


def fits(spec: Spec, checkpoint: Path) -> None:
    """Refuse what a checkpoint was not trained with; see `learning.fits`."""
    learning.fits(spec, options_of(spec, Options), checkpoint)


def needs(spec: Spec) -> list[Need]:
    """The table, where it lies elsewhere than in the home and is no database."""
    return learning.needs(options_of(spec, Options))


def rows(spec: Spec, home: Path) -> Rows:
    """What would be learnt from, read and let go of again; see `learning.rows`."""
    return learning.rows(spec, options_of(spec, Options), home)


def predict(spec: Spec, checkpoint: Path, rows: Path, out: Path) -> int:
    """Write the forecasts of a table like that which was trained on; see `learning.predict`."""
    return learning.predict(spec, options_of(spec, Options), checkpoint, rows, out)


def export(spec: Spec, checkpoint: Path, out: Path) -> None:
    """Write the model of a checkpoint as its library reads it; see `learning.export`."""
    learning.export(spec, options_of(spec, Options), checkpoint, out)


def train(session: Session) -> None:
    """Learn until the model is whole, judged and written, or a stop is requested."""
    options = options_of(session.spec, Options)
    if options.on(session.spec) != "cpu":
        session.notice("it learns on a GPU, where its last bits may be others in each attempt")
    learning.train(session, options)
