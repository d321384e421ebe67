"""The command line: one module here is a family of commands, which adds its own.

Each module has a `PLACE`, by which the families are told in order, and `add(command)`. It is
imported for every command that is typed, so what is heavy is imported where it is needed.
"""

from __future__ import annotations

import argparse
import importlib
import pkgutil
from typing import Protocol

from supervisor.context import Context, whole_number
from trainers.contract import LEVELS

DESCRIPTION = """\
Trains what is in the queue on a machine that falls over: climbs to heavier
modes while the machine is stable, falls back when it reboots too often, and
resumes every run from its last checkpoint.
"""

EPILOG = """\
examples:
  supervisor run                     train the default campaign, in the foreground
  supervisor show-state              what it does, and what comes next
  supervisor decisions -f            why it does so, as it happens
  supervisor why                     the newest decision, with all that it was made from
  supervisor force-scale-up          the next mode, now
  supervisor logs Pong -f            what one trainer prints
  supervisor record Pong             how it plays by now, as a GIF

the home (state, runs, logs) is --home, else $SUPERVISOR_HOME, else that of the
installed service (/var/lib/training-supervisor) where you may read it, else
~/.local/share/training-supervisor; settings are --config, else
$SUPERVISOR_CONFIG, else supervisor.toml in the home, all keys optional.

exit codes: 0 well, 1 failed, 2 refused or misused, 73 the home cannot be used,
75 try again later, 78 the settings are wrong.
"""


class Action(Protocol):
    """What a command does; its exit code."""

    def __call__(self, context: Context) -> int:
        """Do it."""
        ...


class Adding(Protocol):
    """Whatever adds a command to the command line."""

    def __call__(
        self,
        name: str,
        act: Action,
        text: str,
        *flags: str,
        more: str = "",
    ) -> argparse.ArgumentParser:
        """The parser of the new command.

        Args:
            name: of the command.
            act: what it does.
            text: what that is, in one line of the help, without a capital and a full stop.
            flags: `json`, `run`, `job`, `lines` or `chosen`: arguments that many commands have.
            more: further sentences for its own help.
        """
        ...


class Family(Protocol):
    """What each module here offers."""

    PLACE: int
    """where the family stands in the help"""

    def add(self, command: Adding) -> None:
        """Add its commands."""


def families() -> list[Family]:
    """The families of commands: the modules of this folder."""
    names = sorted(module.name for module in pkgutil.iter_modules(__path__))
    found: list[Family] = [importlib.import_module(f"{__name__}.{name}") for name in names]
    return sorted(found, key=lambda family: family.PLACE)


def build_parser() -> argparse.ArgumentParser:
    """The whole command line."""
    parser = argparse.ArgumentParser(
        prog="supervisor",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--home", metavar="DIR", help="where state, runs and logs lie")
    parser.add_argument("--config", metavar="FILE", help="the settings file")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", dest="command")
    command = adding(commands)
    for family in families():
        family.add(command)
    return parser


def adding(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> Adding:
    """What adds to these commands, or to those below one of them."""

    def command(
        name: str, act: Action, text: str, *flags: str, more: str = ""
    ) -> argparse.ArgumentParser:
        sub = commands.add_parser(
            name,
            help=text,
            description=f"{text[0].upper()}{text[1:]}. {more}".strip(),
        )
        sub.set_defaults(act=act)
        if "json" in flags:
            sub.add_argument("--json", action="store_true", help="for machines")
        if "run" in flags:
            sub.add_argument("run", metavar="RUN", help="a run's name or id; `runs` lists them")
        if "job" in flags:
            sub.add_argument(
                "job", metavar="JOB", help="a job's id, or how it begins; `jobs list` lists them"
            )
        if "lines" in flags:
            sub.add_argument(
                "-n",
                "--lines",
                "--tail",
                metavar="N",
                type=whole_number,
                default=20,
                help="how many (20)",
            )
            sub.add_argument("-f", "--follow", action="store_true", help="go on as it grows")
        if "chosen" in flags:
            sub.add_argument(
                "--level",
                metavar="LEVEL",
                type=str.lower,
                choices=LEVELS,
                default="info",
                help=f"the least: {', '.join(LEVELS)}; what a program prints counts as info",
            )
            sub.add_argument(
                "--since",
                metavar="TIME",
                help="from the first line on that is known to be as young: an ISO time (local "
                "where it names no zone), or an age such as 90s, 15min, 6h, 2d",
            )
        return sub

    return command
