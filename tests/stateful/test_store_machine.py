"""The state file through saves, losses and damage of every kind, in any order."""

import hashlib
import shutil
import tempfile
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from tinydb import TinyDB

from state.records import Boot
from state.store import DAMAGED_KEPT, AtomicStorage, NewerState, Store, last_good
from supervisor.core import history
from testkit.builders import a_ladder, a_run
from testkit.fakes import FakeClock
from trainers import durable

DAMAGED = "damaged"
"""stands in the model for a file that is there and is not what was written"""

OTHER_CONTENT = {
    "nothing": b"",
    "a list": b"[]",
    "a table": b"{}",
    "an empty TinyDB": b'{"_default": {}}',
    "no JSON": b"\xff\xfe not JSON {{{",
    "a number": b"12",
    "deep JSON": b"[" * 100_000,
}


def a_memory(number, runs=1):
    """A memory that tells itself apart from others by its number."""
    clock = FakeClock()
    memory = history.first_day(
        clock.read(), a_ladder(), tuple(a_run(f"r-{n}") for n in range(runs))
    )
    boots = tuple(
        Boot(seq=n, boot_id=f"{n}", recorded_at=n, recorded_s=n, crash=True, mode="light")
        for n in range(number % 5)
    )
    return msgspec.structs.replace(memory, decisions=number, boots=boots, outbox=({"seq": number},))


class StoreMachine(RuleBasedStateMachine):
    """Two generations on the disk, beside a model of what each of them holds."""

    @initialize()
    def begin(self):
        """An empty home."""
        self.folder = Path(tempfile.mkdtemp())
        self.path = self.folder / "state.json"
        self.current = self.previous = None
        self.number = 0

    def teardown(self):
        if hasattr(self, "folder"):
            shutil.rmtree(self.folder)

    @rule(runs=st.integers(0, 4))
    def save(self, runs):
        """What is saved is what a reader sees."""
        self.number += 1
        memory = a_memory(self.number, runs)
        Store(self.path).save(memory)
        if self.current is not None:
            self.previous = self.current
        self.current = memory
        assert Store(self.path).peek()[0] == memory

    @rule()
    def save_on_a_full_disk(self):
        """A save that the disk refuses leaves both generations as they were."""
        fill = durable.fill
        durable.fill = refuse
        try:
            with pytest.raises(OSError, match="full"):
                Store(self.path).save(a_memory(-1))
        finally:
            durable.fill = fill

    @rule(share=st.floats(0, 1, exclude_max=True))
    def truncate(self, share):
        """The file is cut off at any byte."""
        if self.current not in (None, DAMAGED):
            content = self.path.read_bytes()
            self._replace(content[: int(len(content) * share)])

    @rule(share=st.floats(0, 1, exclude_max=True), flip=st.integers(1, 255))
    def spoil_a_byte(self, share, flip):
        """One byte is another one."""
        if self.current not in (None, DAMAGED):
            content = bytearray(self.path.read_bytes())
            content[int(len(content) * share)] ^= flip
            self._replace(bytes(content))

    @rule()
    def fill_with_nuls(self):
        """As long as it was, and nothing in it: what some file systems leave after a crash."""
        if self.current is not None:
            self._replace(bytes(self.path.stat().st_size))

    @rule(content=st.sampled_from(sorted(OTHER_CONTENT)))
    def overwrite(self, content):
        """Something else lies where the state was."""
        if self.current is not None:
            self._replace(OTHER_CONTENT[content])

    @rule()
    def lose(self):
        """The file is gone."""
        self.path.unlink(missing_ok=True)
        self.current = None

    @rule()
    def load(self):
        """The newest good generation, with every loss told: never a silent empty memory."""
        good = [memory for memory in self._generations if memory not in (None, DAMAGED)]
        expected = good[0] if good else None
        memory, trouble = Store(self.path).load()
        assert memory == expected
        fine = self.current not in (None, DAMAGED) or self._generations == (None, None)
        assert bool(trouble) is not fine
        if memory is None and trouble:
            assert "history is lost" in trouble[-1]
        if self.current == DAMAGED:
            self.current = None
            if self.previous == DAMAGED:
                self.previous = None
        elif self.current is None and self.previous == DAMAGED:
            self.previous = None
        assert Store(self.path).load()[0] == memory

    @invariant()
    def a_look_changes_nothing(self):
        """Readers beside the daemon see the newest good memory and leave no trace."""
        before = sorted((path.name, path.stat().st_mtime_ns) for path in self.folder.iterdir())
        good = [memory for memory in self._generations if memory not in (None, DAMAGED)]
        assert Store(self.path).peek()[0] == (good[0] if good else None)
        after = sorted((path.name, path.stat().st_mtime_ns) for path in self.folder.iterdir())
        assert after == before

    @invariant()
    def few_files_are_kept(self):
        """Two generations and a few damaged ones for a person to look at; nothing piles up."""
        # A second name that a save on a full disk could not use; the next save removes it.
        names = {path.name for path in self.folder.iterdir()}
        damaged = {f"state.damaged-{age}" for age in range(1, DAMAGED_KEPT + 1)}
        assert names <= {"state.json", "state.last.json", "state.link", *damaged}

    @property
    def _generations(self):
        return self.current, self.previous

    def _replace(self, content):
        """Put other content at the path; the generation beside it is another file."""
        fresh = self.folder / "fresh"
        fresh.write_bytes(content)
        fresh.replace(self.path)
        self.current = DAMAGED


