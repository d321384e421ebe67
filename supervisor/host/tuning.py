"""Which way of calculating suits this machine: found once by the trainers, kept in the home."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec

from supervisor.errors import SupervisorError
from supervisor.programs import program, with_trainers
from trainers import durable
from trainers.contract import NewerFile, Share, Spec, Tuning, decode

PROBE_TIMEOUT_S = 60.0
"""a probe takes 16 s of this, and the time to start"""

Kept = dict[str, tuple[Tuning, ...]]
"""what was found for each trainer"""


class _File(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The content of `tuning.json`."""

    version: Literal[1] = 1
    found: Kept


class ProbeFailed(SupervisorError):
    """A probe that ended badly or not at all; everything stays as it was."""

    def __init__(self, trainer: str, why: str) -> None:
        super().__init__(f"the probe of the trainer {trainer!r} {why}; nothing was changed")


def read(path: Path) -> Kept:
    """What is kept; nothing where that is not readable, which costs speed and no more."""
    try:
        return known(path)
    except NewerFile:
        return {}


def known(path: Path) -> Kept:
    """What is kept; nothing where the file is missing or damaged.

    Raises:
        NewerFile: a newer version has kept it.
    """
    try:
        content = durable.read(path)
        if "version" not in msgspec.json.decode(content, type=dict[str, Any]):
            content = b'{"found":' + content + b"}"  # as the first versions wrote it
        return decode(path, content, _File).found
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return {}


def tuned(spec: Spec, kept: Kept) -> Spec:
    """`spec` with what was found for its trainer."""
    return msgspec.structs.replace(spec, tunings=kept.get(spec.trainer, ()))


def probe(
    trainer: str, shares: Sequence[Share], trainers_dir: Path | None = None
) -> tuple[Tuning, ...]:
    """Have a trainer try its ways of calculating, in a process of its own.

    Raises:
        ProbeFailed: it did not answer.
    """
    words = [msgspec.json.encode(share).decode() for share in shares]
    command = [*program("trainers.__main__"), trainer, "--probe", *words]
    try:
        done = subprocess.run(
            command,
            env=with_trainers(trainers_dir),
            capture_output=True,
            timeout=PROBE_TIMEOUT_S,
            check=False,
            text=True,
        )
    except subprocess.TimeoutExpired:
        raise ProbeFailed(trainer, f"took longer than {PROBE_TIMEOUT_S:.0f} s") from None
    if done.returncode:
        said = done.stderr.strip().splitlines() or [""]
        raise ProbeFailed(trainer, f"ended with code {done.returncode}: {said[-1]}")
    try:
        return msgspec.json.decode(done.stdout, type=tuple[Tuning, ...])
    except msgspec.MsgspecError as error:
        raise ProbeFailed(trainer, f"cannot be understood: {error}") from error


def described(kept: Kept) -> list[str]:
    """What was chosen under each load, and how long each way took."""
    return [
        f"{trainer} under {', '.join(f'{key} {value}' for key, value in one.load.items())}: "
        f"{', '.join(map(str, one.choice.values()))} ("
        + ", ".join(f"{way} {took_s * 1000:.0f} ms" for way, took_s in one.took_s.items())
        + ")"
        for trainer, tunings in kept.items()
        for one in tunings
    ]


def keep(path: Path, kept: Kept) -> None:
    """Keep what was found, for all starts of trainers from now on.

    Raises:
        NewerFile: a newer version has kept its own there.
    """
    known(path)
    durable.write(path, msgspec.json.format(msgspec.json.encode(_File(found=kept))))
