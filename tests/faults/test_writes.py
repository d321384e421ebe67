"""What is written survives the death of the writer and the loss of power, at any moment."""

import random
from pathlib import Path

import msgspec
import pytest

from state import samples
from state.records import Boot, Memory
from state.samples import Ring, Sample, read
from state.store import DAMAGED_KEPT, Store, last_good
from supervisor.core import history
from supervisor.core.settings import Samples as SampleSettings
from supervisor.host.home import Home
from supervisor.sampler import SYNC_S, Sampler
from testkit.builders import a_ladder, a_run
from testkit.bursts import a_burst
from testkit.fakes import FakeClock, NoGpus
from testkit.machine import Machine
from testkit.series import sample_of_a_series
from testkit.worlds import a_disk, in_memory
from trainers import durable
from trainers.checkpoint import DAY_S, Checkpoints, Manifest
from trainers.contract import Score

STATE_KILLS, SEED = sample_of_a_series(100)
CHECKPOINT_KILLS, _ = sample_of_a_series(40)
KILL_WITHIN_S = 0.004
POWER_CUTS, _ = sample_of_a_series(6)
CUT_WITHIN_S = 0.1

FILES = 4
FILE_BYTES = 20_000


@pytest.fixture(autouse=True)
def _small_disks(monkeypatch):
    """The disks here have no room beside what is tested."""
    monkeypatch.setattr(samples, "ROOM_BYTES", 0)


def a_memory(number: int, runs: int = 10) -> Memory:
    """A memory of an ordinary size that tells itself apart from others by its number."""
    queue = tuple(a_run(f"drill-{n}", step=number) for n in range(runs))
    memory = history.first_day(FakeClock().read(), a_ladder(), queue)
    boots = tuple(
        Boot(seq=n, boot_id=f"{n:032x}", recorded_at=n, recorded_s=n, crash=True, mode="light")
        for n in range(2 * runs)
    )
    return msgspec.structs.replace(memory, decisions=number, boots=boots)


class States:
    """Saves memories with growing numbers, and looks for the newest."""

    def __init__(self, folder: Path) -> None:
        self._store = Store(folder / "state.json")

    def write(self, number: int) -> None:
        self._store.save(a_memory(number))

    def newest(self) -> int:
        """The number of the memory that the next start goes on from; 0 on a first day."""
        memory, trouble = self._store.load()
        assert trouble == ()
        assert memory in (None, a_memory(memory.decisions if memory else 0))
        return memory.decisions if memory else 0


class Saves:
    """Saves and prunes checkpoints with growing steps, and looks for the newest."""

    def __init__(self, folder: Path) -> None:
        self._checkpoints = Checkpoints(folder / "checkpoints")

    def write(self, number: int) -> None:
        manifest = Manifest(
            run="run",
            trainer="drill",
            mode="light",
            step=number,
            episodes=0,
            score=Score(name="return_mean", value=float(number % 7)),
            saved_at=float(number * 40_000 % (5 * DAY_S)),
        )
        content = bytes([number % 256]) * FILE_BYTES
        self._checkpoints.save(manifest, [(f"{n}.bin", content) for n in range(FILES)])
        self._checkpoints.prune()

    def newest(self) -> int:
        """The step that the next life resumes from; 0 where it begins anew."""
        self._checkpoints.remove_leftovers()
        found = self._checkpoints.newest()
        assert found.passed_over == ()
        return found.checkpoint.manifest.step if found.checkpoint else 0


class Samples:
    """Writes samples with growing numbers, and looks for the newest."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "samples"
        self._ring = Ring(self._folder, machine="m", max_bytes=2**23)

    def sampled(self, number: int) -> None:
        """One sample, which the disk need not have yet."""
        at = float(number)
        self._ring.write(Sample(at=at, monotonic_s=at, boottime_s=at, boot_id="b" * 32))

    def write(self, number: int) -> None:
        self.sampled(number)
        self._ring.sync()

    def newest(self) -> int:
        """The number of the last sample, of which none before is missing, and none is invented."""
        found = [int(one.at) for one in read(self._folder)]
        assert found == list(range(1, len(found) + 1))
        return len(found)


class NaiveWrites:
    """Writes and renames, and trusts the disk with the rest, as most programs do."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "state.json"

    def write(self, number: int) -> None:
        fresh = self._path.with_suffix(".new")
        fresh.write_text(f"{number}")
        fresh.replace(self._path)
        # Some other program on the same disk wants its own file to be safe.
        durable.write(self._path.with_name("other"), b"other")

    def newest(self) -> int:
        return int(self._path.read_text())


@pytest.mark.parametrize(
    ("kind", "kills"),
    [
        pytest.param(States, STATE_KILLS, id="state"),
        pytest.param(Saves, CHECKPOINT_KILLS, id="checkpoints"),
        pytest.param(Samples, CHECKPOINT_KILLS, id="samples"),
    ],
)
def test_kills_in_a_burst_lose_nothing_that_was_acknowledged(tmp_path, kind, kills):
    """After each `kill -9` the newest good one loads, and is none before the last acknowledged."""
    chance = random.Random(SEED)  # noqa: S311 - moments, not secrets
    place = kind(in_memory(tmp_path))
    newest = 0
    for _ in range(kills):
        with a_burst(newest + 1, place.write, chance, KILL_WITHIN_S) as acknowledged:
            pass
        least, before = acknowledged(), newest
        newest = place.newest()
        assert newest in (least, least + 1)
        assert newest > before


