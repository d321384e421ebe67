"""The memory on disk: one small TinyDB file, and the last good generation beside it.

Stock TinyDB writes in place: a `kill -9` in a burst of writes leaves an
unreadable file, and an empty one reads as an empty database. Here a file is
whole or it is damaged, and the seal over its content tells which.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Mapping
from operator import is_
from pathlib import Path
from typing import Any, NamedTuple, cast

import msgspec
from tinydb import TinyDB
from tinydb.middlewares import CachingMiddleware
from tinydb.storages import Storage

from state.archive import ARCHIVE, Archive
from state.migrations import MIGRATIONS
from state.records import SCHEMA_VERSION, Memory
from trainers import durable

LEARNT = ("ledger", "stretch", "outage", "bookings")
"""parts of the memory whose form another `LEDGER_VERSION` may have changed"""

BLOCK = 128
"""rows of a table that are encoded together"""
DAMAGED_KEPT = 3
"""how many damaged files are kept for a person to look at"""

Tables = dict[str, dict[str, Any]]


class DamagedState(Exception):
    """A state file that exists and is not what was written."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(f"{path.name}: {why}")


class NewerState(Exception):
    """A state that a newer version wrote: this one must not touch it."""

    exit_code = 78  # EX_CONFIG

    def __init__(self, path: Path, schema: int) -> None:
        super().__init__(
            f"{path} has schema {schema}, this version knows up to {SCHEMA_VERSION}: "
            "install the newer version again, or move the file away to start anew"
        )


class Block(NamedTuple):
    """Some rows of a table, one after the other."""

    rows: tuple[msgspec.Struct, ...]
    content: bytes
    """what they are in the file"""

    def holds(self, rows: tuple[msgspec.Struct, ...]) -> bool:
        """Whether these very rows are in it."""
        return len(self.rows) == len(rows) and all(map(is_, self.rows, rows))


class AtomicStorage(Storage):
    """TinyDB's tables in a sealed JSON file that is replaced at once."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> Tables | None:
        """The tables, or None where there is no file.

        Raises:
            DamagedState: the file is not what was written.
            OSError: the disk or the rights forbid reading it; that is no damage.
        """
        try:
            tables = msgspec.json.decode(durable.read(self._path))
        except FileNotFoundError:
            return None
        except (
            durable.UnreadableFile,
            msgspec.DecodeError,
            UnicodeDecodeError,
            RecursionError,
        ) as error:
            raise DamagedState(self._path, str(error)) from error
        if not isinstance(tables, dict) or "seal" not in tables:
            raise DamagedState(self._path, "it has no seal")
        seal = tables.pop("seal")
        written = msgspec.json.encode(tables, order="deterministic")
        if seal != _seal(written) and seal != _first_seal(written):
            raise DamagedState(self._path, "the seal does not fit the content")
        return tables

    def write(self, data: Mapping[str, Any]) -> None:
        """Replace the file, keeping the one before as the last good generation.

        Args:
            data: the tables. What is encoded in them already has sorted keys, as the seal wants.

        Raises:
            OSError: the disk is full or read-only; the file is as it was.
        """
        seal = _seal(msgspec.json.encode(data, order="deterministic"))
        content = msgspec.json.encode({**data, "seal": seal})
        fresh = self._path.with_name(f".{self._path.name}.new")
        durable.fill(fresh, content)
        if os.path.lexists(self._path):
            # A second name, not a move: at no moment is there no state file.
            link = self._path.with_suffix(".link")
            link.unlink(missing_ok=True)
            os.link(self._path, link, follow_symlinks=False)
            link.replace(last_good(self._path))
        fresh.replace(self._path)
        durable.sync_folder(self._path.parent)


class Store:
    """Loads and saves the memory. Only the daemon saves.

    Args:
        path: the state file. What has left the memory lies beside it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.archive = Archive(path.with_name(ARCHIVE))
        self._blocks: dict[str, list[Block]] = {}
        """each table as it was saved last"""

    def load(self) -> tuple[Memory | None, tuple[str, ...]]:
        """The newest good memory, and what was wrong with newer ones.

        None without trouble means a first day; None with trouble means that
        history is lost. Damaged files are moved aside, never deleted at once.

        Raises:
            NewerState: a newer version wrote it.
            OSError: the disk or the rights forbid reading it.
        """
        memory, trouble, damaged = self._newest()
        for path in damaged:
            self._set_aside(path)
        return memory, trouble

    def peek(self) -> tuple[Memory | None, tuple[str, ...]]:
        """As `load`, changing nothing: for readers beside the daemon."""
        return self._newest()[:2]

    def save(self, memory: Memory) -> None:
        """Make `memory` the one that the next start will load.

        Raises:
            OSError: the disk is full or read-only; the saved memory is as it was.
        """
        rest = msgspec.structs.replace(memory, runs=(), boots=())
        # All tables in one write: a reader never sees the runs of one save beside the
        # goal of another. They are encoded here, since nearly all runs are as they were at
        # the save before, and a queue may be very long.
        tables = {"boots": memory.boots, "memory": (rest,), "runs": memory.runs}
        AtomicStorage(self._path).write(
            {name: self._encoded(name, rows) for name, rows in tables.items()}
        )

    def _encoded(self, name: str, rows: tuple[msgspec.Struct, ...]) -> msgspec.Raw:
        """A table as it stands in the file; rows that were saved before are not encoded again."""
        known, self._blocks[name] = self._blocks.get(name, []), []
        for first in range(0, len(rows), BLOCK):
            block = Block(rows[first : first + BLOCK], b"")
            before = known.pop(0) if known else block
            if before is block or not block.holds(before.rows):
                lines = (
                    b'"%07d":%b' % (number, msgspec.json.encode(row, order="sorted"))
                    for number, row in enumerate(block.rows, first + 1)
                )
                before = Block(block.rows, b",".join(lines))
            self._blocks[name].append(before)
        return msgspec.Raw(b"{%b}" % b",".join(block.content for block in self._blocks[name]))

    def back_up(self, name: str) -> Path | None:
        """Copy the state file beside itself as `name`; None where there is none."""
        try:
            content = durable.read(self._path)
        except FileNotFoundError:
            return None
        copy = self._path.with_name(name)
        durable.write(copy, content)
        return copy

    def _newest(self) -> tuple[Memory | None, tuple[str, ...], list[Path]]:
        trouble: list[str] = []
        damaged: list[Path] = []
        for path in (self._path, last_good(self._path)):
            try:
                memory = _read(path)
            except DamagedState as error:
                trouble.append(str(error))
                damaged.append(path)
                continue
            if memory is None:
                continue
            if path != self._path:
                trouble.append(f"going on from the last good generation, {path.name}")
            return memory, tuple(trouble), damaged
        if trouble:
            trouble.append("no good generation is left: history is lost")
        return None, tuple(trouble), damaged

    def _set_aside(self, path: Path) -> None:
        for age in range(DAMAGED_KEPT - 1, 0, -1):
            newer = self._path.with_suffix(f".damaged-{age}")
            if os.path.lexists(newer):
                newer.replace(self._path.with_suffix(f".damaged-{age + 1}"))
        path.replace(self._path.with_suffix(".damaged-1"))


