"""The command line of every trainer: `python -m trainers NAME --run RUN_DIR`."""

from __future__ import annotations

import argparse
import statistics
import sys
from pathlib import Path
from typing import NoReturn

import msgspec

from trainers import registry, session
from trainers.checkpoint import Checkpoints, Found
from trainers.contract import EXIT_AGAIN, EXIT_BAD_SPEC, BadSpec, Spec

ATTEMPTS = 3
"""how often a checkpoint that vanishes while it is read is looked for again"""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(EXIT_BAD_SPEC, f"trainers: {message}\n")


def main(arguments: list[str] | None = None) -> int:
    """Train, check or evaluate one run; the exit code is returned."""
    parser = _Parser(prog="python -m trainers", description="Train one run, until done or stopped.")
    parser.add_argument("trainer", help=f"one of: {', '.join(registry.names())}")
    parser.add_argument("--run", required=True, type=Path, metavar="RUN_DIR", help="the run folder")
    parser.add_argument("--check", action="store_true", help="only validate the spec")
    parser.add_argument(
        "--evaluate", type=_positive, metavar="N", help="only play N episodes greedily"
    )
    parser.add_argument(
        "--checkpoint", choices=("best", "newest"), default="best", help="which one to evaluate"
    )
    parser.add_argument("--json", action="store_true", help="print the evaluation as JSON")
    options = parser.parse_args(arguments)
    if not options.check and options.evaluate is None:
        return session.run(options.run, options.trainer)
    try:
        if options.check:
            spec = session.check(options.run, options.trainer)
            remark = getattr(registry.load(options.trainer), "remark", None)
            if remark and (text := remark(spec)):
                sys.stderr.write(f"trainers: {text}\n")
            return 0
        return _evaluate(
            options.run, options.trainer, options.evaluate, options.checkpoint, options.json
        )
    except BadSpec as error:
        sys.stderr.write(f"trainers: {error}\n")
        return error.exit_code


def _evaluate(path: Path, trainer: str, episodes: int, which: str, as_json: bool) -> int:
    spec = session.check(path, trainer)
    session.limit_threads(spec.threads)
    play = getattr(registry.load(trainer), "evaluate", None)
    if play is None:
        raise BadSpec(f"the trainer {trainer!r} cannot evaluate")
    checkpoints = Checkpoints(session.open_folder(path).checkpoints)
    for attempt in range(1, ATTEMPTS + 1):
        found: Found = checkpoints.best() if which == "best" else checkpoints.newest()
        for damaged in found.passed_over:
            sys.stderr.write(f"trainers: {damaged}\n")
        if found.checkpoint is None:
            sys.stderr.write("trainers: there is no usable checkpoint yet\n")
            return EXIT_AGAIN
        try:
            returns: list[float] = play(spec, found.checkpoint.path, episodes)
        except FileNotFoundError:
            # The run trains on meanwhile, and may prune what was just found.
            if attempt == ATTEMPTS:
                raise
        else:
            sys.stdout.write(_report(spec, found.checkpoint.manifest.step, returns, as_json))
            break
    return 0


def _report(spec: Spec, step: int, returns: list[float], as_json: bool) -> str:
    result = {
        "run": spec.run,
        "name": spec.name,
        "checkpoint_step": step,
        "episodes": len(returns),
        "return_mean": statistics.fmean(returns),
        "return_std": statistics.pstdev(returns),
        "returns": returns,
    }
    if as_json:
        return f"{msgspec.json.encode(result).decode()}\n"
    each = " ".join(f"{value:g}" for value in returns)
    return (
        f"{spec.name}: {result['return_mean']:.1f} ± {result['return_std']:.1f} over "
        f"{len(returns)} episodes at step {step:,}\n{each}\n"
    )


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError
    return number


if __name__ == "__main__":
    sys.exit(main())