@pytest.mark.parametrize("filesystem", ["ext4", "xfs"])
@pytest.mark.parametrize("kind", [States, Saves, Samples])
def test_power_cuts_lose_nothing_that_was_acknowledged(tmp_path, kind, filesystem):
    """When the disk loses its power in a burst of writes, the newest good one loads after it."""
    disk = a_disk(tmp_path / "disk", filesystem)
    chance = random.Random(SEED)  # noqa: S311 - moments, not secrets
    newest = 0
    for _ in range(POWER_CUTS):
        write = kind(disk.path).write
        with a_burst(newest + 1, write, chance, CUT_WITHIN_S) as acknowledged:
            least = acknowledged()
            # What returns during the cut says nothing: XFS then lets the fsync of a folder
            # succeed although its log is gone. A machine without power returns nothing.
            disk.cut_power()
        disk.come_back()
        before, newest = newest, kind(disk.path).newest()
        assert least <= newest <= acknowledged() + 1
        assert newest > before


@pytest.mark.parametrize("filesystem", ["ext4", "xfs"])
@pytest.mark.parametrize("every_s", [10.0, 15.0, 30.0])
def test_a_power_cut_costs_the_samples_of_30_s_at_most(tmp_path, filesystem, every_s):
    """A sampler, whose clock is quick, loses its power at any moment, and nothing older is lost."""
    disk = a_disk(tmp_path / "disk", filesystem)
    chance = random.Random(SEED)  # noqa: S311 - moments, not secrets
    taken = 0
    for _ in range(POWER_CUTS):
        home, clock = Home(disk.path / "home"), FakeClock()
        home.make()
        clock.advance(every_s * (taken + 1) - clock.read().monotonic_s)
        sampler = Sampler(home, clock, NoGpus())
        memory = a_memory(1, runs=1)
        (run,) = memory.runs
        memory = msgspec.structs.replace(memory, runs=(run.but(status="running"),))

        def write(_: int, sampler=sampler, clock=clock, memory=memory) -> None:
            sampler.tend(SampleSettings(training_s=every_s), memory)
            clock.advance(every_s)

        with a_burst(taken + 1, write, chance, CUT_WITHIN_S) as acknowledged:
            least = acknowledged()
            disk.cut_power()
        disk.come_back()
        found = [round(one.monotonic_s / every_s) for one in read(home.samples)]
        assert found == sorted(set(found)), "none twice"
        assert all(1 <= number <= acknowledged() + 1 for number in found), "none is invented"
        lost = set(range(taken + 1, least + 1)) - set(found)
        assert all((least - number) * every_s < SYNC_S for number in lost)
        taken = acknowledged() + 1


def test_the_power_cut_is_a_real_one(tmp_path):
    """A write and a rename without fsync leave an empty file: this disk does lose what it may."""
    disk = a_disk(tmp_path / "disk")
    NaiveWrites(disk.path).write(1)
    disk.cut_power()
    disk.come_back()
    assert (disk.path / "other").read_bytes() == b"other"
    assert (disk.path / "state.json").read_bytes() == b""


def test_both_generations_cut_at_every_byte_are_never_a_first_day(tmp_path):
    """Whatever is left of both files, it is told that history is lost, and nothing is deleted."""
    path = in_memory(tmp_path) / "state.json"
    store = Store(path)
    for number in (1, 2):
        store.save(a_memory(number, runs=1))
    whole = {place: place.read_bytes() for place in (path, last_good(path))}
    for length in range(max(map(len, whole.values()))):
        for place, content in whole.items():
            place.write_bytes(content[: min(length, len(content) - 1)])
        memory, trouble = store.load()
        assert memory is None
        assert "history is lost" in trouble[-1]
        assert len(list(tmp_path.glob("state.damaged-*"))) == min(DAMAGED_KEPT, 2 * length + 2)


@pytest.mark.parametrize("damage", [b"", b"[]", b"\0" * 5000, b'{"memory": {'])
def test_a_damaged_state_file_is_an_event_and_not_a_first_day(
    machine: Machine, damage: bytes
) -> None:
    """With a ruined state file the generation before is taken: boots and mode are not forgotten."""
    machine.start()
    machine("force-scale-up")
    machine.until(lambda: len(machine.trainers()) == 4, "four train in medium")
    machine.reboot()
    # Killed in mid-save, both generations may be one file under two names.
    (machine.home / "state.json").unlink()
    (machine.home / "state.json").write_bytes(damage)
    machine.start()
    state = machine.state()
    assert (state["mode"], state["boots_total"], state["crashes_last_hour"]) == ("medium", 2, 1)
    (damaged,) = machine.events("state.damaged")
    assert "last good" in damaged["reason"]
    assert (machine.home / "state.damaged-1").read_bytes() == damage


def test_history_that_is_lost_is_told(machine: Machine) -> None:
    """With both generations ruined, readers say so, and so does the log of the next start."""
    machine.start()
    machine("force-scale-up")
    machine.crash()
    for path in machine.home.glob("state*.json"):
        path.write_bytes(b"ruined")
    answer = machine("get-mode")
    assert answer.returncode == 1
    assert "history is lost" in answer.stderr
    assert machine("show-state").returncode == 1
    machine.start()
    (damaged,) = machine.events("state.damaged")
    assert "history is lost" in damaged["reason"]
    assert machine.state()["mode"] == "light"
