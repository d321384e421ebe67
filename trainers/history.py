"""All checkpoints of a run, those that lie aside too, and to which of them it can go back."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import msgspec

from trainers import attempt
from trainers.checkpoint import (
    Checkpoints,
    DamagedCheckpoint,
    Manifest,
    Name,
    by_merit,
    read_manifest,
    verify,
)
from trainers.contract import START, History, Listed, NewerFile, Refused, Way
from trainers.rewind import NoSuchCheckpoint, later, meant

ASIDE = {
    "beside": "the run has gone back behind it",
    "withheld": "attempts have died of going on from it",
    "damaged": "it was found damaged",
}
"""why a checkpoint lies aside, where nothing else is known of it"""


def listed(path: Path, *, verified: bool) -> History:
    """What is told of the checkpoints of the run in `path`, whether or not it trains.

    Args:
        path: the run's folder.
        verified: read every byte of them, which takes as long as that takes.

    Raises:
        BadSpec: it is no run folder.
        OSError: nothing can be read now.
    """
    folder = attempt.open_folder(path)
    checkpoints = Checkpoints(folder.checkpoints)
    told: list[Listed] = []
    good: list[Manifest] = []
    for text, name in checkpoints.named().items():
        one, manifest = _looked_at(checkpoints.folder / text, name, verified=verified)
        if one is not None:
            told.append(one)
        if name.aside is None and manifest is not None:
            good.append(manifest)
    marked = {
        "newest": max((manifest.step for manifest in good), default=None),
        "best": by_merit(good)[0].step if good else None,
    }
    rows = tuple(
        one
        if one.aside is not None
        else msgspec.structs.replace(
            one, **{mark: one.step == step for mark, step in marked.items()}
        )
        for one in told
    )
    return History(run=folder.path.name, verified=verified, checkpoints=rows)


class CannotGoBack(Refused):
    """What somebody wants to go back to is not there, or not to be used."""


def way_back(path: Path, word: str) -> Way:
    """To which checkpoint of the run in `path` a word leads; nothing is changed.

    Args:
        path: the run's folder.
        word: a name, a step, `best`, `newest`, or `start`.

    Raises:
        CannotGoBack: to none, or to one that is damaged.
        BadSpec: it is no run folder, or what is later is a newer version's.
        OSError: nothing can be read now.
    """
    checkpoints = Checkpoints(attempt.open_folder(path).checkpoints)
    try:
        if word in ("best", "newest"):
            found = checkpoints.best() if word == "best" else checkpoints.newest()
            if found.checkpoint is None:
                raise NoSuchCheckpoint(word, checkpoints)
            name = found.checkpoint.path.name
        else:
            name = meant(checkpoints, word)
            if name != START:
                verify(checkpoints.folder / name)
    except NoSuchCheckpoint as error:
        raise CannotGoBack(str(error)) from error
    except DamagedCheckpoint as error:
        raise CannotGoBack(f"checkpoint {word} is damaged: {error}") from error
    return Way(checkpoint=name, beside=tuple(reversed(later(checkpoints, name))))


def _looked_at(path: Path, name: Name, *, verified: bool) -> tuple[Listed | None, Manifest | None]:
    """What is told of one, and what it says of itself if it is whole."""
    manifest, trouble = None, None
    whole: bool | None = name.aside != "damaged"
    try:
        manifest = read_manifest(path)
        _see_sizes(path, manifest)
        if verified:
            verify(path)
    except NewerFile as error:
        trouble, whole = str(error), None
    except (DamagedCheckpoint, OSError) as error:
        trouble, whole = str(error), False
    size_bytes = _size_bytes(path)
    if not os.path.lexists(path):
        return None, None  # the run trains on, and has pruned it in this moment
    if manifest is not None:
        size_bytes = sum(file.size_bytes for file in manifest.files.values())
    why = ASIDE[name.aside] if name.aside is not None else None
    one = Listed(
        checkpoint=path.name,
        step=name.step,
        episodes=None if manifest is None else manifest.episodes,
        saved_at=None if manifest is None else manifest.saved_at,
        score=None if manifest is None else manifest.score,
        mode=None if manifest is None else manifest.mode,
        size_bytes=size_bytes,
        aside=name.aside,
        whole=whole,
        reason="; ".join(part for part in (why, trouble) if part) or None,
    )
    return one, manifest if whole else None


def _see_sizes(path: Path, manifest: Manifest) -> None:
    """See that every file is there, as large as it was.

    Raises:
        DamagedCheckpoint: one is not.
    """
    for name, expected in manifest.files.items():
        try:
            there = (path / name).lstat().st_size
        except FileNotFoundError as error:
            raise DamagedCheckpoint(f"{name} is missing") from error
        if there != expected.size_bytes:
            raise DamagedCheckpoint(f"{name} has {there} bytes instead of {expected.size_bytes}")


def _size_bytes(path: Path) -> int:
    """How much lies there, of something that does not tell itself."""
    if path.is_symlink() or not path.is_dir():
        return 0
    size_bytes = 0
    with suppress(FileNotFoundError):  # the run trains on, and prunes it in this moment
        for one in path.iterdir():
            size_bytes += one.lstat().st_size
    return size_bytes
