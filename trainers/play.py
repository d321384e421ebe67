"""What a run has learnt so far: episodes played greedily by a checkpoint, beside the training.

Nothing is written into the run folder, and its lock is not needed.
"""

from __future__ import annotations

import os
import shutil
import statistics
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, TypeVar

import msgspec

from trainers import attempt, durable, registry
from trainers.checkpoint import Checkpoint, Checkpoints
from trainers.contract import EXIT_AGAIN, BadSpec, Spec
from trainers.registry import Recording

Which = Literal["best", "newest"]
"""the checkpoint with the highest mean return, or the last one"""

TRIES = 3
"""how often a checkpoint that vanishes while it is read is looked for again"""
RECORDING_NICE = 5
"""the training goes first, but a busy machine still gets it done"""
EXIT_FAILED = 1

T = TypeVar("T")


class NoCheckpoint(Exception):
    """There is nothing yet that could play."""

    exit_code = EXIT_AGAIN

    def __init__(self) -> None:
        super().__init__(
            "there is no usable checkpoint yet; the first comes with the first update: try again "
            "when the run has trained for a minute or two"
        )


class CannotWrite(Exception):
    """The recording has no place."""

    exit_code = EXIT_FAILED


def evaluate(path: Path, trainer: str, which: Which, *, episodes: int, as_json: bool) -> None:
    """Play so many whole episodes, and print their returns.

    Raises:
        BadSpec: the spec can never work, or the trainer cannot evaluate.
        NoCheckpoint: there is none yet.
    """
    spec, play = _ready(path, trainer, "evaluate")
    checkpoint, returns = _played(path, which, lambda found: play(spec, found.path, episodes))
    result = {
        "run": spec.run,
        "name": spec.name,
        "checkpoint_step": checkpoint.manifest.step,
        "episodes": len(returns),
        "return_mean": statistics.fmean(returns),
        "return_std": statistics.pstdev(returns),
        "returns": returns,
    }
    if as_json:
        _print_json(result)
        return
    each = " ".join(f"{value:g}" for value in returns)
    sys.stdout.write(
        f"{spec.name}: {result['return_mean']:.1f} ± {result['return_std']:.1f} over "
        f"{len(returns)} episodes at step {checkpoint.manifest.step:,}\n{each}\n"
    )


def record(
    path: Path,
    trainer: str,
    which: Which,
    output: Path,
    *,
    episodes: int,
    seconds: float,
    as_json: bool,
) -> None:
    """Film so many episodes, or so many seconds of them: what is over first.

    Raises:
        BadSpec: the spec can never work, or the trainer cannot record.
        NoCheckpoint: there is none yet.
        CannotWrite: `output` cannot be written.
    """
    if output.suffix.lower() != ".gif":
        raise CannotWrite(f"a recording is a GIF, so its name must end in .gif: {output}")
    if not os.access(output.parent, os.W_OK | os.X_OK):
        # Before anything is played for it.
        raise CannotWrite(f"cannot write {output}: no such folder, or not yours to write to")
    spec, film = _ready(path, trainer, "record")
    os.nice(RECORDING_NICE)

    def play(found: Checkpoint) -> Recording:
        recording: Recording = film(spec, found.path, episodes=episodes, seconds=seconds)
        return recording

    checkpoint, recording = _played(path, which, play)
    fresh = output.with_name(f".{output.name}.{os.getpid()}.new")
    try:
        durable.fill(fresh, recording.content)
        fresh.replace(output)
    except OSError as error:
        raise CannotWrite(f"cannot write {output}: {error.strerror}") from error
    finally:
        with suppress(OSError):
            fresh.unlink(missing_ok=True)
    if as_json:
        _print_json(
            {
                "run": spec.run,
                "name": spec.name,
                "checkpoint_step": checkpoint.manifest.step,
                "file": str(output.absolute()),
                "size_bytes": len(recording.content),
                "width": recording.width,
                "height": recording.height,
                "pictures": recording.pictures,
                "seconds": round(recording.seconds, 2),
                "returns": recording.returns,
                "return_so_far": recording.return_so_far,
            }
        )
        return
    parts = [f"return {value:g}, the game is over" for value in recording.returns]
    if recording.return_so_far is not None:
        parts.append(f"return {recording.return_so_far:g} so far, the game goes on")
    sys.stdout.write(
        f"{spec.name} at step {checkpoint.manifest.step:,}: {'; '.join(parts)}\n"
        f"{output}: {recording.seconds:.0f} s, {recording.width}x{recording.height}, "
        f"{len(recording.content) / 1e6:.1f} MB\n"
    )


