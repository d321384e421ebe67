"""The sampler on a machine of numbers: when it samples, when that is durable, and what it tells."""

import itertools
import os

import msgspec
import psutil
import pytest

from state import samples
from state.samples import GpuSample, newest, read, speeds
from supervisor.core import history
from supervisor.core.hours import CSV_HEAD, Spread, by_hour, csv_line
from supervisor.core.readings import GpuReadings
from supervisor.core.settings import Samples
from supervisor.host import pressure
from supervisor.host.home import Home
from supervisor.sampler import DAY_BYTES, GPUS_S, REST_S, SYNC_S, Sampler
from testkit.builders import a_heartbeat, a_ladder, a_run
from testkit.fakes import FakeClock, NoGpus
from testkit.place import Place
from trainers import durable

SETTINGS = Samples()


class FakeCards(NoGpus):
    """GPUs that answer when they are told to."""

    def __init__(self, *cards):
        self.newest = cards

    def freshen(self):
        self.is_reading = True


class Life:
    """A home with a sampler, and time that passes as it asks for."""

    def __init__(self, folder, gpus=None):
        self.home, self.clock = Home(folder), FakeClock()
        self.home.make()
        self.gpus = gpus or NoGpus()
        self.begin()

    def begin(self):
        self.sampler = Sampler(self.home, self.clock, self.gpus)

    def memory(self, training=1):
        runs = tuple(a_run(f"drill-{number}", status="running") for number in range(training))
        return history.first_day(self.clock.read(), a_ladder(), runs)

    def nap(self, seconds, wanted=SETTINGS, training=1):
        """The daemon sleeps as long as nothing is due, again and again."""
        until_s = self.clock.read().monotonic_s + seconds
        memory = self.memory(training)
        while (left_s := until_s - self.clock.read().monotonic_s) > 0:
            self.sampler.tend(wanted, memory)
            # Something else may end the nap at any time.
            self.clock.advance(min(left_s, 5.0, max(0.001, self.sampler.due_s)))

    def times(self):
        return [one.monotonic_s for one in read(self.home.samples)]


@pytest.fixture
def life(tmp_path):
    return Life(tmp_path)


def gaps(times):
    return {round(later - earlier) for earlier, later in itertools.pairwise(times)}


def test_it_samples_often_while_anything_trains_and_rarely_else(life):
    """Each 15 s, each minute, and as the settings have it."""
    life.nap(300)
    assert gaps(life.times()) == {15}
    life.nap(600, training=0)
    assert gaps(life.times()[-8:]) == {60}
    life.nap(100, Samples(training_s=10.0))
    assert gaps(life.times()[-8:]) == {10}
    life.nap(1000, Samples(idle_s=300.0), training=0)
    assert gaps(life.times()[-3:]) == {300}


def test_no_sample_waits_for_the_disk_longer_than_30_s(life, monkeypatch):
    """Neither while something trains nor in a quiet minute; and twice a minute is enough."""
    synced = []
    monkeypatch.setattr(
        os, "fdatasync", lambda handle: synced.append(life.clock.read().monotonic_s)
    )
    for training, wanted in ((1, SETTINGS), (0, SETTINGS), (1, Samples(training_s=10.0))):
        synced.clear()
        before = len(life.times())
        life.nap(600, wanted, training)
        for at_s in life.times()[before:-3]:
            assert min(sync_s for sync_s in synced if sync_s >= at_s) - at_s < SYNC_S
        assert len(synced) <= 600 / SYNC_S + 1


def test_a_sample_tells_of_this_machine(life):
    """All that any Linux machine of today tells; the first one has no time to tell shares of."""
    life.nap(20)
    first, second = read(life.home.samples)
    assert (first.cpu_percent, first.covers_s) == (None, None)
    assert first.memory_total_mib > first.memory_own_mib > 1
    assert first.memory_available_mib > 0
    assert first.disk_free_mib > 0
    assert first.boot_id == life.clock.boot_id
    assert (second.mode, second.running, len(second.rates)) == ("light", 1, 1)
    assert second.boottime_s == life.clock.read().boottime_s - 5


