"""The folder of the user's own trainers, as a package: `trainers.yours.NAME` is `NAME.py` in it.

So nothing there can be taken for a module of ours or of anybody else, whatever it is called. A
trainer imports what lies beside it with `from . import neighbour`. And each process that a trainer
starts finds its classes under the same names, since the folder comes with the environment.

There is no function here: whatever is imported of the folder becomes an attribute of this module,
and may have any name.
"""

from __future__ import annotations

import os

from trainers.contract import TRAINERS_DIR

__path__ = [folder] if (folder := os.environ.get(TRAINERS_DIR)) else []
