"""Checkpoints that are complete or absent.

A checkpoint is the folder `checkpoints/STEP/`: the trainer's files and, written
last, a `manifest.json` with their sizes and checksums. All of it is written and
fsynced under a hidden name and then renamed, so whatever ends the process or
the power leaves either the whole checkpoint or a hidden leftover. A folder that
does not match its manifest (a failing disk does that) is passed over in favour
of the one before, renamed to `damaged-STEP`, and named to the caller.

Only the holder of the run's lock may call what changes the folder: `save`,
`set_aside`, `prune` and `remove_leftovers`. `newest` and `best` only read.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from trainers import durable

KEEP_NEWEST = 3
"""checkpoints kept for their age alone, so that two damaged ones in a row cost little"""
KEEP_DAMAGED = 3
"""damaged folders kept for a person to look at"""
DAY_S = 86_400
EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})
"""errors that tell of the machine as it is now, and nothing of what lies on the disk"""

MANIFEST = "manifest.json"
MANIFEST_MAX_BYTES = 1024 * 1024

_STEP = re.compile(r"0|[1-9][0-9]{0,17}")
_DAMAGED = re.compile(r"damaged-(0|[1-9][0-9]{0,17})")

Count = Annotated[int, msgspec.Meta(ge=0)]
FileName = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]


class File(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one file of a checkpoint must look like."""

    size_bytes: Count
    sha256: str


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a checkpoint says of itself: the content of its `manifest.json`."""

    version: Literal[1] = 1
    run: str
    trainer: str
    mode: str
    """the mode whose load the run was under"""
    step: Count
    """environment steps learnt from, over all lives of the run"""
    episodes: Count
    """episodes finished, over all lives of the run"""
    return_mean: float | None
    """mean undiscounted return of the last 100 episodes; None while unknown"""
    saved_at: float
    """wall time, seconds since 1970"""
    write_s: float = 0.0
    """how long its files took to write"""
    trained_s: float = 0.0
    """time spent on its steps over all lives of the run, without starts and checkpoints"""
    files: dict[FileName, File] = {}


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A complete checkpoint, and where it lies."""

    path: Path
    manifest: Manifest


@dataclass(frozen=True, slots=True)
class Damaged:
    """A folder that is named like a checkpoint and cannot be used."""

    path: Path
    reason: str

    def __str__(self) -> str:
        return f"checkpoint {self.path.name} is damaged and was passed over: {self.reason}"


@dataclass(frozen=True, slots=True)
class Found:
    """The first good checkpoint of a search, and what was passed over on the way to it."""

    checkpoint: Checkpoint | None
    passed_over: tuple[Damaged, ...]


class DamagedCheckpoint(Exception):
    """A checkpoint whose content is not what its manifest says."""


