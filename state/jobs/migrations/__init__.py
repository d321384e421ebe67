"""How the tables of the job store become those of this version, in one transaction.

It imports alembic, so it is meant for a process of its own.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory

from state.jobs.database import DamagedStore, Database, StoreTrouble
from trainers.durable import sync_folder

LOCK = 0x6A6F6273
"""of PostgreSQL's advisory locks: the word `jobs`"""


def scripts() -> ScriptDirectory:
    """All revisions that there are."""
    return ScriptDirectory.from_config(_config())


def revision(url: str) -> str | None:
    """Of the tables that are there; None: there are none.

    Raises:
        StoreError: it does not serve, is damaged, or a newer version's.
    """
    with contextlib.closing(Database(url)) as database:
        if database.path is not None and not os.path.lexists(database.path):
            return None
        database.expect_file()
        with database.reading() as connection:
            return database.revision(connection)


def migrate(url: str, to: str = "head") -> None:
    """Make the store, or bring it up to this version; done again, nothing happens.

    Cut off at any moment it leaves what was there before, and no file where none was.

    Raises:
        StoreError: it does not serve, is damaged, or a newer version's; it is as it was.
    """
    with contextlib.closing(Database(url)) as database:
        path = database.path
        if path is None:
            _upgrade(database, to)
            return
        try:
            if not os.path.lexists(path):
                _make(url, path, to)
        except OSError as error:
            raise StoreTrouble(database.shown, str(error.strerror)) from None
        database.expect_file()
        with database.reading() as connection:
            problem = connection.exec_driver_sql("PRAGMA quick_check(1)").scalar()
        if problem != "ok":
            raise DamagedStore(database.shown, str(problem))
        _upgrade(database, to)


def _make(url: str, path: Path, to: str) -> None:
    """A file that appears whole: an empty one is what is left of a damaged one, and no store."""
    fresh = path.with_name(f".{path.name}.new")
    with _locked(fresh):
        if os.path.lexists(path):
            return
        with contextlib.closing(Database(url, file=fresh)) as database:
            _upgrade(database, to)
        with fresh.open("rb") as file:
            os.fsync(file.fileno())
        fresh.rename(path)
        sync_folder(path.parent)


@contextlib.contextmanager
def _locked(fresh: Path) -> Iterator[None]:
    """An empty file for its owner alone, which no other process fills at the same time."""
    while True:
        handle = os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            if _is_at(fresh, handle):
                os.ftruncate(handle, 0)
                fresh.with_name(f"{fresh.name}-journal").unlink(missing_ok=True)
                yield
                return
        finally:
            if _is_at(fresh, handle):
                fresh.unlink()
            os.close(handle)


def _is_at(path: Path, handle: int) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), path.lstat())
    except FileNotFoundError:
        return False


def _upgrade(database: Database, to: str) -> None:
    with database.writing(long=True) as connection:
        if database.path is None:
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(LOCK)))
        database.revision(connection)
        config = _config()
        config.attributes["connection"] = connection
        command.upgrade(config, to)


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    return config