def test_what_cannot_be_read_is_unknown(life, monkeypatch, tmp_path):
    """A kernel that does not answer is None in every field, and never 0."""

    def fail(*arguments, **keywords):
        raise OSError

    life.nap(1)
    monkeypatch.setattr(os, "getloadavg", fail)
    monkeypatch.setattr(psutil, "sensors_temperatures", fail)
    monkeypatch.setattr(
        "supervisor.sampler.Sampler._disk_free_mib", lambda self: None, raising=True
    )
    look = pressure.look
    monkeypatch.setattr(pressure, "look", lambda trainers, group: look((), group, tmp_path / "no"))
    life.nap(40)
    last = newest(life.home.samples)
    assert {getattr(last, name) for name in samples.MEASURED if name != "covers_s"} == {None}


def test_what_stands_still_makes_no_steps(life):
    """Whatever its trainer said last; and what it has not said yet is no step."""
    running = a_run(status="running")
    folder = life.home.run(running.id)
    folder.path.mkdir(parents=True)
    durable.write(folder.heartbeat, msgspec.json.encode(a_heartbeat(steps_per_s=7.0)))
    told = []
    for run in (running, running.but(frozen_s=1.0), a_run("drill-b", status="running")):
        memory = history.first_day(life.clock.read(), a_ladder(), (run,))
        life.clock.advance(15.0)
        life.sampler.tend(SETTINGS, memory)
        told.append([one.rates[0] for one in read(life.home.samples)][-1].steps_per_s)
    assert told == [7.0, 0.0, None]
    told = list(speeds(life.home.samples, 0.0))
    assert [list(one.rates.values()) for one in told] == [[7.0], [0.0], [0.0]]
    assert [list(one.rates) for one in told] == [["drill-a"], ["drill-a"], ["drill-b"]]
    for known, one in zip(read(life.home.samples), told, strict=True):
        assert (one.at, one.running, one.covers_s) == (known.at, 1, known.covers_s or 0.0)
    assert list(speeds(life.home.samples, told[1].at)) == told[1:]


def test_it_waits_for_the_gpus_a_moment_and_not_for_ever(tmp_path):
    """Their answer belongs to the sample; one that never comes costs what it would have told."""
    card = GpuReadings(index=0, utilization_percent=90.0, xids=(13, 79), power_w=412.5)
    life = Life(tmp_path, FakeCards(card))
    life.sampler.tend(SETTINGS, life.memory())
    assert life.times() == []
    assert life.sampler.due_s == GPUS_S
    life.gpus.is_reading = False
    life.sampler.tend(SETTINGS, life.memory())
    assert newest(life.home.samples).gpus == (
        GpuSample(utilization_percent=90.0, xid=79.0, power_w=412.5),
    )
    life.gpus.newest = ()
    life.nap(60)
    assert newest(life.home.samples).gpus == (GpuSample(),), "it is there, and unknown"
    assert len(life.times()) >= 3


def test_a_large_sample_is_taken_more_rarely(tmp_path):
    """However many GPUs and runs there are, a day takes 2 MB at most, and no 30 s pass without."""
    life = Life(tmp_path, FakeCards(*(GpuReadings(index=at) for at in range(40))))
    life.gpus.freshen = lambda: None
    life.nap(1000, Samples(training_s=10.0), training=30)
    (every_s,) = gaps(life.times())
    size = samples.slot_bytes(samples.GPUS_MAX, samples.RUNS_MAX)
    assert 10 < every_s <= 30
    assert size * 86_400 / every_s <= 1.1 * DAY_BYTES
    last = newest(life.home.samples)
    assert (last.running, len(last.rates), len(last.gpus)) == (30, 16, 16)


@pytest.mark.parametrize("failing", ["write", "sync"])
def test_a_disk_that_takes_nothing_is_told_once(life, monkeypatch, failing):
    """It is tried again after a while, and told again once it has worked in between."""

    def full(*arguments):
        raise OSError(28, "No space left on device")

    life.nap(60)
    told = []
    monkeypatch.setattr(samples.Ring, failing, full)
    for _ in range(5):
        life.nap(REST_S)
        told.append(life.sampler.trouble)
    assert told == ["No space left on device", None, None, None, None]
    monkeypatch.undo()
    life.nap(2 * REST_S)
    assert life.times()[-1] > life.clock.read().monotonic_s - 30
    monkeypatch.setattr(samples.Ring, failing, full)
    life.nap(REST_S)
    assert life.sampler.trouble == "No space left on device"


