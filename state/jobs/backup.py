"""Backups of a job store: whole or absent, taken while it is used, restored into either store.

That of SQLite is a file of SQLite, that of PostgreSQL lines of JSON. What is restored first becomes
a store of its own in a file, which is brought up to this version; so old backups stay good.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import sqlalchemy as sa

from state.jobs import tables
from state.jobs.database import DamagedStore, Database, NewerStore, StoreError, StoreTrouble
from state.jobs.migrations import migrate
from trainers.durable import sync_folder

ROWS_AT_ONCE = 500
SQLITE = b"SQLite format 3\0"
"""how each file of SQLite begins"""
HEAD_BYTES = 100
"""of what such a file says of itself"""


class BackupExists(StoreError):
    """A file of that name is there; no backup is written over another."""

    exit_code = 2
    http_status = 409

    def __init__(self, path: Path) -> None:
        super().__init__(f"{path} is there already: name another file")


class NoBackup(StoreError):
    """A file that is no backup, or not all of one."""

    exit_code = 2
    http_status = 422

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(f"{path} is no whole backup of a job store: {why}; nothing was restored")


class _Head(msgspec.Struct, frozen=True, tag="job_store", tag_field="kind"):
    revision: str


class _Row(msgspec.Struct, frozen=True, tag="row", tag_field="kind"):
    table: str
    row: dict[str, Any]


class _End(msgspec.Struct, frozen=True, tag="end", tag_field="kind"):
    rows: int


_Line = _Head | _Row | _End


def back_up(url: str, path: Path) -> None:
    """Write down all of a store as it is at one moment, whoever writes to it meanwhile.

    Raises:
        StoreError: the store does not serve or is damaged, or such a file is there.
    """
    if os.path.lexists(path):
        raise BackupExists(path)
    fresh = path.with_name(f".{path.name}.new")
    with contextlib.closing(Database(url)) as database:
        database.expect()
        try:
            fresh.unlink(missing_ok=True)
            handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            try:
                with os.fdopen(handle, "wb") as file:
                    if database.path is None:
                        for line in _lines(database):
                            file.write(msgspec.json.encode(line) + b"\n")
                        file.flush()
                    else:
                        _copy(database, database.path, fresh)
                    os.fsync(file.fileno())
                os.link(fresh, path)  # unlike a rename, over nothing
            finally:
                fresh.unlink(missing_ok=True)
            sync_folder(path.parent)
        except FileExistsError:
            raise BackupExists(path) from None
        except OSError as error:
            raise StoreTrouble(str(path), str(error.strerror)) from None
        except sqlite3.Error as error:
            raise StoreTrouble(database.shown, str(error)) from None


def restore(url: str, path: Path) -> None:
    """Put a backup in the place of all that a store holds, in one transaction.

    The store has a new epoch then: what its claims say is to be compared with their homes. Whoever
    uses the store meanwhile sees the one or the other.

    Raises:
        StoreError: the store does not serve, or the file is no backup; nothing has changed.
    """
    with tempfile.TemporaryDirectory(prefix="restore-") as folder:
        copy = Path(folder) / "jobs.db"
        _unpack(path, copy)
        with (
            contextlib.closing(Database(_url(copy))) as source,
            contextlib.closing(Database(url)) as target,
        ):
            target.expect()
            with source.reading() as old, target.writing(long=True) as new:
                _replace(old, new)


def _copy(database: Database, source: Path, fresh: Path) -> None:
    with (
        contextlib.closing(sqlite3.connect(source)) as old,
        contextlib.closing(sqlite3.connect(fresh)) as new,
    ):
        old.backup(new)
        # One file that needs no other beside it.
        new.execute("PRAGMA journal_mode = DELETE")
        (problem,) = new.execute("PRAGMA quick_check(1)").fetchone()
        if problem != "ok":
            raise DamagedStore(database.shown, problem)


def _lines(database: Database) -> Iterator[_Line]:
    yield _Head(tables.REVISION)
    written = 0
    with database.reading(long=True) as connection:
        streamed = connection.execution_options(stream_results=True, yield_per=ROWS_AT_ONCE)
        for table in tables.metadata.sorted_tables:
            for row in streamed.execute(table.select()).mappings():
                written += 1
                yield _Row(str(table.name), {str(name): value for name, value in row.items()})
    yield _End(written)


def _unpack(path: Path, copy: Path) -> None:
    """A backup as a store of this version.

    Raises:
        StoreError: it is none.
    """
    try:
        with path.open("rb") as file:
            if (head := file.read(HEAD_BYTES)).startswith(SQLITE):
                # SQLite itself misses no end that holds an index, or nothing any more.
                if path.stat().st_size < _size_bytes(head):
                    raise NoBackup(path, "its end is missing")
                shutil.copyfile(path, copy)
            else:
                file.seek(0)
                _fill(path, file, copy)
    except OSError as error:
        raise NoBackup(path, str(error.strerror)) from None
    except (msgspec.MsgspecError, UnicodeDecodeError, sa.exc.SQLAlchemyError) as error:
        raise NoBackup(path, str(error).splitlines()[0]) from None
    try:
        migrate(_url(copy))
        with contextlib.closing(Database(_url(copy))) as database:
            database.expect()
    except DamagedStore:
        raise NoBackup(path, "it is damaged") from None
    except NewerStore:
        raise NoBackup(path, "a newer version has written it") from None


def _fill(path: Path, lines: Iterator[bytes], copy: Path) -> None:
    """Lines of JSON as a store of the revision that they are of."""
    decode = msgspec.json.Decoder(_Line).decode
    head = decode(next(lines, b""))
    if not isinstance(head, _Head):
        raise NoBackup(path, "it has no head")
    if head.revision > tables.REVISION:
        raise NoBackup(path, "a newer version has written it")
    migrate(_url(copy), to=head.revision)
    with contextlib.closing(Database(_url(copy))) as database, database.writing() as connection:
        there = sa.MetaData()
        there.reflect(connection)
        connection.execute(there.tables["store"].delete())
        read, end = 0, None
        for raw in lines:
            line = decode(raw)
            if isinstance(line, _Row) and line.table in there.tables and end is None:
                connection.execute(there.tables[line.table].insert().values(line.row))
                read += 1
            elif isinstance(line, _End):
                end = line.rows
            else:
                raise NoBackup(path, "it has lines of other things")
        if end != read:
            raise NoBackup(path, "its end is missing")


def _replace(old: sa.Connection, new: sa.Connection) -> None:
    newest = tables.store.c.sequence
    # First, and not last as elsewhere: nobody else writes until all of it is there.
    locked = sa.select(newest).with_for_update()
    last = max(new.execute(locked).scalar_one(), old.execute(sa.select(newest)).scalar_one())
    for table in reversed(tables.metadata.sorted_tables):
        new.execute(table.delete())
    for table in tables.metadata.sorted_tables:
        found = old.execute(table.select()).mappings()
        for part in found.partitions(ROWS_AT_ONCE):
            new.execute(table.insert(), [dict(row) for row in part])
    # Numbers that somebody has seen are not given again.
    new.execute(tables.store.update().values(epoch=uuid.uuid4().hex, sequence=last))


def _size_bytes(head: bytes) -> int:
    """Of a whole file of SQLite, by its head, in which pages of 64 KiB are told as 1."""
    page_bytes, pages = int.from_bytes(head[16:18]), int.from_bytes(head[28:32])
    return (65536 if page_bytes == 1 else page_bytes) * pages


def _url(path: Path) -> str:
    return sa.URL.create("sqlite", database=str(path)).render_as_string()