def refuse(*_arguments, **_keywords):
    raise OSError(28, "full")


TestStore = StoreMachine.TestCase
TestStore.settings = settings(
    max_examples=100, stateful_step_count=25, suppress_health_check=list(HealthCheck)
)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "state.json"


def test_a_file_cut_at_every_byte_is_never_taken_for_a_memory(path):
    """Whatever is left of the file after a cut, the generation before it is loaded, and said."""
    store = Store(path)
    store.save(a_memory(1))
    store.save(a_memory(2))
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.unlink()
        path.write_bytes(whole[:length])
        memory, trouble = store.load()
        assert memory == a_memory(1)
        assert trouble
        path.write_bytes(whole)


def test_a_save_that_is_interrupted_changes_nothing(path, monkeypatch):
    """An exception in the middle of a save leaves the memory that was saved before."""
    store = Store(path)
    store.save(a_memory(1))

    def fail(*arguments):
        raise MemoryError

    with monkeypatch.context() as patched:
        patched.setattr("state.store.durable.fill", fail)
        with pytest.raises(MemoryError):
            store.save(a_memory(2))
    assert store.load() == (a_memory(1), ())


@pytest.mark.parametrize("count", [0, 1, 127, 128, 129, 300])
def test_a_long_queue_is_saved_as_it_is_and_opens_in_stock_tinydb(path, count):
    """Whatever has changed since the save before, a reader finds every run in its order."""
    store = Store(path)
    options = {"z": 1.0, "a": {"y": [2**53, -0.0, 1e300], "b": "\u00e9"}}
    runs = tuple(
        a_run(f"r-{i}", trainer="r", name=f"{i}", seed=i, options=options) for i in range(count)
    )
    for changed in (runs, runs, runs[1:], (*runs[:-1], *runs[:1]), runs[::-1]):
        memory = msgspec.structs.replace(a_memory(1), runs=changed)
        store.save(memory)
        assert Store(path).load() == (memory, ())
        with TinyDB(path) as tables:
            assert tables.tables() >= {"memory", "boots"}
            assert tables.table("runs").all() == [msgspec.to_builtins(run) for run in changed]


def test_a_whole_file_without_a_memory_is_damaged(path):
    """A well-sealed file in which no memory stands is told, not taken for a first day."""
    AtomicStorage(path).write({})
    memory, trouble = Store(path).load()
    assert memory is None
    assert trouble


def test_a_file_with_the_first_kind_of_seal_is_read(path):
    """A home that an early version left behind keeps its history; a damaged one is told."""
    store = Store(path)
    store.save(a_memory(1))
    tables = msgspec.json.decode(path.read_bytes())
    del tables["seal"]
    digest = hashlib.sha256(msgspec.json.encode(tables, order="deterministic")).hexdigest()
    for said, memory in ((digest, a_memory(1)), (digest[::-1], None)):
        path.write_bytes(msgspec.json.encode({**tables, "seal": {"1": {"sha256": said}}}))
        assert store.load()[0] == memory


def test_a_newer_state_is_left_alone(path, monkeypatch):
    """What a newer version wrote is neither read nor moved nor overwritten by an older one."""
    store = Store(path)
    newer = msgspec.structs.replace(a_memory(1), schema=99)
    store.save(newer)
    content = path.read_bytes()
    with pytest.raises(NewerState, match="schema 99"):
        store.load()
    assert path.read_bytes() == content
    assert not last_good(path).exists()
