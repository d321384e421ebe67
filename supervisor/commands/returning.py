"""A run's checkpoints: which there are."""

from __future__ import annotations

import io
import sys

import msgspec

from modes.toml_file import InvalidFile
from state.records import Run
from supervisor import follow, screen
from supervisor.commands import Adding
from supervisor.context import Context, print_json
from supervisor.core.moments import stamp
from supervisor.errors import SupervisorError
from supervisor.programs import program, with_trainers
from trainers.contract import History

PLACE = 65


def add(command: Adding) -> None:
    """Add these commands."""
    sub = command(
        "checkpoints",
        _checkpoints,
        "list a run's checkpoints, those that lie aside too",
        "run",
        "json",
        more="The run trains on meanwhile.",
    )
    sub.add_argument(
        "--verify",
        action="store_true",
        help="read every byte; otherwise what they say of themselves and the sizes of their files",
    )


def _checkpoints(context: Context) -> int:
    run = context.run(context.options.run)
    known = History(run=run.id, verified=context.options.verify, checkpoints=())
    if context.home.run(run.id).path.exists():
        verify = ["--verify"] if context.options.verify else []
        code, said = _said(context, run, "--checkpoints", *verify)
        if code:
            return code
        known = msgspec.json.decode(said, type=History)
    if not context.options.json:
        print(screen.checkpoints(context.called(run), known))
        return 0
    rows = [
        msgspec.to_builtins(one)
        | {"saved_at": None if one.saved_at is None else stamp(one.saved_at)}
        for one in known.checkpoints
    ]
    print_json({"run": known.run, "verified": known.verified, "checkpoints": rows})
    return 0


def _said(context: Context, run: Run, *arguments: str) -> tuple[int, str]:
    """What a process of the trainers answers about a run: its exit code, and what it prints."""
    folder = context.home.run(run.id).path
    command = [*program("trainers.__main__"), run.asked.trainer, "--run", str(folder), *arguments]
    try:
        trainers_dir = context.kept_config.trainers_dir
    except (InvalidFile, SupervisorError):
        trainers_dir = None  # ours have checkpoints whatever the settings say
    out = io.StringIO()
    code = follow.passed_on(command, out, sys.stderr, with_trainers(trainers_dir))
    return code, out.getvalue()
