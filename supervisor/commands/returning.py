"""A run's checkpoints: which there are, from which of them it goes on, and one from elsewhere."""

from __future__ import annotations

import io
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from modes.toml_file import InvalidFile
from state.records import Run
from supervisor import follow, screen
from supervisor.commands import Adding
from supervisor.commands.asking import put
from supervisor.commands.playing import NotStarted
from supervisor.context import Context, print_json, whole_number
from supervisor.core.moments import stamp
from supervisor.errors import SupervisorError
from supervisor.host.owner import BeyondTheOwner
from supervisor.programs import program, with_trainers
from trainers import durable
from trainers.contract import HOME, Brought, History, Way

PLACE = 65
STEP_MAX = 10**18 - 1
"""what the name of a checkpoint has room for"""


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

    sub = command(
        "rewind",
        _rewind,
        "have a run go on from an earlier checkpoint",
        "run",
        "json",
        more="Those that are later are kept beside it, whole, under names that `checkpoints` lists "
        "and `rewind` takes. A run that trains is saved and stopped before, and starts again; one "
        "that had ended is in the queue again. With the supervisor down it happens at its next "
        "start.",
    )
    sub.add_argument(
        "where",
        metavar="WHERE",
        help="a step, or another name that `checkpoints` lists; best; newest; 0: it begins anew",
    )

    sub = command(
        "import-checkpoint",
        _import,
        "have a run begin with a checkpoint from elsewhere",
        "run",
        "json",
        more="PATH is what the run's program has saved elsewhere, a file or a folder, or a folder "
        "runs/RUN/checkpoints/STEP of another run of the same trainer. It is looked at, without "
        "running code from it, and copied; it stays as it is. The run must not train: `pause` "
        "before, and `rewind RUN 0` if it has checkpoints already.",
    )
    sub.add_argument("path", metavar="PATH", help="a file or a folder")
    sub.add_argument(
        "--step",
        metavar="N",
        type=lambda text: whole_number(text, most=STEP_MAX),
        help="where the run is then; by default as PATH tells",
    )
    sub.add_argument("--score", metavar="NAME=VALUE", help="how good it is, such as loss=0.25")


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


def _rewind(context: Context) -> int:
    run = context.run(context.options.run)
    if not context.home.run(run.id).path.exists():
        raise NotStarted(context.called(run))
    # Before anything is stopped for it: only the trainers' side knows which checkpoints there are,
    # and whether the run can go on from that one under what is asked of it now.
    with _spec(context, run) as asked:
        code, said = _said(context, run, asked, f"--way-back={context.options.where}")
    if code:
        return code
    way = msgspec.json.decode(said, type=Way)
    answer = put(context, "rewind", run=run.id, checkpoint=way.checkpoint)
    if context.options.json:
        known = {"run": run.id, "decided": answer.decided, "reason": answer.reason}
        print_json(known | msgspec.to_builtins(way))
        return 0
    print(answer.reason)
    if way.beside:
        print(f"kept beside it: {', '.join(way.beside)}, and what is saved until then")
    return 0


def _import(context: Context) -> int:
    options, home = context.options, context.home
    run = context.wanted(options.run)
    source = Path(options.path).absolute()
    if context.became and source.exists() and not os.access(source, os.R_OK):
        raise BeyondTheOwner(source)
    more = [] if options.step is None else [f"--step={options.step}"]
    more += [] if options.score is None else [f"--score={options.score}"]
    home.make()
    with _spec(context, run) as asked:
        code, said = _said(context, run, asked, f"--import={source}", *more)
    if code:
        return code
    if options.json:
        print_json(msgspec.json.decode(said))
        return 0
    known = msgspec.json.decode(said, type=Brought)
    print(screen.brought(context.called(run), options.path, known))
    return 0


@contextmanager
def _spec(context: Context, run: Run) -> Iterator[str]:
    """The option that names what the trainer is to be asked for, as things stand."""
    from supervisor.core import queue  # noqa: PLC0415 - reading commands stay quick

    config = context.kept_config
    interval_s, grace_s = config.settings.checkpoints.interval_s, config.settings.recovery.grace_s
    mode = config.ladder.safest
    spec = queue.spec(run, mode, cores=1, checkpoint_interval_s=interval_s, grace_s=grace_s)
    with tempfile.TemporaryDirectory() as place:
        asked = Path(place) / "spec.json"
        durable.write(asked, msgspec.json.encode(spec), sync=False)
        yield f"--spec={asked}"


def _said(context: Context, run: Run, *arguments: str) -> tuple[int, str]:
    """What a process of the trainers answers about a run: its exit code, and what it prints."""
    folder = context.home.run(run.id).path
    command = [*program("trainers.__main__"), run.asked.trainer, "--run", str(folder), *arguments]
    try:
        trainers_dir = context.kept_config.trainers_dir
    except (InvalidFile, SupervisorError):
        trainers_dir = None  # ours have checkpoints whatever the settings say
    out = io.StringIO()
    environment = with_trainers(trainers_dir) | {HOME: str(context.home.path)}
    code = follow.passed_on(command, out, sys.stderr, environment)
    return code, out.getvalue()
