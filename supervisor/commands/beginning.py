"""Settings for the program in a folder."""

from __future__ import annotations

import argparse

from supervisor.commands import Adding
from supervisor.context import Context

PLACE = 5


def add(command: Adding) -> None:
    """Add these commands."""
    sub = command(
        "init",
        _init,
        "write settings for the program in a folder",
        more="Asks three questions on a terminal, and guesses what is not asked or answered. "
        "Nothing that is there is overwritten.",
    )
    sub.add_argument(
        "home",
        metavar="FOLDER",
        nargs="?",
        default=argparse.SUPPRESS,
        help="where the program lies, and its supervisor will be at home (.)",
    )
    sub.add_argument(
        "--command", dest="program", metavar="WORDS", help="the program: 'python3 train.py'"
    )
    sub.add_argument(
        "--checkpoints", metavar="PATTERN", help="what it saves: 'ckpt-*.pt'; '-': nothing"
    )
    sub.add_argument(
        "--resume", metavar="WORDS", help="to resume with: '--resume {checkpoint}'; '-': none"
    )
    sub.add_argument("--target", metavar="UNIT=COUNT", help="how far it is to go: epochs=50")
    sub.add_argument("--name", metavar="NAME", help="of the run; by default that of the folder")
    sub.add_argument(
        "--reporting",
        action="store_true",
        help="put supervised.py there, by which a script tells its progress",
    )


def _init(context: Context) -> int:
    from supervisor import starting  # noqa: PLC0415 - reading commands stay quick

    return starting.init(context)
