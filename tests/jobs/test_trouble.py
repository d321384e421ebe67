"""What can be wrong with a store, and what people can send: told in one line, nothing lost."""

from __future__ import annotations

import contextlib
import itertools
import subprocess

import pytest

from state.jobs.database import (
    BadUrl,
    DamagedStore,
    Database,
    StoreError,
    StoreTrouble,
    url_of_home,
)
from state.jobs.migrations import migrate
from state.jobs.records import Ending, NewJob, Once, Page, Patch, Refusal, Seen, Which
from state.jobs.store import JobStore
from state.jobs.tables import Unstorable
from testkit.accounts import needs_root
from testkit.disks import Disk
from testkit.servers import OWNER, QUOTED, SECRET

HALF = "\ud800"


def a_job(tenant="acme-corp", **fields):
    return NewJob(**{"tenant_id": tenant, "config": {}, **fields})


def told(act):
    """The one line that somebody reads."""
    with pytest.raises(StoreError) as error:
        act()
    line = str(error.value)
    assert "\n" not in line
    assert error.value.exit_code in (75, 78)
    assert error.value.http_status == 503
    return line


@pytest.mark.parametrize("where", ["head", "middle", "all", "empty"])
def test_a_damaged_store_is_kept_and_named(home, where):
    """By whoever migrates at the start; it is byte for byte as it was."""
    url = url_of_home(home)
    migrate(url)
    store = JobStore(url)
    for _ in range(50):
        store.create(a_job(config={"x": "y" * 1000}))
    store.close()
    file = home / "jobs.db"
    content = bytearray(file.read_bytes())
    part = {
        "head": slice(0, 16),
        "middle": slice(4096, len(content) - 8192),
        "all": slice(0, None),
        "empty": slice(0, 0),
    }[where]
    content[part] = b"\xa5" * len(content[part])
    file.write_bytes(b"" if where == "empty" else content)
    kept = file.read_bytes()
    with pytest.raises(DamagedStore, match="left as it is") as error:
        migrate(url)
    assert str(file) in str(error.value)
    assert file.read_bytes() == kept


@pytest.fixture
def disk(tmp_path):
    """A file system of its own."""
    one = Disk(tmp_path / "disk")
    yield one
    one.unmount()


@needs_root
def test_a_full_disk_is_told_and_nothing_is_lost(disk):
    """What was answered is there; with room again it goes on, with the same connection."""
    url = url_of_home(disk.path)
    migrate(url)
    with contextlib.closing(JobStore(url)) as store:
        job = store.create(a_job())
        disk.fill()

        def fill():
            for _ in range(1000):
                store.create(a_job(config={"x": "y" * 10_000}))

        line = told(fill)
        assert "full" in line or "disk I/O error" in line
        assert store.get(job.job_id) == job
        total = store.find(Which()).total
        disk.free()
        store.create(a_job())
        assert store.find(Which()).total == total + 1


@needs_root
def test_a_disk_that_cannot_be_written_to_is_told(disk):
    """As one is that the kernel has found broken."""
    url = url_of_home(disk.path)
    migrate(url)
    with contextlib.closing(JobStore(url)) as store:
        store.create(a_job())
    subprocess.run(["mount", "-o", "remount,ro", disk.path], check=True)
    line = told(lambda: JobStore(url).create(a_job()))
    assert str(disk.path / "jobs.db") in line
    assert "read" in line.lower() or "open" in line


@needs_root
def test_what_was_answered_survives_a_power_cut(disk):
    """Each job that somebody was told of, and the store itself."""
    url = url_of_home(disk.path)
    migrate(url)
    with contextlib.closing(JobStore(url)) as store:
        jobs = [store.create(a_job()) for _ in range(10)]
        claimed = store.claim(jobs[0].job_id, "home-a")
        disk.cut_power()
        with pytest.raises(StoreTrouble):
            store.create(a_job())
    disk.come_back()
    with contextlib.closing(JobStore(url)) as store:
        assert store.find(Which()).total in (10, 11)
        assert store.get(jobs[0].job_id) == claimed
        assert all(store.get(job.job_id) == job for job in jobs[1:])


def test_a_store_that_somebody_uses_for_too_long_is_told(url, store, monkeypatch):
    """SQLite has one writer; PostgreSQL has one for each job, and one who numbers."""
    monkeypatch.setattr("state.jobs.database.BUSY_S", 0.1)
    monkeypatch.setattr("state.jobs.database.SESSION", {"lock_timeout": "100ms"})
    other = JobStore(url)
    with store._writing() as doing:
        doing.tell("x", "acme-corp", ("state", {}))
        told(lambda: other.create(a_job()))
        assert other.find(Which()).total == 0
    assert other.create(a_job()).number == 2
    other.close()


@pytest.mark.parametrize(
    "url",
    [
        "nonsense",
        "",
        "sqlite://",
        "sqlite:///:memory:",
        "mysql://me:S3cret@host/db",
        "postgresql://me:S3cret@x@host/db",
        "postgresql://me:S3cret@host:port/db",
    ],
)
def test_what_is_no_url_of_a_store_is_told_without_its_password(url):
    """Whatever of it can be read."""
    with pytest.raises(BadUrl) as error:
        Database(url)
    assert "S3cret" not in str(error.value)


