"""A checkpoint from elsewhere becomes one of a run, whole, and without running code from it.

It is looked at, cloned, and kept as every checkpoint is: complete or absent. What it comes from is
left as it is.
"""

from __future__ import annotations

import math
import os
import shutil
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path

import msgspec

from trainers import attempt, durable, registry, said
from trainers.checkpoint import (
    FILES_MAX,
    MANIFEST,
    Checkpoints,
    DamagedCheckpoint,
    Manifest,
    verify,
)
from trainers.contract import BadSpec, Brought, Refused, RunFolder, Score, Spec
from trainers.registry import Imported
from trainers.rewind import go_back
from trainers.sinks import wall_time_s

STAGING = ".imported"
"""where copies lie until they are a checkpoint; what a kill leaves goes with other leftovers"""
HEADER_MAX_BYTES = 100_000_000
"""of a file of safetensors, as that format has it"""
PICKLE = b"\x80"
"""how pickles begin, of protocol 2 and later"""


class CannotImport(Refused):
    """What somebody wants to import is not to be used, or not here."""


def bring(
    path: Path,
    trainer: str,
    asked: Path | None,
    source: Path,
    *,
    step: int | None,
    score: str | None,
) -> Brought:
    """Make what lies at `source` a checkpoint of the run in `path`.

    Args:
        path: the run's folder; made where there is none yet.
        trainer: its name.
        asked: a file with the spec that it is to have, as things stand; None: it has one.
        source: a file or a folder.
        step: where the run is then; None: as the source says.
        score: NAME=VALUE; None: nothing is known.

    Raises:
        CannotImport: it is damaged, or no checkpoint of this trainer, or the run is further.
        BadSpec: the run can never train, or not from there, or its trainer imports nothing.
        CannotLock: the run trains.
        OSError: it cannot be read, or not be kept; nothing has changed.
    """
    spec = attempt.check(path, trainer, asked)
    source = source.absolute()
    files = look(source)
    before = _stamps(files)
    known, brought = _understood(spec, trainer, source)
    step = brought.step if step is None else step
    if step is None:
        raise CannotImport(f"nothing tells at which step {source.name} was saved: say --step N")
    measured = brought.score if score is None else _score(score, brought.score)
    manifest = msgspec.structs.replace(
        known,
        step=said.count("--step", step),
        score=None if measured is None or measured.value is None else measured,
    )
    durable.make_folder(path)
    folder = RunFolder(path.absolute())
    with attempt.locked(folder):
        kept = _keep(attempt.open_folder(path), spec, manifest, brought, files, before)
    return Brought(
        run=spec.run,
        step=kept.step,
        files=len(kept.files),
        size_bytes=sum(file.size_bytes for file in kept.files.values()),
        score=kept.score,
        remarks=brought.remarks,
    )


def _understood(spec: Spec, trainer: str, source: Path) -> tuple[Manifest, Imported]:
    """What the source is: a checkpoint of ours, or something that the trainer knows."""
    blank = Manifest(
        run=spec.run, trainer=trainer, mode=spec.mode, step=0, episodes=0, saved_at=wall_time_s()
    )
    if (source / MANIFEST).exists():
        try:
            ours = verify(source).manifest
        except DamagedCheckpoint as error:
            raise CannotImport(f"the checkpoint {source} is damaged: {error}") from error
        if ours.trainer != trainer:
            raise CannotImport(
                f"{source} is a checkpoint of the trainer {ours.trainer!r}, and {spec.run} is "
                f"trained by {trainer!r}"
            )
        attempt.see_fit(spec, source)
        files = [(name, source / name) for name in ours.files]
        known = msgspec.structs.replace(ours, run=spec.run)
        return known, Imported(files=files, step=ours.step, score=ours.score)
    function = getattr(registry.load(trainer), "import_checkpoint", None)
    if function is None:
        raise BadSpec(
            f"the trainer {trainer!r} cannot import what it has not saved itself; it takes a "
            "checkpoint of another run of its own: a folder runs/RUN/checkpoints/STEP"
        )
    brought: Imported = function(spec, source)
    remarks = (*brought.remarks, *remarks_on(look(source)))
    brought = brought._replace(remarks=remarks)
    return msgspec.structs.replace(blank, episodes=brought.episodes), brought


