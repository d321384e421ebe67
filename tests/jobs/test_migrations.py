"""How a store comes to be, and how one of another version is met."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import stat
import threading

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from state.jobs import tables
from state.jobs.database import (
    DamagedStore,
    Database,
    ForeignStore,
    NewerStore,
    NotMigrated,
    url_of_home,
)
from state.jobs.migrations import migrate, revision, scripts
from state.jobs.records import NewJob, Which
from state.jobs.store import JobStore

REVISIONS = [one.revision for one in scripts().walk_revisions()][::-1]


@contextlib.contextmanager
def writing(url):
    with contextlib.closing(Database(url)) as database, database.writing() as connection:
        yield connection


def files(home):
    return sorted(path.name for path in home.iterdir())


def test_the_tables_know_the_newest_revision():
    """They say it themselves: who only uses a store imports no alembic."""
    assert [scripts().get_current_head()] == scripts().get_heads() == [tables.REVISION]
    assert sorted(REVISIONS) == REVISIONS


@pytest.mark.parametrize("begin", [None, *REVISIONS])
def test_from_each_revision_on_the_tables_are_those_of_this_version(empty, begin):
    """None is missing, none is left, and each column is what it should be."""
    if begin is not None:
        migrate(empty, to=begin)
        assert revision(empty) == begin
    else:
        assert revision(empty) is None
    migrate(empty)
    migrate(empty)
    assert revision(empty) == tables.REVISION
    with writing(empty) as connection:
        options = {"compare_type": True, "version_table": tables.REVISION_TABLE}
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, tables.metadata) == []


def test_a_store_of_two_processes_is_made_once(empty):
    """Whoever comes second finds it done."""
    both = [threading.Thread(target=migrate, args=(empty,)) for _ in range(4)]
    for one in both:
        one.start()
    for one in both:
        one.join()
    store = JobStore(empty)
    assert store.create(NewJob(tenant_id="a", config={})).number == 1
    store.close()


def test_a_store_is_its_owners_alone(home):
    """Whatever the umask, and whatever SQLite puts beside it."""
    usual = os.umask(0)
    try:
        migrate(url_of_home(home))
        store = JobStore(url_of_home(home))
        store.create(NewJob(tenant_id="a", config={}))
    finally:
        os.umask(usual)
    assert files(home) == ["jobs.db", "jobs.db-shm", "jobs.db-wal"]
    assert {stat.S_IMODE(path.stat().st_mode) for path in home.iterdir()} == {0o600}
    store.close()


def test_a_migration_that_is_cut_off_has_not_happened(empty):
    """Or it has, as a whole: killed before any statement, it works the next time."""
    at = 0
    done = False
    while not done:
        pid = os.fork()
        if pid == 0:
            _migrate_up_to(empty, at)
        _, status = os.waitpid(pid, 0)
        done = status == 0
        assert done or os.WIFSIGNALED(status)
        assert done or revision(empty) in (None, tables.REVISION)
        at += 4
    assert at > 20
    assert revision(empty) == tables.REVISION
    store = JobStore(empty)
    assert store.find(Which()).total == 0
    store.close()


def _migrate_up_to(url, at):
    """Migrate, and be killed before that statement; for a process of its own."""
    count = 0

    def kill(*given):
        nonlocal count
        if count == at:
            os.kill(os.getpid(), signal.SIGKILL)
        count += 1

    sa.event.listen(sa.Engine, "before_cursor_execute", kill)
    try:
        migrate(url)
        os._exit(0)
    finally:
        os._exit(9)


def test_a_store_that_is_not_there_is_not_made_by_looking(empty, home):
    """It is told how one is made."""
    with pytest.raises(NotMigrated, match="supervisor jobs migrate"):
        JobStore(empty)
    assert files(home) == []


def test_an_older_store_is_not_used_before_it_is_migrated(url):
    """Whoever uses it brings no tables up to date."""
    with writing(url) as connection:
        connection.execute(sa.text("UPDATE job_store_revision SET version_num = '0000'"))
    with pytest.raises(NotMigrated, match=r"old revision 0000.*supervisor jobs migrate"):
        JobStore(url)


def test_a_newer_store_is_refused_and_left(url):
    """By whoever uses it, and by whoever would migrate it."""
    with writing(url) as connection:
        connection.execute(sa.text("UPDATE job_store_revision SET version_num = '0999'"))
    for act in (JobStore, migrate, revision):
        with pytest.raises(NewerStore, match="0999"):
            act(url)
    with writing(url) as connection:
        found = connection.scalar(sa.text("SELECT version_num FROM job_store_revision"))
        assert found == "0999"


def test_another_programs_tables_are_left(empty):
    """A store has a place of its own."""
    if empty.startswith("sqlite"):
        Database(empty).path.touch()
        with pytest.raises(DamagedStore, match="empty"):
            migrate(empty)
        Database(empty).path.write_bytes(b"")
        with contextlib.closing(sqlite3.connect(Database(empty).path)) as connection:
            connection.execute("CREATE TABLE jobs (name TEXT)")
    else:
        with writing(empty) as connection:
            connection.execute(sa.text("CREATE TABLE jobs (name TEXT)"))
    with pytest.raises(ForeignStore, match="of its own"):
        migrate(empty)
    with pytest.raises(ForeignStore, match="of its own"):
        JobStore(empty)
    with writing(empty) as connection:
        assert sa.inspect(connection).get_table_names() == ["jobs"]
