"""The command line of every trainer: `python -m trainers NAME --run RUN_DIR`.

With `--warm` in place of `--run` it is a parent of such trainers, for the supervisor alone.
With `--list` it tells which trainers there are, or of one what can be set.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import NoReturn

import msgspec

from trainers import attempt, durable
from trainers.contract import EXIT_BAD_SPEC, Share

BESIDE = (
    *("probe", "list", "check", "needs", "rows", "evaluate", "record", "export", "predict"),
    *("checkpoints", "way_back", "source", "thin"),
)
"""options that ask for anything but training"""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(EXIT_BAD_SPEC, f"trainers: {message}\n")


def main(arguments: list[str] | None = None) -> int:
    """Train, check, evaluate or record one run; the exit code is returned."""
    parser = _Parser(prog="python -m trainers", description="Train one run, until done or stopped.")
    parser.add_argument("trainer", nargs="?", help="such as atari")
    place = parser.add_mutually_exclusive_group(required=True)
    place.add_argument("--run", type=Path, metavar="RUN_DIR", help="the run folder")
    place.add_argument(
        "--probe", type=_share, nargs="+", metavar="SHARE", help="time its ways to calculate"
    )
    place.add_argument("--list", action="store_true", help="only tell of it, or which there are")
    place.add_argument("--warm", type=Path, metavar="RUN_DIR", help=argparse.SUPPRESS)
    parser.add_argument(
        "--spec",
        type=Path,
        metavar="FILE",
        help="for --check, --needs, --rows, --way-back and --import: what it is to be asked for",
    )
    only = parser.add_mutually_exclusive_group()
    only.add_argument("--check", action="store_true", help="only validate the spec")
    only.add_argument("--needs", action="store_true", help="only tell what it needs, as JSON")
    only.add_argument(
        "--rows", action="store_true", help="only tell what it would learn from, as JSON"
    )
    only.add_argument(
        "--evaluate", type=_positive, metavar="N", help="only play N episodes greedily"
    )
    only.add_argument("--checkpoints", action="store_true", help="only list its checkpoints")
    only.add_argument(
        "--thin", action="store_true", help="only remove its checkpoints but the best and newest"
    )
    only.add_argument("--way-back", metavar="WHERE", help="only tell which checkpoint that is")
    only.add_argument(
        "--import", type=Path, metavar="PATH", dest="source", help="make that a checkpoint of it"
    )
    only.add_argument("--record", type=Path, metavar="FILE", help="only write a GIF of greedy play")
    only.add_argument("--export", type=Path, metavar="FILE", help="only write it for others")
    only.add_argument("--predict", type=Path, metavar="FILE", help="only forecast its rows")
    parser.add_argument("--out", type=Path, metavar="FILE", help="with --predict: where to")
    parser.add_argument(
        "--episodes", type=_positive, metavar="N", default=1, help="games to record, at most"
    )
    parser.add_argument(
        "--seconds", type=_positive, metavar="S", default=60, help="to record, at most"
    )
    parser.add_argument(
        "--checkpoint", choices=("best", "newest"), default="best", help="which one plays"
    )
    parser.add_argument(
        "--verify", action="store_true", help="with --checkpoints: read every byte of them"
    )
    parser.add_argument("--step", type=_count, metavar="N", help="with --import: where it is then")
    parser.add_argument("--score", metavar="NAME=VALUE", help="with --import: how good it is")
    parser.add_argument("--json", action="store_true", help="print what came of it as JSON")
    options = parser.parse_args(arguments)
    if options.trainer is None and not options.list:
        parser.error("say which trainer, such as atari")
    durable.close_to_others()
    if options.warm is not None:
        from trainers import warm  # noqa: PLC0415 - as below

        run = warm.fork_trainers(options.trainer, options.warm)
        warm.leave(attempt.run(run, options.trainer))
    what = next((name for name in BESIDE if getattr(options, name) not in (None, False)), None)
    if what is None:
        return attempt.run(options.run, options.trainer)
    from trainers import beside  # noqa: PLC0415 - whoever trains needs nothing of it

    return beside.act(options, what)


def _share(text: str) -> Share:
    return msgspec.json.decode(text, type=Share)


def _count(text: str) -> int:
    number = int(text)
    if number < 0:
        raise ValueError
    return number


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError
    return number


if __name__ == "__main__":
    sys.exit(main())
