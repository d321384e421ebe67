"""Settings for the program in a folder, and those that a scheduler had."""

from __future__ import annotations

import argparse
from pathlib import Path

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
    sub = command(
        "import-settings",
        _import,
        "bring the settings of a scheduler_config.yaml over",
        more="Adds tables to supervisor.toml in the home, and says key by key what each became. "
        "What is there stays as it is; a password goes into a file that only its owner reads.",
    )
    sub.add_argument("document", metavar="FILE.yaml", type=Path, help="the scheduler's settings")
    sub.add_argument("--dry-run", action="store_true", help="print what would be written")
    sub.add_argument(
        "--skip-unknown", action="store_true", help="leave out keys that nobody knows, and say so"
    )
    sub.add_argument(
        "--command",
        dest="program",
        metavar="WORDS",
        help="what trains: 'python3 train.py {name}'; by default train_all_models.py in the home",
    )


def _init(context: Context) -> int:
    from supervisor import starting  # noqa: PLC0415 - reading commands stay quick

    return starting.init(context)


def _import(context: Context) -> int:
    from supervisor import importing  # noqa: PLC0415 - reading commands stay quick

    return importing.import_settings(context)
