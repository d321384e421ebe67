"""How to start a program of ours in a process of its own."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Literal

from trainers.contract import TRAINERS_DIR

Program = Literal[
    "supervisor.cli",
    "supervisor.helpers.bounded",
    "supervisor.helpers.nvml",
    "supervisor.helpers.probe",
    "supervisor.helpers.usage",
    "supervisor.errand",
    "trainers.__main__",
]
ROOT = Path(__file__).parents[1]
"""where all our packages lie"""
WAY_IN = ROOT / "training_supervisor.py"


def program(module: Program) -> list[str]:
    """The command line that calls `main` of that module.

    By path, since what has the name may be somebody else's. -P: the folder of that file may be that
    of all installed packages, which is no place to look before Python's own.
    """
    return [sys.executable, "-P", str(WAY_IN), module]


def find_trainers_in(folder: Path | None) -> None:
    """Have this process, and all that it starts, find the user's own trainers there alone."""
    os.environ.pop(TRAINERS_DIR, None)  # what somebody else has set there does not count
    if folder is not None:
        os.environ[TRAINERS_DIR] = str(folder)


def with_trainers(folder: Path | None) -> dict[str, str]:
    """Our environment, and in it where the user's own trainers are, for a program that has them.

    What somebody else has set there does not count: the settings alone say it.
    """
    environment = {key: value for key, value in os.environ.items() if key != TRAINERS_DIR}
    return environment if folder is None else {**environment, TRAINERS_DIR: str(folder)}
