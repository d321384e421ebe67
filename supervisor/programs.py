"""How to start a program of ours in a process of its own."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Literal

Program = Literal["supervisor.cli", "supervisor.gpu", "supervisor.errand", "trainers.__main__"]
WAY_IN = Path(__file__).parents[1] / "training_supervisor.py"


def program(module: Program) -> list[str]:
    """The command line that calls `main` of that module.

    By path, since what has the name may be somebody else's. -P: the folder of that file may be that
    of all installed packages, which is no place to look before Python's own.
    """
    return [sys.executable, "-P", str(WAY_IN), module]
