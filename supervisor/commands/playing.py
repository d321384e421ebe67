"""What a run has learnt, played."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from modes.toml_file import InvalidFile
from state.records import Run
from supervisor import follow
from supervisor.commands import Adding
from supervisor.context import Context, whole_number
from supervisor.errors import SupervisorError
from supervisor.host.owner import BeyondTheOwner
from supervisor.programs import program, with_trainers
from trainers.contract import EXIT_AGAIN

PLACE = 60
RECORDING_MAX_S = 600
"""of play in one recording"""


class NotStarted(SupervisorError):
    """A run that has learnt nothing yet."""

    exit_code = EXIT_AGAIN

    def __init__(self, called: str) -> None:
        super().__init__(
            f"the run {called} has not started yet; try again when `supervisor runs` shows its "
            "first checkpoint"
        )


def add(command: Adding) -> None:
    """Add these commands."""
    sub = command(
        "export",
        _export,
        "write what a run has learnt, for whoever uses it",
        "run",
        "json",
        more="The run trains on meanwhile.",
    )
    sub.add_argument(
        "--checkpoint", choices=("best", "newest"), default="best", help="which (best)"
    )
    sub.add_argument("-o", "--output", metavar="FILE", required=True, help="a file or a folder")
    sub = command(
        "predict",
        _predict,
        "forecast the rows of a file with what a run has learnt",
        "run",
        "json",
        more="The run trains on meanwhile.",
    )
    sub.add_argument("-i", "--input", metavar="FILE", required=True, help="a table of rows")
    sub.add_argument(
        "--checkpoint", choices=("best", "newest"), default="best", help="which (best)"
    )
    sub.add_argument("-o", "--output", metavar="FILE", help="CSV, Parquet or JSON; default: here")
    for name, act, text, episodes, more in (
        ("evaluate", _evaluate, "play greedily with a run's checkpoint", 10, ""),
        ("record", _record, "write a GIF of greedy play", 1, "The run trains on meanwhile."),
    ):
        sub = command(name, act, text, "run", "json", more=more)
        sub.add_argument(
            "-e",
            "--episodes",
            metavar="N",
            type=whole_number,
            default=episodes,
            help=f"games to play ({episodes})",
        )
        sub.add_argument(
            "--checkpoint", choices=("best", "newest"), default="best", help="which (best)"
        )
    sub.add_argument("-o", "--output", metavar="FILE", help="default: NAME.gif, here")
    sub.add_argument(
        "-s",
        "--seconds",
        metavar="S",
        type=lambda text: whole_number(text, most=RECORDING_MAX_S),
        default=60,
        help="of play, at most (60)",
    )


def _evaluate(context: Context) -> int:
    run = context.run(context.options.run)
    return _play(context, run, "--evaluate", str(context.options.episodes))


def _record(context: Context) -> int:
    options = context.options
    run = context.run(options.run)
    called = context.called(run)
    output = options.output or f"{called}.gif"
    _refuse_beyond(context, output)
    limits = ["--episodes", str(options.episodes), "--seconds", str(options.seconds)]
    if sys.stderr.isatty():  # it may take a minute on a busy machine
        print(f"recording {called} ...", file=sys.stderr)
    return _play(context, run, f"--record={output}", *limits)


def _export(context: Context) -> int:
    run, output = context.run(context.options.run), context.options.output
    _refuse_beyond(context, output)
    return _play(context, run, f"--export={output}")


def _predict(context: Context) -> int:
    options = context.options
    run, output = context.run(options.run), options.output
    more = []
    if output is not None:
        _refuse_beyond(context, output)
        more = [f"--out={output}"]
    return _play(context, run, f"--predict={options.input}", *more)


def _refuse_beyond(context: Context, output: str) -> None:
    """See that what is written there can be, where root has become the owner.

    Raises:
        BeyondTheOwner: it cannot.
    """
    if context.became and not os.access(Path(output).parent, os.W_OK | os.X_OK):
        raise BeyondTheOwner(Path(output))


def _play(context: Context, run: Run, *arguments: str) -> int:
    """Have a run's trainer play with a checkpoint, in a process of its own."""
    folder = context.home.run(run.id).path
    if not context.home.run(run.id).spec.exists():
        raise NotStarted(context.called(run))
    command = [*program("trainers.__main__"), run.asked.trainer, "--run", str(folder)]
    command += [*arguments, "--checkpoint", context.options.checkpoint]
    command += ["--json"] if context.options.json else []
    try:
        trainers_dir = context.kept_config.trainers_dir
    except (InvalidFile, SupervisorError):
        trainers_dir = None  # ours play whatever the settings say
    # What it prints goes through our screen, which it knows nothing of.
    return follow.passed_on(command, sys.stdout, sys.stderr, with_trainers(trainers_dir))