def _keep(
    folder: RunFolder,
    spec: Spec,
    manifest: Manifest,
    brought: Imported,
    source: dict[Path, os.stat_result],
    before: dict[Path, tuple[int, ...]],
) -> Manifest:
    """Clone what is to be kept, and make a checkpoint of it; the lock is held."""
    checkpoints = Checkpoints(folder.checkpoints)
    go_back(checkpoints, spec.rewind)  # as the next attempt would
    there = max((one.step for one in checkpoints.named().values() if one.aside is None), default=-1)
    if there >= manifest.step:
        raise CannotImport(
            f"{spec.run} has a checkpoint of step {there} already, and this one is of step "
            f"{manifest.step}: while the supervisor runs, `supervisor pause`, `supervisor rewind "
            f"{spec.run} 0`, and then this"
        )
    checkpoints.make_folder()
    staging = checkpoints.folder / STAGING
    shutil.rmtree(staging, ignore_errors=True)
    durable.make_folder(staging)
    try:

        def staged() -> Iterator[tuple[str, bytes | memoryview | Path]]:
            for name, content in said.files("import_checkpoint: files", brought.files):
                if isinstance(content, Path):
                    durable.clone(content, staging / name)
                    yield name, staging / name
                else:
                    yield name, content
            if _stamps({path: path.lstat() for path in source}) != before:
                raise CannotImport("it is being written to: import it once that is over")

        return checkpoints.save(manifest, staged()).manifest
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def look(source: Path) -> dict[Path, os.stat_result]:
    """The files of a source, each regular and none empty.

    Raises:
        CannotImport: there is something else, or nothing, or too many.
        OSError: it cannot be read.
    """
    try:
        found = dict(islice(_below(source), FILES_MAX))
    except FileNotFoundError as error:
        raise CannotImport(f"there is no {error.filename}") from error
    except RecursionError:
        raise CannotImport(f"{source} has folders in folders beyond all measure") from None
    if not found:
        raise CannotImport(f"{source} holds no file")
    if len(found) >= FILES_MAX:
        raise CannotImport(f"{source} has more than {FILES_MAX - 1} files")
    if not any(status.st_size for status in found.values()):
        raise CannotImport(f"{source} is empty")
    return found


def _below(path: Path) -> Iterator[tuple[Path, os.stat_result]]:
    status = path.lstat()
    if stat.S_ISREG(status.st_mode):
        yield path, status
    elif stat.S_ISDIR(status.st_mode):
        for one in sorted(path.iterdir()):
            yield from _below(one)
    else:
        kind = "a link" if stat.S_ISLNK(status.st_mode) else "no regular file"
        raise CannotImport(f"{path} is {kind}: copy what is meant into its place")


def _stamps(files: dict[Path, os.stat_result]) -> dict[Path, tuple[int, ...]]:
    return {path: (it.st_ino, it.st_size, it.st_mtime_ns) for path, it in files.items()}


def remarks_on(files: dict[Path, os.stat_result]) -> tuple[str, ...]:
    """What can be told of files without running code from them, where it is no trouble.

    Raises:
        CannotImport: one is damaged.
        OSError: one cannot be read.
    """
    remarks = []
    for path in files:
        with durable.open_regular(path) as file:
            begins = file.read(4)
        if zipfile.is_zipfile(path) or begins == b"PK\x03\x04":
            _see_zip(path)
        elif path.suffix == ".safetensors":
            _see_safetensors(path)
        elif begins.startswith(PICKLE):
            remarks.append(_remark_on_pickle(path))
    return tuple(remarks)


def _see_zip(path: Path) -> None:
    """See that a zip is whole: those that torch and Stable-Baselines3 write have checksums."""
    try:
        with closing(zipfile.ZipFile(path)) as archive:
            bad = archive.testzip()
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise CannotImport(f"{path} is a damaged zip: {error}") from error
    if bad is not None:
        raise CannotImport(f"{path} is a damaged zip: {bad} does not match its checksum")


def _see_safetensors(path: Path) -> None:
    """See that a file of safetensors is as long as its header says."""
    with durable.open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        try:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > min(HEADER_MAX_BYTES, size - 8):
                raise ValueError("its header is longer than it")
            header = msgspec.json.decode(file.read(length), type=dict[str, _Tensor])
        except (struct.error, ValueError) as error:
            raise CannotImport(f"{path} is a damaged file of safetensors: {error}") from error
    ends = max((it.data_offsets[1] for it in header.values() if it.data_offsets), default=0)
    if 8 + length + ends != size:
        raise CannotImport(f"{path} is damaged: it is not as long as its header says")


class _Tensor(msgspec.Struct):
    """What a header of safetensors says of one."""

    data_offsets: tuple[int, int] | None = None


def _remark_on_pickle(path: Path) -> str:
    return (
        f"{path.name} is a pickle, which nobody can look into without running code from it: it is "
        "taken as it is"
    )


def _score(text: str, measure: Score | None) -> Score:
    """The score that a person names, in the direction of what the trainer measures.

    Raises:
        CannotImport: it is none, or not what the checkpoints of the run are compared by.
    """
    name, _, number = text.partition("=")
    try:
        value = float(number)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise CannotImport(f"--score is NAME=VALUE, such as loss=0.25, and not {text!r}")
    if measure is not None and measure.name != name:
        raise CannotImport(f"the checkpoints of this run are compared by {measure.name!r}")
    better = "higher" if measure is None else measure.better
    return said.score("--score", Score(name=name, value=value, better=better))
