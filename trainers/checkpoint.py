"""Checkpoints that are complete or absent.

A checkpoint is the folder `checkpoints/STEP/`: the trainer's files and, written
last, a `manifest.json` with their sizes and checksums and a `manifest.sha256` with
its own. All of it is written and fsynced under a hidden name and then renamed, so
whatever ends the process or the power leaves either the whole checkpoint or a
hidden leftover. A folder that does not match its manifest (a failing disk does
that) is passed over in favour of the one before, renamed to `damaged-STEP`, and
named to the caller.

One that a newer version has written is not damaged, and nothing older is taken in
its place: whoever looks for the newest is told of it, and it is left as it is. One
that is whole, and that attempts have died of, is called `withheld-STEP` for as long
as the supervisor wants it to be. What a person has gone back behind is called
`beside-STEP`, and is kept until a person deletes it; see `trainers.history`.

Only the holder of the run's lock may call what changes the folder: `save`,
`set_aside`, `withhold`, `prune`, `thin` and `remove_leftovers`. `newest` and `best` only read.
"""

from __future__ import annotations

import errno
import hashlib
import math
import os
import re
import shutil
import time
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import msgspec

from trainers import durable, said
from trainers.contract import NewerFile, Score, decode

KEEP_NEWEST = 3
"""checkpoints kept for their age alone, so that two damaged ones in a row cost little"""
KEEP_DAMAGED = 3
"""damaged folders kept for a person to look at"""
DAY_S = 86_400
EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})
"""errors that tell of the machine as it is now, and nothing of what lies on the disk"""

MANIFEST = "manifest.json"
MANIFEST_MAX_BYTES = 1024 * 1024
MANIFEST_SUM = "manifest.sha256"
"""the checksum of the manifest as `sha256sum --check` reads it: beside it, so that older versions
can still go on from a checkpoint of this one"""
FILES_MAX = 1000
"""of one checkpoint"""
FILES_MAX_BYTES = 2**37
"""of one checkpoint, together: no machine reads more in the time that a start may take"""

_STEP = re.compile(r"0|[1-9][0-9]{0,17}")
_DAMAGED = re.compile(r"damaged-(0|[1-9][0-9]{0,17})")
_WITHHELD = re.compile(r"withheld-(0|[1-9][0-9]{0,17})(-[1-9][0-9]{0,3})?")
_NAMED = re.compile(r"(?:(beside|withheld|damaged)-)?(0|[1-9][0-9]{0,17})(?:-([1-9][0-9]{0,3}))?")

Count = Annotated[int, msgspec.Meta(ge=0)]