class Checkpoints:
    """The checkpoints of one run.

    Args:
        folder: the run's `checkpoints` folder; created by the first `save`.

    Raises:
        UnreadableFile: `folder` is a symlink or no folder at all.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
            raise durable.UnreadableFile(folder, "not a folder of this run")

    def newest(self) -> Found:
        """The newest checkpoint whose every file matches its checksum.

        Raises:
            OSError: nothing can be read now; that says nothing of the checkpoints.
        """
        return self._first_good(sorted(self._steps(), reverse=True))

    def best(self) -> Found:
        """The good checkpoint with the highest mean return; the newest of equals.

        Checkpoints that know no return come last, newest first.

        Raises:
            OSError: as for `newest`.
        """
        ranked = sorted(self._manifests(), key=_merit, reverse=True)
        return self._first_good([manifest.step for manifest in ranked])

    def save(self, manifest: Manifest, files: Iterable[tuple[str, bytes]]) -> Checkpoint:
        """Write a checkpoint, wholly or not at all.

        A good checkpoint of the same step is kept as it is: a trainer that was
        stopped before it moved has nothing to add. A damaged one is set aside.

        Args:
            manifest: its description; `files` and `write_s` are filled in here.
            files: name and content of each file, written as they are produced.

        Raises:
            OSError: the disk is full or failing; no checkpoint was added or lost.
        """
        self._make_folder()
        path = self.folder / str(manifest.step)
        if os.path.lexists(path):
            try:
                return verify(path)
            except DamagedCheckpoint as error:
                self.set_aside(Damaged(path, str(error)))
        fresh = self.folder / f".{manifest.step}.{os.getpid()}.new"
        started_s = time.monotonic()
        try:
            fresh.mkdir(mode=durable.FOLDER_MODE)
            written = {name: _write(fresh / name, content) for name, content in files}
            manifest = msgspec.structs.replace(
                manifest, files=written, write_s=round(time.monotonic() - started_s, 3)
            )
            _write(fresh / MANIFEST, msgspec.json.encode(manifest))
            durable.sync_folder(fresh)
            fresh.rename(path)
        except BaseException:
            shutil.rmtree(fresh, ignore_errors=True)
            raise
        durable.sync_folder(self.folder)
        return Checkpoint(path, manifest)

    def set_aside(self, damaged: Damaged) -> None:
        """Rename a damaged checkpoint so that it is neither used nor in the way.

        Raises:
            OSError: it cannot be renamed; it stays where it is.
        """
        aside = self.folder / f"damaged-{damaged.path.name}"
        if os.path.lexists(aside):
            self._remove(aside)
        damaged.path.rename(aside)
        durable.sync_folder(self.folder)

    def prune(self) -> None:
        """Remove the checkpoints that nobody needs.

        Kept are the newest few, the best by mean return, and the newest of each
        UTC day. A folder whose manifest cannot be read is left for `newest` to
        find.
        """
        manifests = sorted(self._manifests(), key=lambda manifest: manifest.step)
        keep = {manifest.step for manifest in manifests[-KEEP_NEWEST:]}
        if manifests:
            keep.add(max(manifests, key=_merit).step)
        # Ascending by step, so that a later checkpoint of the same day replaces an earlier one.
        keep |= set({m.saved_at // DAY_S: m.step for m in manifests}.values())
        for manifest in manifests:
            if manifest.step not in keep:
                self._remove(self.folder / str(manifest.step))
        damaged = [match for name in self._names() if (match := _DAMAGED.fullmatch(name))]
        damaged.sort(key=lambda match: int(match[1]))
        for match in damaged[:-KEEP_DAMAGED]:
            self._remove(self.folder / match[0])

    def remove_leftovers(self) -> None:
        """Remove what a killed `save` or `prune` left half done."""
        for name in self._names():
            if name.startswith("."):
                self._remove(self.folder / name)

    def _first_good(self, steps: list[int]) -> Found:
        passed_over: list[Damaged] = []
        for step in steps:
            path = self.folder / str(step)
            try:
                return Found(verify(path), tuple(passed_over))
            except DamagedCheckpoint as error:
                passed_over.append(Damaged(path, str(error)))
        return Found(None, tuple(passed_over))

    def _names(self) -> list[str]:
        try:
            return os.listdir(self.folder)  # noqa: PTH208 - names are what we sort and match
        except FileNotFoundError:
            return []

    def _steps(self) -> list[int]:
        return [int(name) for name in self._names() if _STEP.fullmatch(name)]

    def _manifests(self) -> list[Manifest]:
        manifests = []
        for step in self._steps():
            try:
                manifests.append(_read_manifest(self.folder / str(step)))
            except (DamagedCheckpoint, OSError):
                continue
        return manifests

    def _make_folder(self) -> None:
        if not self.folder.exists():
            durable.make_folder(self.folder)
            durable.sync_folder(self.folder.parent)

    def _remove(self, path: Path) -> None:
        if path.is_symlink() or not path.is_dir():
            path.unlink()
            return
        if not path.name.startswith("."):
            # Hidden first: a kill between two deletions must not leave half a checkpoint.
            hidden = path.with_name(f".{path.name}.old")
            if os.path.lexists(hidden):
                self._remove(hidden)
            path = path.rename(hidden)
        shutil.rmtree(path)


def verify(path: Path) -> Checkpoint:
    """The checkpoint at `path`, every byte of which was read and found as written.

    Raises:
        DamagedCheckpoint: it is not what its manifest says, or cannot be read.
        OSError: nothing can be read now, for want of memory or of handles.
    """
    try:
        manifest = _read_manifest(path)
        for name, expected in manifest.files.items():
            if _digest(path / name, expected.size_bytes) != expected.sha256:
                raise DamagedCheckpoint(f"{name} does not match its checksum")
    except OSError as error:
        if error.errno in EXHAUSTED:
            raise
        raise DamagedCheckpoint(str(error)) from error
    return Checkpoint(path, manifest)


def _read_manifest(path: Path) -> Manifest:
    if path.is_symlink() or not path.is_dir():
        raise DamagedCheckpoint("not a folder")
    try:
        content = durable.read(path / MANIFEST, MANIFEST_MAX_BYTES)
    except FileNotFoundError as error:
        raise DamagedCheckpoint(f"{MANIFEST} is missing") from error
    try:
        manifest = msgspec.json.decode(content, type=Manifest)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise DamagedCheckpoint(f"{MANIFEST}: {error}") from error
    if str(manifest.step) != path.name:
        raise DamagedCheckpoint(f"{MANIFEST} speaks of step {manifest.step}")
    return manifest


def _digest(path: Path, size_bytes: int) -> str:
    try:
        file = durable.open_regular(path)
    except FileNotFoundError as error:
        raise DamagedCheckpoint(f"{path.name} is missing") from error
    with file:
        there = os.fstat(file.fileno()).st_size
        if there != size_bytes:
            raise DamagedCheckpoint(f"{path.name} has {there} bytes instead of {size_bytes}")
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write(path: Path, content: bytes) -> File:
    durable.fill(path, content)
    return File(size_bytes=len(content), sha256=hashlib.sha256(content).hexdigest())


def _merit(manifest: Manifest) -> tuple[float, int]:
    unknown = manifest.return_mean is None
    return (float("-inf") if unknown else float(manifest.return_mean or 0.0), manifest.step)
