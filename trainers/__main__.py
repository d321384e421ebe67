"""The command line of every trainer: `python -m trainers NAME --run RUN_DIR`.

With `--warm` in place of `--run` it is a parent of such trainers, for the supervisor alone.
With `--list` it tells which trainers there are, or of one what can be set.
"""

from __future__ import annotations

import argparse
import sys
import traceback
from pathlib import Path
from typing import NoReturn

import msgspec

from trainers import attempt, durable, history, play, registry, warm
from trainers.contract import EXIT_AGAIN, EXIT_BAD_SPEC, BadSpec, Refused, Share

EXIT_UNKNOWN = 2
"""nothing is known by the name that somebody asks about"""
EXIT_INTERRUPTED = 130
"""Ctrl-C, as shells tell it"""


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
        help="for --check, --needs and --import: what it is to be asked for",
    )
    only = parser.add_mutually_exclusive_group()
    only.add_argument("--check", action="store_true", help="only validate the spec")
    only.add_argument("--needs", action="store_true", help="only tell what it needs, as JSON")
    only.add_argument(
        "--evaluate", type=_positive, metavar="N", help="only play N episodes greedily"
    )
    only.add_argument("--checkpoints", action="store_true", help="only list its checkpoints")
    only.add_argument("--way-back", metavar="WHERE", help="only tell which checkpoint that is")
    only.add_argument(
        "--import", type=Path, metavar="PATH", dest="source", help="make that a checkpoint of it"
    )
    only.add_argument("--record", type=Path, metavar="FILE", help="only write a GIF of greedy play")
    only.add_argument("--export", type=Path, metavar="FILE", help="only write it for others")
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
    if options.probe is not None:
        return _probe(options.trainer, options.probe)
    if options.warm is not None:
        run = warm.fork_trainers(options.trainer, options.warm)
        warm.leave(attempt.run(run, options.trainer))
    apart = (options.list, options.check, options.needs, options.evaluate, options.record)
    if not any((*apart, options.export, options.checkpoints, options.way_back, options.source)):
        return attempt.run(options.run, options.trainer)
    try:
        return _apart(options)
    except (BadSpec, Refused, attempt.CannotLock, play.NoCheckpoint, play.CannotWrite) as error:
        sys.stderr.write(f"trainers: {error}\n")
        return error.exit_code
    except OSError as error:
        sys.stderr.write(f"trainers: {error}\n")
        return EXIT_AGAIN
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except Exception as error:  # noqa: BLE001 - whatever it is, a person hears where it is
        traceback.print_exception(error)
        sys.stderr.write(f"trainers: {registry.broken(options.trainer or '', error)}\n")
        return EXIT_AGAIN


def _apart(options: argparse.Namespace) -> int:
    """Do what is no training."""
    if options.list:
        return _list(options.trainer, as_json=options.json)
    if options.check:
        spec = attempt.check(options.run, options.trainer, options.spec)
        attempt.check_fits(options.run, spec)
        remark = getattr(registry.load(options.trainer), "remark", None)
        if remark and (text := remark(spec)):
            sys.stderr.write(f"trainers: {text}\n")
    elif options.needs:
        needs = getattr(registry.load(options.trainer), "needs", None)
        file = options.spec or attempt.open_folder(options.run).spec
        told = needs(attempt.spec_in(file, options.run.name)) if needs else ()
        sys.stdout.write(msgspec.json.encode(told).decode() + "\n")
    elif options.evaluate is not None:
        play.evaluate(
            options.run,
            options.trainer,
            options.checkpoint,
            episodes=options.evaluate,
            as_json=options.json,
        )
    elif options.export is not None:
        which, output = options.checkpoint, options.export
        play.export(options.run, options.trainer, which, output, as_json=options.json)
    elif options.checkpoints:
        told = history.listed(options.run, verified=options.verify)
        sys.stdout.write(f"{msgspec.json.encode(told).decode()}\n")
    elif options.source is not None:
        from trainers import importing  # noqa: PLC0415 - only here

        brought = importing.bring(
            options.run,
            options.trainer,
            options.spec,
            options.source,
            step=options.step,
            score=options.score,
        )
        sys.stdout.write(f"{msgspec.json.encode(brought).decode()}\n")
    elif options.way_back is not None:
        way = history.way_back(options.run, options.way_back)
        sys.stdout.write(f"{msgspec.json.encode(way).decode()}\n")
    else:
        play.record(
            options.run,
            options.trainer,
            options.checkpoint,
            options.record,
            episodes=options.episodes,
            seconds=options.seconds,
            as_json=options.json,
        )
    return 0


def _probe(trainer: str, shares: list[Share]) -> int:
    """Print what a probe of the machine finds, as JSON; nothing where a trainer has but one way."""
    try:
        probe = getattr(registry.load(trainer), "probe", None)
    except BadSpec as error:
        sys.stderr.write(f"trainers: {error}\n")
        return error.exit_code
    except registry.FolderAway as error:
        sys.stderr.write(f"trainers: {error}\n")
        return EXIT_AGAIN
    attempt.limit_threads(max(share.threads for share in shares))
    try:
        found = probe(shares) if probe else []
    except BadSpec as error:
        sys.stderr.write(f"trainers: {error}\n")
        return error.exit_code
    sys.stdout.write(msgspec.json.encode(found).decode() + "\n")
    return 0


def _list(trainer: str | None, *, as_json: bool) -> int:
    """Tell which trainers there are, or what can be set in one."""
    from trainers import listing  # noqa: PLC0415 - whoever trains needs nothing of it

    try:
        told = listing.listed() if trainer is None else listing.described(trainer)
    except registry.NoTrainer as error:
        sys.stderr.write(f"trainers: {error}\n")
        return EXIT_UNKNOWN
    if as_json:
        text = msgspec.json.format(msgspec.json.encode(told)).decode()
    elif isinstance(told, tuple):
        text = listing.in_words(told)
    else:
        text = listing.one_in_words(told)
    sys.stdout.write(f"{text}\n")
    return 0


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
