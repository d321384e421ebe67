"""What is asked of a trainer, or of a run, beside training: to check, play, list or import."""

from __future__ import annotations

import argparse
import contextlib
import sys
import traceback
from collections.abc import Callable

import msgspec

from trainers import anew, attempt, history, importing, listing, play, registry
from trainers.checkpoint import Checkpoints
from trainers.contract import EXIT_AGAIN, START, BadSpec, Refused, RunFolder, Unfit
from trainers.said import Told

EXIT_UNKNOWN = 2
"""nothing is known by the name that somebody asks about"""
EXIT_INTERRUPTED = 130
"""Ctrl-C, as shells tell it"""


def act(options: argparse.Namespace, what: str) -> int:
    """Do `what` the command line asks for; the exit code."""
    try:
        return _ACTS[what](options)
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


def _probe(options: argparse.Namespace) -> int:
    """Print what a probe of the machine finds; nothing where a trainer has but one way."""
    probe = getattr(registry.load(options.trainer), "probe", None)
    attempt.limit_threads(max(share.threads for share in options.probe))
    return _told(probe(options.probe) if probe else [])


def _list(options: argparse.Namespace) -> int:
    """Tell which trainers there are, or what can be set in one."""
    trainer = options.trainer
    try:
        told = listing.listed() if trainer is None else listing.described(trainer)
    except registry.NoTrainer as error:
        sys.stderr.write(f"trainers: {error}\n")
        return EXIT_UNKNOWN
    if options.json:
        text = msgspec.json.format(msgspec.json.encode(told)).decode()
    elif isinstance(told, tuple):
        text = listing.in_words(told)
    else:
        text = listing.one_in_words(told)
    sys.stdout.write(f"{text}\n")
    return 0


def _check(options: argparse.Namespace) -> int:
    spec = attempt.check(options.run, options.trainer, options.spec)
    if options.spec is not None:  # its own it has gone on under before
        attempt.check_fits(options.run, spec)
    program = registry.load(options.trainer)
    remark = getattr(program, "remark", None)
    remarks = [remark(spec)] if remark else []
    if spec.begin_from is not None and not hasattr(program, "begin_from"):
        remarks.append(f"{anew.cannot(options.trainer)}: each generation begins from scratch")
    if text := "; ".join(filter(None, remarks)):
        sys.stderr.write(f"trainers: {text}\n")
    return 0


def _needs(options: argparse.Namespace) -> int:
    needs = getattr(registry.load(options.trainer), "needs", None)
    file = options.spec or attempt.open_folder(options.run).spec
    return _told(needs(attempt.spec_in(file, options.run.name)) if needs else ())


def _rows(options: argparse.Namespace) -> int:
    home = options.run.absolute().parent.parent
    try:
        spec = attempt.check(options.run, options.trainer, options.spec)
        rows = getattr(registry.load(options.trainer), "rows", None)
        if rows is None:
            raise BadSpec(f"{options.trainer} does not tell what it learns from before it does")
        with contextlib.redirect_stdout(sys.stderr):  # a function of the user's may print
            found = rows(spec, home)
        return _told(found)
    except (BadSpec, Told) as error:
        details = getattr(error, "details", {})
        return _told(Unfit(error=type(error).__name__, line=str(error), details=details))


def _evaluate(options: argparse.Namespace) -> int:
    run, trainer, which = options.run, options.trainer, options.checkpoint
    play.evaluate(run, trainer, which, episodes=options.evaluate, as_json=options.json)
    return 0


def _record(options: argparse.Namespace) -> int:
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


def _export(options: argparse.Namespace) -> int:
    run, trainer, which = options.run, options.trainer, options.checkpoint
    play.export(run, trainer, which, options.export, as_json=options.json)
    return 0


def _predict(options: argparse.Namespace) -> int:
    play.predict(
        options.run,
        options.trainer,
        options.checkpoint,
        options.predict,
        options.out,
        as_json=options.json,
    )
    return 0


def _checkpoints(options: argparse.Namespace) -> int:
    return _told(history.listed(options.run, verified=options.verify))


def _thin(options: argparse.Namespace) -> int:
    folder = attempt.open_folder(options.run)
    with attempt.locked(folder):
        Checkpoints(folder.checkpoints).thin()
    return 0


def _way_back(options: argparse.Namespace) -> int:
    way = history.way_back(options.run, options.way_back)
    if options.spec is not None and way.checkpoint != START:
        spec = attempt.spec_in(options.spec, options.run.name)
        attempt.see_fit(spec, RunFolder(options.run).checkpoints / way.checkpoint)
    return _told(way)


def _import(options: argparse.Namespace) -> int:
    run, trainer, source = options.run, options.trainer, options.source
    step, score = options.step, options.score
    return _told(importing.bring(run, trainer, options.spec, source, step=step, score=score))


def _told(value: object) -> int:
    """Print a value for the supervisor, as JSON."""
    sys.stdout.write(f"{msgspec.json.encode(value).decode()}\n")
    return 0


_ACTS: dict[str, Callable[[argparse.Namespace], int]] = {
    "probe": _probe,
    "list": _list,
    "check": _check,
    "needs": _needs,
    "rows": _rows,
    "evaluate": _evaluate,
    "record": _record,
    "export": _export,
    "predict": _predict,
    "checkpoints": _checkpoints,
    "thin": _thin,
    "way_back": _way_back,
    "source": _import,
}
"""by the options of the command line that ask for them; they exclude each other"""