class File(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one file of a checkpoint must look like."""

    size_bytes: Count
    sha256: str


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a checkpoint says of itself: the content of its `manifest.json`."""

    version: Literal[2] = 2
    run: str
    trainer: str
    mode: str
    """the mode whose load the run was under"""
    step: Count
    """environment steps that it holds, over all attempts of the run: learnt from, or kept to be"""
    episodes: Count
    """episodes finished, over all attempts of the run"""
    score: Score | None = None
    """how good what it holds is, as the trainer measures that"""
    saved_at: float
    """wall time, seconds since 1970"""
    write_s: float = 0.0
    """how long its files took to write"""
    trained_s: float = 0.0
    """time spent on its steps over all attempts of the run, without starts and checkpoints"""
    files: dict[str, File] = {}


class _Before(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A manifest of version 1."""

    version: Literal[1] = 1
    run: str
    trainer: str
    mode: str
    step: Count
    episodes: Count
    return_mean: float | None
    saved_at: float
    write_s: float = 0.0
    trained_s: float = 0.0
    files: dict[str, File] = {}


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
    newer: tuple[NewerFile, ...] = ()
    """those of a newer version, which only `best` passes over"""


class Name(NamedTuple):
    """What the name of a checkpoint's folder says of it."""

    step: int
    aside: str | None = None
    """why it is not gone on from: `beside`, `withheld` or `damaged`; None: it may be"""
    copy: int = 1
    """which one of those that have the same step and lie aside for the same reason"""

    @classmethod
    def of(cls, text: str) -> Name | None:
        """What a name says; None: it is none of a checkpoint."""
        match = _NAMED.fullmatch(text)
        if match is None or (match[3] and match[1] in (None, "damaged")):
            return None
        return cls(int(match[2]), match[1], int(match[3] or 1))


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
            NewerFile: a newer version has written one that is newer than all good ones.
            OSError: nothing can be read now; that says nothing of the checkpoints.
        """
        return self._first_good(sorted(self._steps(), reverse=True))

    def best(self) -> Found:
        """The good checkpoint with the highest mean return; the newest of equals.

        Checkpoints that know no return come last, newest first.

        Raises:
            NewerFile: there are but those of a newer version.
            OSError: as for `newest`.
        """
        manifests, newer = self._manifests()
        ranked = by_merit(manifests)
        found = self._first_good([manifest.step for manifest in ranked])
        if found.checkpoint is None and newer:
            raise newer[0]
        return Found(found.checkpoint, found.passed_over, tuple(newer))

    def save(
        self,
        manifest: Manifest,
        files: Iterable[tuple[str, bytes | memoryview | Path]],
        *,
        replace: bool = False,
    ) -> Checkpoint:
        """Write a checkpoint, wholly or not at all.

        A good checkpoint of the same step is kept as it is: a trainer that was
        stopped before it moved has nothing to add. A damaged one is set aside.

        Args:
            manifest: its description; `files` and `write_s` are filled in here.
            files: name and content of each file, written as they are produced. A path is that of a
                file on the same disk that nobody writes to any more: it is moved here, and never
                in memory as a whole.
            replace: take the place of one of the same step, for more came to it than steps; at
                once, or not at all where the file system cannot do that.

        Raises:
            Misused: a name is ours or there twice, or it is all too much.
            NewerFile: a newer version has written one of the same step.
            OSError: the disk is full or failing; no checkpoint was added or lost.
        """
        self.make_folder()
        path = self.folder / str(manifest.step)
        held: Checkpoint | None = None
        if os.path.lexists(path):
            try:
                held = verify(path)
                if not replace:
                    return held
            except DamagedCheckpoint as error:
                self.set_aside(Damaged(path, str(error)))
        fresh = self.folder / f".{manifest.step}.{os.getpid()}.new"
        started_s = time.monotonic()
        try:
            fresh.mkdir(mode=durable.FOLDER_MODE)
            written = _write_all(fresh, files)
            manifest = msgspec.structs.replace(
                manifest, files=written, write_s=round(time.monotonic() - started_s, 3)
            )
            described = _write(fresh / MANIFEST, msgspec.json.encode(manifest))
            _write(fresh / MANIFEST_SUM, _sum_line(described.sha256))
            durable.sync_folder(fresh)
            if held is None:
                fresh.rename(path)
            elif not durable.exchange(fresh, path):
                shutil.rmtree(fresh)
                return held
        except BaseException:
            shutil.rmtree(fresh, ignore_errors=True)
            raise
        durable.sync_folder(self.folder)
        if held is not None:
            shutil.rmtree(fresh)
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

    def withhold(self, steps: Collection[int]) -> list[int]:
        """Have the checkpoints of `steps` out of the way, whole as they are, and no others.

        One of a newer version stays where it is: whoever looks for the newest is told of it.
        One that was withheld before comes back where it is newer than all others: a younger one
        tells that the run has gone on without it.

        Returns:
            Those that were put out of the way now.

        Raises:
            OSError: one cannot be renamed; it stays where it is.
        """
        withheld = [step for step in sorted(self._steps()) if step in steps and self.is_ours(step)]
        renamed = [(str(step), self.free_name(f"withheld-{step}")) for step in withheld]
        newest = max((step for step in self._steps() if step not in withheld), default=-1)
        before = [
            match
            for name in self._names()
            if (match := _WITHHELD.fullmatch(name)) and self.is_ours(name)
        ]
        # In reverse: of two of the same step the later one comes back.
        for match in sorted(before, key=lambda match: len(match[0]), reverse=True):
            if int(match[1]) > newest and int(match[1]) not in steps:
                newest = int(match[1])
                renamed.append((match[0], match[1]))
        for name, other in renamed:
            (self.folder / name).rename(self.folder / other)
        if renamed:
            durable.sync_folder(self.folder)
        return withheld

    def prune(self, *, proven: int | None = None) -> None:
        """Remove the checkpoints that nobody needs.

        Kept are the newest few, the one of the best score, and the newest of each
        UTC day. A folder whose manifest cannot be read is left for `newest` to
        find.

        Args:
            proven: the step of one that is kept, too: an attempt has gone on from it, which of
                the younger ones nobody knows yet.
        """
        manifests = sorted(self._manifests()[0], key=lambda manifest: manifest.step)
        keep = {manifest.step for manifest in manifests[-KEEP_NEWEST:]} | {proven}
        if manifests:
            keep.add(by_merit(manifests)[0].step)
        # Ascending by step, so that a later checkpoint of the same day replaces an earlier one.
        keep |= set({m.saved_at // DAY_S: m.step for m in manifests}.values())
        for manifest in manifests:
            if manifest.step not in keep:
                self._remove(self.folder / str(manifest.step))
        damaged = [match for name in self._names() if (match := _DAMAGED.fullmatch(name))]
        damaged.sort(key=lambda match: int(match[1]))
        for match in damaged[:-KEEP_DAMAGED]:
            self._remove(self.folder / match[0])

    def thin(self) -> None:
        """Remove all but the newest and the best, of a run that goes on no more.

        Both are read whole before anything goes. What lies beside, since a person has gone back
        behind it, stays until a person deletes it, and what a newer version has written as well.

        Raises:
            NewerFile: a newer version has written the newest; nothing goes.
            OSError: nothing can be read or removed now.
        """
        found = self.newest().checkpoint, self.best().checkpoint
        kept = {one.path.name for one in found if one is not None}
        for text, name in self.named().items():
            if kept and text not in kept and name.aside != "beside" and self.is_ours(text):
                self._remove(self.folder / text)
        self.remove_leftovers()

    def remove_leftovers(self) -> None:
        """Remove what a killed `save` or `prune` left half done."""
        for name in self._names():
            if name.startswith("."):
                self._remove(self.folder / name)

    def is_ours(self, name: int | str) -> bool:
        """Whether no newer version has written the folder of that name."""
        try:
            read_manifest(self.folder / str(name))
        except NewerFile:
            return False
        except (DamagedCheckpoint, OSError):
            pass
        return True

    def make_folder(self) -> None:
        """See to it that there is a folder."""
        if not self.folder.exists():
            durable.make_folder(self.folder)
            durable.sync_folder(self.folder.parent)

    def named(self) -> dict[str, Name]:
        """All checkpoints, by the names of their folders, the oldest first; those aside, too."""
        found = [(text, name) for text in self._names() if (name := Name.of(text)) is not None]
        found.sort(key=lambda one: (one[1].step, one[1].aside is None, one[1].aside, one[1].copy))
        return dict(found)

    def free_name(self, name: str) -> str:
        """`name`, or one that is like it: nothing that lies aside is lost."""
        there = set(self._names())
        return next(
            free
            for more in range(1, 10_000)
            if (free := name if more == 1 else f"{name}-{more}") not in there
        )

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

    def _manifests(self) -> tuple[list[Manifest], list[NewerFile]]:
        """What all checkpoints say of themselves, and those of a newer version."""
        manifests, newer = [], []
        for step in self._steps():
            try:
                manifests.append(read_manifest(self.folder / str(step)))
            except NewerFile as error:
                newer.append(error)
            except (DamagedCheckpoint, OSError):
                continue
        return manifests, newer

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
        NewerFile: a newer version has written it, and knows alone what it must look like.
        DamagedCheckpoint: it is not what its manifest says, or cannot be read.
        OSError: nothing can be read now, for want of memory or of handles.
    """
    try:
        manifest = read_manifest(path)
        for name, expected in manifest.files.items():
            if _digest(path / name, expected.size_bytes) != expected.sha256:
                raise DamagedCheckpoint(f"{name} does not match its checksum")
    except OSError as error:
        if error.errno in EXHAUSTED:
            raise
        raise DamagedCheckpoint(str(error)) from error
    return Checkpoint(path, manifest)


def read_manifest(path: Path) -> Manifest:
    """What the checkpoint at `path` says of itself; its files are not looked at.

    Raises:
        NewerFile: a newer version has written it.
        DamagedCheckpoint: it says nothing that can be believed.
        OSError: it cannot be read.
    """
    if path.is_symlink() or not path.is_dir():
        raise DamagedCheckpoint("not a folder")
    try:
        content = durable.read(path / MANIFEST, MANIFEST_MAX_BYTES)
    except FileNotFoundError as error:
        raise DamagedCheckpoint(f"{MANIFEST} is missing") from error
    as_written = _is_as_written(path, content)
    try:
        manifest = _of_any_version(path, content)
    except NewerFile:
        if _lost_a_field(content, as_written):
            raise DamagedCheckpoint(f"{MANIFEST} does not match its checksum") from None
        raise
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise DamagedCheckpoint(f"{MANIFEST}: {error}") from error
    if as_written is False:
        raise DamagedCheckpoint(f"{MANIFEST} does not match its checksum")
    if (name := Name.of(path.name)) is None or manifest.step != name.step:
        raise DamagedCheckpoint(f"{MANIFEST} speaks of step {manifest.step}")
    if not all(said.is_file_name(name) for name in manifest.files):
        raise DamagedCheckpoint(f"{MANIFEST} names a file that no checkpoint can have")
    size_bytes = sum(file.size_bytes for file in manifest.files.values())
    if len(manifest.files) > FILES_MAX or size_bytes > FILES_MAX_BYTES:
        raise DamagedCheckpoint(f"{MANIFEST} tells of more than any checkpoint holds")
    return manifest


def _of_any_version(path: Path, content: bytes) -> Manifest:
    """The manifest, also of the version before, which knew the mean return of games alone.

    Raises:
        NewerFile: a newer version has written it.
        MsgspecError: it is none; UnicodeDecodeError and RecursionError say the same.
    """
    there = msgspec.json.decode(content)
    if not isinstance(there, dict) or there.get("version", 1) != 1:
        return decode(path, content, Manifest)
    before = msgspec.convert(there, _Before)
    fields = msgspec.structs.asdict(before) | {"version": 2, "score": None}
    mean = fields.pop("return_mean")
    if mean is not None:
        fields["score"] = Score(name="return_mean", value=mean)
    return Manifest(**fields)


def _lost_a_field(manifest: bytes, as_written: bool | None) -> bool:
    """Whether a field is unknown for a flipped bit in its name, which has taken a known one away.

    A newer version may take fields away, too, but then it counts its own up.
    """
    there = msgspec.json.decode(manifest)
    if as_written or there.get("version", 2) != 2:
        return False
    fields = msgspec.structs.fields(Manifest)
    wanted = {field.name for field in fields if field.required or as_written is False}
    files = there["files"].values() if isinstance(there.get("files"), dict) else ()
    return not wanted <= there.keys() or not all(
        isinstance(file, dict) and file.keys() >= set(File.__struct_fields__) for file in files
    )


def _is_as_written(path: Path, manifest: bytes) -> bool | None:
    """Whether the manifest has its checksum; None: an older version has kept none.

    Raises:
        OSError: the checksum is there, and cannot be read.
    """
    try:
        line = durable.read(path / MANIFEST_SUM, 1024)
    except FileNotFoundError:
        return None
    return line == _sum_line(hashlib.sha256(manifest).hexdigest())


def _sum_line(sha256: str) -> bytes:
    return f"{sha256}  {MANIFEST}\n".encode()


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


def _write_all(
    folder: Path, files: Iterable[tuple[str, bytes | memoryview | Path]]
) -> dict[str, File]:
    """Write the files of a checkpoint, one after the other as they are produced."""
    written: dict[str, File] = {}
    size_bytes = 0
    for name, content in files:
        if name in (MANIFEST, MANIFEST_SUM):
            raise said.Misused("a name in save: files", "another: the session writes that", name)
        if name in written:
            raise said.Misused("a name in save: files", "there once", name)
        size_bytes += (
            content.stat().st_size if isinstance(content, Path) else memoryview(content).nbytes
        )
        if len(written) == FILES_MAX or size_bytes > FILES_MAX_BYTES:
            most = f"at most {FILES_MAX} files of {FILES_MAX_BYTES} bytes together"
            raise said.Misused("save: files", most, f"more than that, at {name}")
        put = folder / name
        written[name] = _move(put, content) if isinstance(content, Path) else _write(put, content)
    return written


def _move(path: Path, source: Path) -> File:
    source.rename(path)
    with durable.open_regular(path) as file:
        os.fsync(file.fileno())
        size_bytes = os.fstat(file.fileno()).st_size
        return File(size_bytes=size_bytes, sha256=hashlib.file_digest(file, "sha256").hexdigest())


def _write(path: Path, content: bytes | memoryview) -> File:
    durable.fill(path, content)
    return File(size_bytes=memoryview(content).nbytes, sha256=hashlib.sha256(content).hexdigest())


def by_merit(manifests: Sequence[Manifest]) -> list[Manifest]:
    """The best first: by the score that the newest of them goes by, then the younger ones.

    What has another score, or none, comes last: nobody can tell how good it is.
    """
    scored = [manifest for manifest in manifests if manifest.score is not None]
    newest = max(scored, key=lambda manifest: manifest.step, default=None)
    measure = newest.score if newest is not None else None

    def merit(manifest: Manifest) -> tuple[float, int]:
        score = manifest.score
        if score is None or score.value is None or measure is None or score.name != measure.name:
            return -math.inf, manifest.step
        return score.value if measure.better == "higher" else -score.value, manifest.step

    return sorted(manifests, key=merit, reverse=True)
