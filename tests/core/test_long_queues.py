"""A queue of thousands: what a look does is about what lives, and not about what has ended."""

import dataclasses

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modes import Ladder
from state.store import Store
from supervisor.config import Config
from supervisor.core import history, queue
from supervisor.core.slots import assign, demanded, near
from supervisor.host.home import Home
from supervisor.journal import tail
from supervisor.stop import stop
from testkit.builders import a_ladder, a_mode, a_run, a_time
from testkit.fakes import FakeClock, FakeHost, FakeRunner, Plan
from testkit.place import a_daemon
from trainers.contract import RunFolder

RUNS = 400
SETTINGS = """\
[campaign]
trainer = "drill"
target = {{ steps = 1000000 }}
runs = [{}]
"""


class CountingRunner(FakeRunner):
    """Counts the runs whose folders it was asked to look into."""

    asked = 0

    def look(self, runs):
        runs = tuple(runs)
        self.asked += len(runs)
        return super().look(runs)


class Place:
    """A home whose queue is long, on a machine that does nothing by itself."""

    def __init__(self, folder, runs=RUNS, done=RUNS // 2):
        self.home = Home(folder)
        self.home.make()
        names = ", ".join(f'"R{at}"' for at in range(runs))
        self.home.settings.write_text(SETTINGS.format(names))
        self.clock, self.config = FakeClock(), Config(self.home.settings)
        statuses = ("done" if at < done else "queued" for at in range(runs))
        memory = history.first_day(self.clock.read(), self.config.ladder)
        runs = tuple(
            run.but(status=status)
            for run, status in zip(self.config.campaign, statuses, strict=True)
        )
        Store(self.home.state).save(msgspec.structs.replace(memory, runs=runs))
        self.host = FakeHost(self.clock, lambda _spec: Plan())
        self.begin()

    def begin(self):
        self.runner = CountingRunner(self.host)
        self.daemon = a_daemon(self.home, self.clock, self.runner, config=self.config)
        self.daemon.start()
        self.look(0.0)

    def look(self, after_s=10.0):
        self.clock.advance(after_s)
        self.daemon.tick("time")

    def statuses(self):
        return [run.status for run in self.daemon.memory.runs]


@pytest.fixture
def place(tmp_path):
    return Place(tmp_path)


def test_a_look_asks_of_few_runs_however_many_there_are(tmp_path):
    """Twenty times as many runs that wait or have ended cost not one more look into a folder."""
    asked = []
    for runs in (40, 800):
        place = Place(tmp_path / f"{runs}", runs, runs // 2)
        place.look()
        asked.append(place.runner.asked)
    assert asked[0] == asked[1]
    assert asked[0] < 40


def test_a_start_reads_few_heartbeats(tmp_path, monkeypatch):
    """Nor does a restart look at every run that there ever was."""
    opened = []
    heartbeat = property(lambda folder: opened.append(folder.path) or folder.path / "heartbeat")
    monkeypatch.setattr(RunFolder, "heartbeat", heartbeat, raising=False)
    monkeypatch.setattr(RunFolder, "__init__", lambda folder, path: setattr(folder, "path", path))
    place = Place(tmp_path)
    place.begin()
    assert len(opened) < RUNS / 10


def test_a_stop_reads_few_heartbeats(tmp_path, monkeypatch):
    """Of thousands that have ended or wait nothing can live but what carries our mark."""
    place = Place(tmp_path)
    for run in place.config.campaign:
        place.home.run(run.id).path.mkdir(exist_ok=True)
    opened = []
    heartbeat = property(lambda folder: opened.append(folder.path) or folder.path / "heartbeat")
    monkeypatch.setattr(RunFolder, "heartbeat", heartbeat, raising=False)
    monkeypatch.setattr(RunFolder, "__init__", lambda folder, path: setattr(folder, "path", path))
    assert "it had left no run" in stop(place.home, place.clock, place.config.rules)
    assert len(opened) < RUNS / 10


def test_a_save_encodes_what_has_changed(tmp_path, monkeypatch):
    """What stands in the file already is not made anew for each look."""
    place = Place(tmp_path, done=0)
    encoded, encode = [], msgspec.json.encode
    monkeypatch.setattr(
        "state.store.msgspec.json.encode",
        lambda value, **kinds: encoded.append(value) or encode(value, **kinds),
    )
    for process in place.host.mains():
        process.plan = dataclasses.replace(process.plan, steps_per_s=1e9)
    place.look(20.0)
    runs = [value for value in encoded if isinstance(value, type(place.daemon.memory.runs[0]))]
    assert 0 < len(runs) < RUNS


def test_the_memory_has_every_run_after_each_look(place):
    """Runs at rest are out of sight during a look and never lost, nor is their order."""
    ids = [run.id for run in place.config.campaign]
    for _ in range(3):
        place.look()
        memory, store = place.daemon.memory, Store(place.home.state)
        gone = [*store.archive.find()]
        assert [*gone, *(run.id for run in memory.runs)] == ids
        assert [run.id for run in store.load()[0].runs] == [run.id for run in memory.runs]
        assert place.statuses().count("done") + len(gone) == RUNS // 2
    assert place.statuses().count("running") == place.config.ladder.safest.slots


def test_what_has_ended_leaves_the_queue_by_and_by(place):
    """A home of an older version may hold thousands of ended runs: each look lets go of a few."""
    looks = 0
    while "done" in place.statuses():
        place.look(0.0)
        looks += 1
    assert looks < RUNS
    assert set(place.statuses()) == {"running", "queued"}
    assert queue.ends(place.daemon.memory).reached == RUNS // 2
    assert len(Store(place.home.state).archive.find()) == RUNS // 2


def test_the_next_run_has_the_slot_in_the_look_in_which_another_is_done(place):
    """Nobody waits for a second look because the first was only about few runs."""
    slots = place.config.ladder.safest.slots
    first = [run.id for run in place.daemon.memory.runs if run.status == "running"]
    for process in place.host.mains():
        process.plan = dataclasses.replace(process.plan, steps_per_s=1e9)
    place.look(20.0)
    ended = {run.id for run in place.daemon.memory.runs if run.status == "done"}
    assert ended.issuperset(first)
    assert place.statuses().count("running") == slots


def test_what_lives_of_a_run_at_rest_is_found(place):
    """A memory that was restored from long ago believes that a living run waits far behind."""
    last = place.config.campaign[-1]
    spec = queue.spec(
        last, place.config.ladder.safest, cores=1, checkpoint_interval_s=9.0, grace_s=120.0
    )
    place.host.spawn(spec, Plan())
    place.clock.advance(5.0)
    place.begin()
    place.look()
    adopted = [line["run"] for line in tail(place.home.decisions, 50) if "adopted" in line["event"]]
    assert last.id in adopted


STATUSES = ("queued", "running", "stopping", "waiting", "quarantined", "blocked", "done", "failed")


@given(
    st.lists(st.sampled_from(STATUSES), max_size=40),
    st.lists(st.sampled_from(STATUSES), max_size=40),
    st.integers(1, 5),
    st.integers(0, 40),
)
def test_who_is_near_may_claim_every_slot(before, after, slots, preferred):
    """Whatever becomes of the runs that live, the same ones have the slots as if all were seen."""
    runs = tuple(a_run(f"r-{at}", name=f"{at}", status=status) for at, status in enumerate(before))
    ladder = Ladder((a_mode(slots=slots), a_mode("medium", 1, slots=2, prefer=(f"{preferred}",))))
    places = set(near(runs, ladder, a_time()))
    fates = iter(after)
    later = tuple(
        run.but(status=next(fates, run.status)) if run.status not in queue.AT_REST else run
        for run in runs
    )
    seen = tuple(run for at, run in enumerate(later) if at in places)
    for mode in ladder:
        assert assign(seen, mode, a_time()) == assign(later, mode, a_time())
        assigned = assign(seen, mode, a_time())
        assert demanded(seen, assigned, mode) == demanded(later, assigned, mode)
    assert queue.all_ended(seen) == queue.all_ended(later)


def test_near_are_few():
    """Of many that wait only as many as there are slots."""
    ladder = a_ladder()
    runs = tuple(a_run(f"r-{at}") for at in range(1000))
    assert len(near(runs, ladder, a_time())) == max(mode.slots for mode in ladder)
