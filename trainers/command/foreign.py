"""What a program has saved elsewhere, as a checkpoint of a run."""

from __future__ import annotations

import fnmatch
import os
import re
from pathlib import Path

import msgspec

from trainers import durable
from trainers.command import saved
from trainers.command.options import SECONDS, Known, Options
from trainers.contract import EPISODES, HOME, BadSpec, Score, Spec
from trainers.registry import Imported

HUGGING_FACE = "trainer_state.json"
"""in a folder of that library: where its training was"""
STATE_MAX_BYTES = 2**27

_PAIR = re.compile(r"([A-Za-z]+)[=_-](\d+)(?![\d.]*\d)")
_NUMBER = re.compile(r"\d+")


class _State(msgspec.Struct):
    """What is of use of that file."""

    global_step: int
    epoch: float | None = None


def taken(spec: Spec, options: Options, path: Path) -> Imported:
    """What lies at `path`, as what is handed back to the program at its next start.

    Raises:
        BadSpec: this program is handed back nothing.
    """
    if options.checkpoints is None:
        raise BadSpec(
            "options.checkpoints is not set, so nothing is ever handed back to this program: say "
            'what it saves, such as checkpoints = "ckpt-*.pt"'
        )
    home = Path(os.environ[HOME])
    known = Known(spec, options, home)
    below = known.fill(options.checkpoints, "checkpoints")
    cwd = known.work if options.cwd is None else Path(known.fill(options.cwd, "cwd") or "")
    assert below is not None  # noqa: S101 - all is known here
    assert cwd is not None  # noqa: S101 - as above
    pattern = cwd.expanduser() / below
    if not options.resume and not fnmatch.fnmatch(path.name, pattern.name):
        raise BadSpec(
            f"{path.name} has no name that the program looks for, as {below}: copy it to such a "
            "name, or set options.resume"
        )
    place = pattern.parent / path.name
    folder = path.is_dir()
    files = saved.named(path, [below for below, *_ in saved.stamp_of(path)])
    by_time = options.progress is None or (spec.target is not None and spec.target.unit == SECONDS)
    kept = saved.Kept(
        counts=SECONDS if by_time else "told",
        path=str(place.relative_to(home) if place.is_relative_to(home) else place),
        folder=folder,
        files=files,
    )
    state = msgspec.json.encode(kept)
    return Imported(
        files=[
            (saved.STATE, state),
            *((name, path / below if folder else path) for name, below in files.items()),
        ],
        step=None if by_time else _step(spec, path),
        score=_measure(options),
    )


def _measure(options: Options) -> Score | None:
    progress = options.progress
    if progress is None or progress.score is None:
        return None
    return Score(name=progress.score, value=None, better=progress.better)


def _step(spec: Spec, path: Path) -> int | None:
    """At which step it was saved, in the unit of the target, as far as it tells."""
    unit = spec.target.unit if spec.target is not None else None
    if unit == EPISODES:
        return None
    told = _told_by_library(path / HUGGING_FACE)
    if told is not None:
        if unit in (None, "steps"):
            return told.global_step
        whole = told.epoch is not None and told.epoch.is_integer()
        return int(told.epoch or 0) if unit == "epochs" and whole else None
    name = path.name.removesuffix(path.suffix) if path.is_file() else path.name
    pairs = {word.lower().removesuffix("s"): int(number) for word, number in _PAIR.findall(name)}
    wanted = (unit or "steps").removesuffix("s")
    if wanted in pairs:
        return pairs[wanted]
    numbers = _NUMBER.findall(name)
    return int(numbers[0]) if len(numbers) == 1 else None


def _told_by_library(path: Path) -> _State | None:
    try:
        return msgspec.json.decode(durable.read(path, STATE_MAX_BYTES), type=_State)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
        return None
