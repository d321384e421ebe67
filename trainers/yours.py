"""The folder of the user's own trainers, as a package: `trainers.yours.NAME` is `NAME.py` in it.

So nothing there can be taken for a module of ours or of anybody else, whatever it is called. A
trainer imports what lies beside it with `from . import neighbour`. And each process that a trainer
starts finds its classes under the same names, since the folder comes with the environment.
"""

from __future__ import annotations

import os
from pathlib import Path

from trainers.contract import TRAINERS_DIR


def folder() -> Path | None:
    """Where they lie; None: the settings name no such folder."""
    named = os.environ.get(TRAINERS_DIR)
    return Path(named) if named else None


__path__ = [str(place)] if (place := folder()) else []