@pytest.mark.parametrize("place", ["me:S3cret%2F1@127.0.0.1", "me@127.0.0.1"])
def test_a_server_that_is_away_is_told_without_a_password(place):
    """Wherever the URL has it."""
    url = f"postgresql://{place}:1/db?password=S3cret%2F1"
    line = told(lambda: JobStore(url))
    assert "127.0.0.1" in line
    assert "S3cret" not in line


def test_a_refused_password_is_not_told(server):
    """Nor in what can be shown of a store that serves."""
    url = server.create_schema("shown")
    migrate(url)
    store = JobStore(url)
    assert store.shown == f"postgresql://{OWNER}:***@127.0.0.1:{server.port}/game"
    store.close()
    refused = told(lambda: JobStore(url.replace(QUOTED, "another")))
    nowhere = told(lambda: JobStore(url.replace("/game?", "/nowhere?")))
    assert SECRET not in refused + nowhere
    assert QUOTED not in refused + nowhere


HOSTILE = ["\0", HALF, "a\0b", f"{HALF}x"]


@pytest.mark.parametrize("text", HOSTILE)
def test_text_that_not_every_store_holds_is_refused_whole(store, text):
    """Alike by both, wherever it stands; nothing of it is there."""
    for fields in ({"tenant": text}, {"trainer": text}, {"model_name": text}):
        with pytest.raises(Unstorable):
            store.create(a_job(**fields))
    if HALF in text:
        for fields in ({"config": {"x": [text]}}, {"metadata": {text: 1}}):
            with pytest.raises(Unstorable):
                store.create(a_job(**fields))
    with pytest.raises(Unstorable):
        store.find(Which(tenant_id=text))
    assert store.find(Which()) == Page(jobs=(), total=0, next=None)
    assert store.events(0) == ()
    for job_id in (text, "", "x" * 10_000, "550e8400-E29b-41d4-a716-446655440000", "%"):
        assert store.get(job_id) is None
        assert store.cancel(job_id) == Refusal(why="not_found")
        assert store.claim(job_id, "home-a") is None


def test_what_json_has_is_kept_to_the_letter(store):
    """A NUL within a text, numbers of any length, depth, and names that look alike."""
    deep = {"a": 1}
    for _ in range(200):
        deep = {"a": deep}
    config = {
        "nul": "a\0b",
        "long": 10**40,
        "small": -(2**63),
        "exact": 0.1 + 0.2,
        "alike": {"a": 1, "\u0430": 2, "\uff41": 3},
        "deep": deep,
        "emoji": "🚂 \u202e",
        "'; DROP TABLE jobs; --": True,
    }
    job = store.create(a_job(config=config, metadata=config))
    found = store.get(job.job_id)
    assert found.asked.config == found.asked.metadata == config
    with pytest.raises(Unstorable):
        store.create(a_job(config={"x": float("nan")}))
    with pytest.raises(Unstorable):
        store.patch(job.job_id, Patch(metadata={"x": HALF}))
    assert store.get(job.job_id) == found


def test_whatever_a_program_says_of_itself_can_be_written_down(store):
    """No job stays RUNNING for ever since its error cannot be stored."""
    job = store.claim(store.create(a_job()).job_id, "home-a")
    token = job.claim.token
    said = {"message": f"{HALF}\0", HALF: float("inf"), "at": object, 3: [float("nan")]}
    seen = store.mirror(
        job.job_id, token, Seen(status="RUNNING", attempt=1, error=said, metrics=said)
    )
    assert seen.became.error["3"] == [None]
    ended = store.finish(job.job_id, token, Ending(status="FAILED", error=said, metrics=said))
    assert ended.became.metrics["?"] is None


def test_moments_beyond_time_are_no_moments(store):
    """Nothing was made then."""
    job = store.create(a_job())
    beyond = (-1e308, -1.0, 1e15, 1e308, float("inf"), float("-inf"))
    for after, before in itertools.product(beyond, beyond):
        found = store.find(Which(created_after=after, created_before=before)).total
        assert found == (after < job.created_at < before)


def test_a_key_is_as_long_as_somebody_likes(store):
    """It is known by its hash."""
    once = Once(tenant_id="a", route="/", key="k" * 10**6, body_sha256="b")
    assert store.create(a_job(), once=once).number == 1
    assert store.create(a_job(), once=once).answer == ""


def test_yesterdays_keys_are_free_again(url, store):
    """An answer is remembered for a day."""
    once = Once(tenant_id="a", route="/", key="k", body_sha256="b")
    store.create(a_job(), once=once)
    with store._writing() as doing:
        doing.connection.exec_driver_sql("UPDATE idempotency SET at = at - 86401")
    assert store.create(a_job(), once=once).number == 2


def test_a_store_in_a_folder_with_an_odd_name_is_found(home):
    """Neither a percent nor a question mark is read as anything else."""
    folder = home / "a %41?b#c d"
    folder.mkdir()
    url = url_of_home(folder)
    migrate(url)
    store = JobStore(url)
    store.create(a_job())
    assert list(home.iterdir()) == [folder]
    store.close()
