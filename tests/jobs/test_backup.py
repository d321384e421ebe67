"""Backups: whole or absent, and restored into either store."""

from __future__ import annotations

import contextlib
import itertools
import stat

import pytest

from state.jobs import tables
from state.jobs.backup import BackupExists, NoBackup, back_up, restore
from state.jobs.database import DamagedStore, Database, url_of_home
from state.jobs.migrations import migrate
from state.jobs.records import Ending, Foretold, Model, NewJob, Once, Patch, Schedule, Seen, Which
from state.jobs.store import JobStore

NUMBERS = itertools.count()


@pytest.fixture(params=["sqlite", "postgresql"])
def other(request, home):
    """The URL of another store, of both kinds."""
    if request.param == "postgresql":
        url = request.getfixturevalue("server").create_schema(f"other_{next(NUMBERS)}")
    else:
        (home / "other").mkdir()
        url = url_of_home(home / "other")
    migrate(url)
    return url


def a_job(**fields):
    return NewJob(tenant_id="acme-corp", config={"größe": [1, None]}, **fields)


def fill(store):
    """Something in each table."""
    once = Once(tenant_id="acme-corp", route="POST", key="k", body_sha256="b")
    done = store.create(a_job(model_name="load"), once=once, answer=lambda job: job.job_id)
    times = {"at": store.now().at, "eta_s": 1.5, "eta_p90_s": 3.0, "plain_p90_s": 2.0}
    store.foretell([Foretold(job_id=done.job_id, tenant_id="acme-corp", **times)])
    claim = store.claim(done.job_id, "home-a").claim
    seen = Seen(status="RUNNING", attempt=1, used_s=5, metrics={"a": 1}, history=((1, {"a": 1}),))
    store.mirror(done.job_id, claim.token, seen)
    store.finish(done.job_id, claim.token, Ending(status="COMPLETED", model=Model(sha256="x")))
    parent = store.create(a_job(schedule=Schedule(cron="0 2 * * 0")))
    store.fire(parent.job_id, 7)
    living = store.create(a_job())
    store.patch(living.job_id, Patch(paused=True))
    return store.claim(store.create(a_job()).job_id, "home-a")


def content(url):
    """All rows of a store, but for what each store has of its own."""
    with contextlib.closing(Database(url)) as database, database.reading() as connection:
        return {
            table.name: sorted(map(repr, connection.execute(table.select())))
            for table in tables.metadata.sorted_tables
            if table.name != "store"
        }


def test_a_backup_is_restored_into_either_store(url, store, other, home):
    """Each row is there, the epoch is another, and it goes on from there."""
    claimed = fill(store)
    epoch = store.now().epoch
    path = home / "backup"
    back_up(url, path)
    kept = content(url)
    assert all(kept.values()), "there is something in each table"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    target = JobStore(other)
    target.create(a_job())
    before = target.now().epoch
    restore(other, path)
    assert content(other) == kept
    assert target.now().epoch not in (epoch, before)
    token = claimed.claim.token
    assert target.mirror(claimed.job_id, token, Seen(status="RUNNING", attempt=1)) is not None
    newest = max(event.sequence for event in target.events(0))
    assert target.create(a_job()).number == newest + 1
    target.close()


def test_what_is_restored_into_a_living_store_gives_no_number_twice(url, store, home):
    """Whoever follows its events misses none that comes later."""
    fill(store)
    back_up(url, home / "backup")
    later = [store.create(a_job()).number for _ in range(3)]
    restore(url, home / "backup")
    assert store.find(Which()).total == 5
    assert store.create(a_job()).number == max(later) + 1


def test_a_backup_is_written_over_nothing(url, store, home):
    """Not even over half of one."""
    path = home / "backup"
    (home / ".backup.new").write_bytes(b"half of one")
    back_up(url, path)
    first = path.read_bytes()
    fill(store)
    with pytest.raises(BackupExists, match="name another file"):
        back_up(url, path)
    assert path.read_bytes() == first
    assert not (home / ".backup.new").exists()


def test_half_a_backup_is_none(url, store, home):
    """Wherever it ends, and whatever else it is: the store stays as it was."""
    fill(store)
    whole = home / "backup"
    back_up(url, whole)
    kept = content(url)
    raw = whole.read_bytes()
    ends = [0, 1, 16, 100, len(raw) // 2, len(raw) - 2, len(raw) - 20]
    hostile = [b"nonsense", b"[]", b'{"kind":"job_store","revision":"0999"}\n', b"\xff\n" * 9]
    broken = home / "broken"
    for part in (*(raw[:end] for end in ends), *hostile):
        broken.write_bytes(part)
        with pytest.raises(NoBackup, match="nothing was restored") as error:
            restore(url, broken)
        assert "\n" not in str(error.value)
    with pytest.raises(NoBackup, match="No such file"):
        restore(url, home / "nowhere")
    assert content(url) == kept


def test_a_damaged_store_has_no_backup(home):
    """What cannot be read again is none."""
    url = url_of_home(home)
    migrate(url)
    with contextlib.closing(JobStore(url)) as store:
        for _ in range(50):
            store.create(a_job(metadata={"x": "y" * 1000}))
    file = home / "jobs.db"
    content = bytearray(file.read_bytes())
    content[-8192:] = b"\xa5" * 8192
    file.write_bytes(content)
    with pytest.raises(DamagedStore):
        back_up(url, home / "backup")
    assert not (home / "backup").exists()