def export(path: Path, trainer: str, which: Which, output: Path, *, as_json: bool) -> None:
    """Have a trainer write what a checkpoint holds, for whoever uses it: whole, or not at all.

    Raises:
        BadSpec: the spec can never work, or the trainer cannot export.
        NoCheckpoint: there is none yet.
        CannotWrite: `output` cannot be written.
    """
    output = output.absolute()  # whoever writes it may stand elsewhere
    spec, export = _ready(path, trainer, "export")

    def write(out: Path) -> tuple[Checkpoint, None]:
        return _played(path, which, lambda found: export(spec, found.path, out))

    checkpoint, _ = _placed(output, write)
    if as_json:
        step = checkpoint.manifest.step
        _print_json({"run": spec.run, "checkpoint_step": step, "file": str(output)})
        return
    sys.stdout.write(f"{spec.name} at step {checkpoint.manifest.step:,}: {output}\n")


def predict(
    path: Path, trainer: str, which: Which, rows: Path, output: Path | None, *, as_json: bool
) -> None:
    """Have a trainer forecast the rows of a file; without `output` they are printed.

    Raises:
        BadSpec: the spec can never work, or the trainer cannot forecast these rows.
        NoCheckpoint: there is none yet.
        CannotWrite: `output` cannot be written.
    """
    spec, forecast = _ready(path, trainer, "predict")

    def write(out: Path) -> tuple[Checkpoint, int]:
        return _played(path, which, lambda found: forecast(spec, found.path, rows, out))

    if output is None:
        with tempfile.TemporaryDirectory() as place:
            out = Path(place, "forecasts.json" if as_json else "forecasts.csv")
            write(out)
            with out.open(encoding="utf-8") as file:
                shutil.copyfileobj(file, sys.stdout)
        return
    output = output.absolute()
    checkpoint, count = _placed(output, write)
    step = checkpoint.manifest.step
    if as_json:
        told = {"run": spec.run, "checkpoint_step": step, "rows": count, "file": str(output)}
        _print_json(told)
        return
    sys.stdout.write(f"{spec.name} at step {step:,}: {count:,} forecasts: {output}\n")


def _placed(output: Path, write: Callable[[Path], T]) -> T:
    """What came of writing `output`: it is there whole, or not at all.

    Raises:
        CannotWrite: it cannot be.
    """
    if output.is_dir():
        raise CannotWrite(f"{output} is there: name what is not, it is made")
    try:
        place = Path(tempfile.mkdtemp(prefix=".export-", dir=output.parent))
    except OSError as error:
        raise CannotWrite(f"cannot write {output}: {error.strerror}") from error
    try:
        written = write(place / output.name)
        (place / output.name).replace(output)
    except OSError as error:
        raise CannotWrite(f"cannot write {output}: {error.strerror}") from error
    finally:
        shutil.rmtree(place, ignore_errors=True)
    return written


def _ready(path: Path, trainer: str, what: str) -> tuple[Spec, Callable[..., Any]]:
    """The spec, and the function of that name that the trainer may offer."""
    spec = attempt.check(path, trainer)
    function = getattr(registry.load(trainer), what, None)
    if function is None:
        raise BadSpec(f"the trainer {trainer!r} cannot {what}")
    return spec, function


def _played(path: Path, which: Which, play: Callable[[Checkpoint], T]) -> tuple[Checkpoint, T]:
    """What came of playing with a checkpoint, and which it was."""
    checkpoints = Checkpoints(attempt.open_folder(path).checkpoints)
    for tried in range(1, TRIES + 1):
        found = checkpoints.best() if which == "best" else checkpoints.newest()
        for told in (*found.passed_over, *found.newer):
            sys.stderr.write(f"trainers: {told}\n")
        if found.checkpoint is None:
            break
        try:
            return found.checkpoint, play(found.checkpoint)
        except FileNotFoundError:
            # The run trains on meanwhile, and may prune what was just found.
            if tried == TRIES:
                raise
    raise NoCheckpoint


def _print_json(result: dict[str, Any]) -> None:
    sys.stdout.write(f"{msgspec.json.encode(result).decode()}\n")