def _at_once(path: Path) -> Storage:
    """A storage that reads once and writes once: no table is of another save than the rest."""
    cached = CachingMiddleware(AtomicStorage)  # type: ignore[no-untyped-call]  # as shipped
    return cast("Storage", cached(path))


def last_good(path: Path) -> Path:
    """Where the generation before that of `path` lies."""
    return path.with_suffix(".last.json")


def _read(path: Path) -> Memory | None:
    with TinyDB(path, storage=_at_once) as tables:
        rows = [dict(row) for row in tables.table("memory").all()]
        if not rows:
            if path.exists():
                raise DamagedState(path, "no memory stands in it")
            return None
        row = rows[0]
        row["boots"] = [dict(boot) for boot in tables.table("boots").all()]
        row["runs"] = [dict(run) for run in tables.table("runs").all()]
    schema = row.get("schema")
    if not isinstance(schema, int):
        raise DamagedState(path, "it has no schema version")
    if schema > SCHEMA_VERSION:
        raise NewerState(path, schema)
    try:
        for version in range(schema, SCHEMA_VERSION):
            row = MIGRATIONS[version](row)
        return _converted(row)
    except (KeyError, msgspec.ValidationError) as error:
        raise DamagedState(path, f"not a memory: {error}") from error


def _converted(row: dict[str, Any]) -> Memory:
    """The memory in `row`, if need be without what has been learnt: nothing else depends on it."""
    row = {"ledger": {"version": 0}} | row  # a program that keeps none has dropped it
    try:
        return msgspec.convert(row, Memory)
    except msgspec.ValidationError:
        rest = {key: value for key, value in row.items() if key not in LEARNT}
        return msgspec.convert({**rest, "ledger": {"version": 0}}, Memory)


def _seal(content: bytes) -> dict[str, dict[str, str]]:
    """The seal over sorted tables: a table of one row, so that stock TinyDB can open the file.

    It tells damage, not forgery: whoever can write the file can seal it. So a CRC is enough, and
    no hash of OpenSSL, whose library would be the largest thing in the daemon's memory.
    """
    return {"1": {"crc32": f"{zlib.crc32(content):08x}"}}


def _first_seal(content: bytes) -> dict[str, dict[str, str]]:
    """The seal of the first state files, which a home may still hold."""
    import hashlib  # noqa: PLC0415 - only for a file with such a seal, or a damaged one

    return {"1": {"sha256": hashlib.sha256(content).hexdigest()}}