def test_what_a_newer_version_has_written_stops_it_by_name(life):
    """Nothing is touched, and it is told once."""
    life.nap(20)
    life.sampler.close()
    (path,) = life.home.samples.glob("*.ring")
    content = bytearray(path.read_bytes())
    content[8] += 1
    path.write_bytes(content)
    life.begin()
    life.nap(2 * REST_S)
    assert path.name in (said := life.sampler.trouble)
    assert "newer version" in said
    assert life.sampler.trouble is None
    assert path.read_bytes() == content


def test_nothing_is_written_where_the_home_was(tmp_path):
    """Moved away, or removed: what lies there by now may be the home of another."""
    life = Life(tmp_path / "home")
    life.nap(20)
    life.home.path.rename(tmp_path / "moved")
    life.nap(60)
    assert not life.home.path.exists()
    Home(life.home.path).make()
    life.nap(60)
    assert not life.home.samples.exists()
    assert len(list(read(tmp_path / "moved/samples"))) == 2


def test_it_can_be_switched_off_and_on(life):
    """By the settings, at once."""
    life.nap(60)
    before = life.times()
    life.nap(600, Samples(enabled=False))
    assert life.times() == before
    life.nap(60)
    assert len(life.times()) == len(before) + 4


def test_a_clock_that_jumps_disturbs_nothing(life):
    """Samples carry all clocks, stay in their order, and are told by the hour they were given."""
    life.nap(60)
    life.clock.set_wall(86_400.0)
    life.nap(60)
    life.clock.reboot(off_s=3600)
    life.begin()
    life.nap(60)
    found = list(read(life.home.samples))
    assert len({one.boot_id for one in found}) == 2
    assert len(found) == 12
    assert next(hour.hour[:13] for hour in by_hour(found)) == "1970-01-02T00"


def test_a_sample_costs_no_turn_and_no_saved_state(tmp_path):
    """The memory of a daemon is as it was, however often its machine is sampled."""
    place = Place(tmp_path, '[campaign]\ntrainer = "drill"\nruns = ["A"]\n')
    place.settle()
    state, looks = place.home.state.stat(), place.home.monitor.read_bytes()
    sampler = Sampler(place.home, place.clock, NoGpus())
    for _ in range(20):
        sampler.tend(SETTINGS, place.daemon.memory)
        place.clock.advance(15)
    assert len(list(read(place.home.samples))) == 20
    now = place.home.state.stat()
    assert (now.st_mtime_ns, now.st_ino) == (state.st_mtime_ns, state.st_ino)
    assert place.home.monitor.read_bytes() == looks


def test_an_hour_is_told_with_means_and_highest_values(life):
    """Weighted with the time that each sample covers; what is unknown takes part in nothing."""
    one = msgspec.structs.replace(
        samples.Sample(at=7200.0, monotonic_s=1.0, boottime_s=1.0, boot_id="b" * 32),
        covers_s=15.0,
        cpu_percent=100.0,
        memory_total_mib=1000.0,
        memory_available_mib=250.0,
        rates=(samples.Rate(run="drill-A"), samples.Rate(run="drill-B", steps_per_s=0.0)),
        gpus=(
            GpuSample(utilization_percent=10.0, memory_used_mib=5.0, memory_total_mib=10.0),
            GpuSample(utilization_percent=90.0, power_w=3.0),
        ),
    )
    other = msgspec.structs.replace(one, at=7260.0, covers_s=45.0, cpu_percent=20.0, gpus=())
    unknown = msgspec.structs.replace(one, at=10_800.0, cpu_percent=None, rates=())
    first, second = by_hour([unknown, other, one])
    assert first.cpu_percent == Spread(mean=40.0, highest=100.0)
    assert first.memory_percent == Spread(mean=75.0, highest=75.0)
    assert (first.gpu_percent, first.sampled_min) == (Spread(mean=90.0, highest=90.0), 1.0)
    assert first.trained == ("drill-A", "drill-B")
    assert (second.hour, second.cpu_percent) == ("1970-01-01T03:00:00.000Z", None)
    line = csv_line(one).split(",")
    told = dict(zip(CSV_HEAD.split(","), line, strict=True))
    assert (told["cpu_percent"], told["load_1m"], told["gpu_power_w"]) == ("100.0", "", "")
    assert told["steps_per_s"] == "drill-A=;drill-B=0.0"
