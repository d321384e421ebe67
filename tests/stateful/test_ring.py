"""The ring of samples, whatever is appended, torn, cut off, damaged and opened again."""

import math
import random
import shutil
import struct
import tempfile
import time
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from state import samples
from state.samples import GpuSample, Rate, Ring, Sample, newest, read, read_on, slot_bytes
from trainers.contract import NewerFile

BOOT = "0123456789abcdef" * 2
OTHER_BOOT = "f" * 32
SMALL_BYTES = 2048
"""of a segment, which thus holds about a dozen samples"""
NOTHING = Sample(at=0.0, monotonic_s=1.0, boottime_s=2.0, boot_id=BOOT)


def a_sample(number, **fields):
    return msgspec.structs.replace(
        NOTHING,
        at=1e9 + number,
        monotonic_s=float(number),
        cpu_percent=float(number % 100),
        **fields,
    )


def a_ring(folder, machine="m", max_bytes=2**30):
    return Ring(folder, machine=machine, max_bytes=max_bytes)


def segments(folder):
    return sorted(folder.glob("*.ring"))


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(samples, "SEGMENT_BYTES", SMALL_BYTES)


def test_what_was_written_is_read(tmp_path):
    """To the letter, with what is unknown, GPUs, and the names of mode and runs."""
    full = Sample(
        at=1.7e9,
        monotonic_s=12.5,
        boottime_s=99.25,
        boot_id=BOOT,
        mode="medium",
        running=3,
        gpus=(
            GpuSample(utilization_percent=97.0, power_w=412.5, xid=79.0, memory_used_mib=81_559.0),
            GpuSample(),
        ),
        rates=(Rate(run="atari-Pong", steps_per_s=312.5), Rate(run="tabular-x")),
        **{name: 10.0 + at for at, name in enumerate(samples.MEASURED)},
    )
    ring = a_ring(tmp_path)
    ring.write(NOTHING)
    ring.write(full)
    assert list(read(tmp_path)) == [NOTHING, full]
    assert newest(tmp_path) == full
    ring.close()


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e300])
def test_what_is_no_number_is_unknown(tmp_path, value):
    """A trainer may say anything of its speed."""
    ring = a_ring(tmp_path)
    card = GpuSample(power_w=value, memory_used_mib=value)
    ring.write(a_sample(1, load_1m=value, gpus=(card,), rates=(Rate(run="r", steps_per_s=value),)))
    (one,) = read(tmp_path)
    assert (one.load_1m, one.gpus, one.rates) == (None, (GpuSample(),), (Rate(run="r"),))


Event = st.one_of(
    st.tuples(st.just("write"), st.integers(1, 9)),
    st.tuples(st.just("sync"), st.none()),
    st.tuples(st.just("reopen"), st.none()),
    st.tuples(st.just("more"), st.integers(0, 3)),
    st.tuples(st.just("cut"), st.integers(0, 2**32)),
)


@settings(deadline=None, max_examples=150, suppress_health_check=list(HealthCheck))
@given(st.lists(Event, max_size=40))
def test_any_life_of_a_ring_keeps_what_was_synced_and_invents_nothing(events):
    """Whatever the disk makes of what no `sync` has confirmed, and however often it is cut off."""
    folder = Path(tempfile.mkdtemp())
    before, samples.SEGMENT_BYTES = samples.SEGMENT_BYTES, SMALL_BYTES
    try:
        _live(folder, events)
    finally:
        samples.SEGMENT_BYTES = before
        shutil.rmtree(folder)


def _live(folder, events):
    ring, gpus = a_ring(folder), 0
    written, there, synced = [], set(), set()
    whole = {}  # what of each file the disk surely has
    for event, given_ in events:
        if event == "write":
            for _ in range(given_):
                known = segments(folder)
                ring.write(a_sample(len(written), gpus=(GpuSample(power_w=1.0),) * gpus))
                if segments(folder) != known:  # the one before was synced when it was closed
                    synced = set(there)
                    whole = {path: path.read_bytes() for path in segments(folder)}
                    _forget(whole, len(written))
                there.add(len(written))
                written.append(a_sample(len(written), gpus=(GpuSample(power_w=1.0),) * gpus))
        elif event == "more":
            gpus = given_
        elif event == "sync":
            ring.sync()
            synced = set(there)
            whole = {path: path.read_bytes() for path in segments(folder)}
        else:
            ring.close()
            if event == "cut":
                _lose_power(folder, whole, random.Random(given_))  # noqa: S311 - no secret
            ring = a_ring(folder)
        found = list(read(folder))
        assert [one for one in found if one not in written] == []
        numbers = [int(one.monotonic_s) for one in found]
        assert numbers == sorted(set(numbers))
        assert synced <= set(numbers) <= there
        if event == "cut":
            there = set(numbers)
        assert set(numbers) == there
    ring.close()


def _forget(whole, number):
    """Take a sample out of what the disk surely has: it was written behind a new header."""
    path = max(whole)
    content = bytearray(whole[path])
    at = content.index(struct.pack("<d", 1e9 + number))
    size = struct.unpack_from("<H", content, 10)[0]
    start = at // size * size
    content[start : start + size] = bytes(size)
    whole[path] = bytes(content)


def _lose_power(folder, whole, chance):
    """Of what is not on the disk for sure some bytes are there, in any order."""
    for path in segments(folder):
        old, new = whole.get(path), path.read_bytes()
        if old is None or len(old) != len(new):
            continue
        content = bytearray(old)
        for at in range(0, len(new), 16):
            if chance.random() < 0.5:
                content[at : at + 16] = new[at : at + 16]
        path.write_bytes(content)


def test_a_segment_cut_or_damaged_anywhere_tells_what_is_whole(tmp_path, small):
    """However short it is, and whichever byte is another, all others are as they were."""
    ring = a_ring(tmp_path)
    written = [a_sample(number) for number in range(8)]
    for one in written:
        ring.write(one)
    ring.close()
    (path,) = segments(tmp_path)
    content, size = path.read_bytes(), slot_bytes(0, samples.RUNS_LEAST)
    for length in range(0, len(content), 7):
        path.write_bytes(content[:length])
        assert list(read(tmp_path)) == written[: max(0, length // size - 1)]
    for at in range(size, size * 9, 3):
        other = bytearray(content)
        other[at] ^= 0x10
        path.write_bytes(other)
        hit = at // size - 1
        assert list(read(tmp_path)) == written[:hit] + written[hit + 1 :]
    for at in range(16):
        other = bytearray(content)
        other[at] ^= 0x10
        path.write_bytes(other)
        try:
            assert list(read(tmp_path)) == []
        except NewerFile:
            assert at in (8, 9), "only another version is a newer one"


def test_the_oldest_make_room(tmp_path, small):
    """However much is written, the ring takes what it may, and keeps the newest."""
    ring = a_ring(tmp_path, max_bytes=4 * SMALL_BYTES)
    for number in range(200):
        ring.write(a_sample(number))
        assert sum(path.stat().st_size for path in segments(tmp_path)) <= 4 * SMALL_BYTES
    numbers = [int(one.monotonic_s) for one in read(tmp_path)]
    assert numbers == list(range(numbers[0], 200))
    assert len(numbers) > 30


def test_a_span_is_read(tmp_path):
    """By the clock on the wall, wherever it has jumped to."""
    ring = a_ring(tmp_path)
    for at in (100.0, 200.0, 50.0, 300.0, 200.0):
        ring.write(msgspec.structs.replace(NOTHING, at=at))
    assert [one.at for one in read(tmp_path, 100.0, 300.0)] == [100.0, 200.0, 200.0]


def test_it_is_read_while_it_is_written(tmp_path, small):
    """A reader in the middle of a ring that goes round sees what is whole, and nothing twice."""
    ring = a_ring(tmp_path, max_bytes=3 * SMALL_BYTES)
    for number in range(20):
        ring.write(a_sample(number))
    reader = read(tmp_path)
    seen = [next(reader)]
    for number in range(20, 60):
        ring.write(a_sample(number))
    seen += reader
    numbers = [one.monotonic_s for one in seen]
    assert numbers == sorted(set(numbers))


@pytest.mark.parametrize("every", [1, 5, 11, 12, 13, 50])
def test_it_is_read_on_where_it_was_read_last(tmp_path, small, every):
    """Each sample once, wherever a segment ends, and whatever is done to the clock."""
    ring = a_ring(tmp_path)
    told = []
    for number in range(40):
        ring.write(a_sample(-number if number % 3 else number))
        if number % every == 0:
            told += read_on(tmp_path, told[-1][0] if told else -1)
    told += read_on(tmp_path, told[-1][0])
    assert [one for _, one in told] == list(read(tmp_path))
    assert len({place for place, _ in told}) == 40


def test_more_gpus_and_runs_begin_a_segment_with_room_for_them(tmp_path):
    """What was closed gives back its empty room, and every sample is whole."""
    ring = a_ring(tmp_path)
    ring.write(a_sample(1))
    ring.write(a_sample(2, gpus=(GpuSample(power_w=5.0),)))
    many = tuple(Rate(run=f"r{number}", steps_per_s=1.0) for number in range(20))
    ring.write(a_sample(3, rates=many, running=20))
    assert [len(one.rates) for one in read(tmp_path)] == [0, 0, samples.RUNS_MAX]
    assert [path.stat().st_size < 1000 for path in segments(tmp_path)] == [True, True, False]


def test_what_a_newer_version_has_written_is_refused_by_name(tmp_path):
    """It is neither read, written, moved nor deleted, and nobody calls it damaged."""
    ring = a_ring(tmp_path)
    ring.write(a_sample(1))
    ring.close()
    (path,) = segments(tmp_path)
    content = bytearray(path.read_bytes()) * 2  # it may also be of another size
    struct.pack_into("<H", content, 8, samples.VERSION + 1)
    path.write_bytes(content)
    for act in (
        lambda: list(read(tmp_path)),
        lambda: newest(tmp_path),
        lambda: a_ring(tmp_path, max_bytes=1).write(a_sample(2)),
    ):
        with pytest.raises(NewerFile, match=path.name):
            act()
    assert path.read_bytes() == content
    assert segments(tmp_path) == [path]


def test_a_ring_of_another_machine_is_not_mixed_with_ours(tmp_path):
    """A home that was copied goes on in a segment of its own, and the others can be left out."""
    theirs = a_ring(tmp_path, machine="theirs")
    theirs.write(a_sample(1))
    theirs.close()
    a_ring(tmp_path, machine="ours").write(a_sample(2))
    assert [one.monotonic_s for one in read(tmp_path)] == [1.0, 2.0]
    assert [one.monotonic_s for one in read(tmp_path, machine="ours")] == [2.0]
    assert [one.monotonic_s for one in read(tmp_path, machine="theirs")] == [1.0]


def test_what_is_no_segment_is_passed_over(tmp_path):
    """Links, folders and files that somebody has put there, also under such a name."""
    (tmp_path / "0000.ring").write_bytes(b"x")
    (tmp_path / f"{1:015}.ring").symlink_to("/etc/passwd")
    (tmp_path / f"{2:015}.ring").mkdir()
    (tmp_path / f"{3:015}.ring").write_bytes(b"nonsense")
    ring = a_ring(tmp_path)
    ring.write(a_sample(1))
    ring.close()
    assert [one.monotonic_s for one in read(tmp_path)] == [1.0]
    assert (tmp_path / f"{3:015}.ring").read_bytes() == b"nonsense"
    assert list(read(tmp_path / "nowhere")) == []


def test_a_segment_that_was_removed_is_begun_anew(tmp_path):
    """Somebody has deleted the folder under the writer."""
    ring = a_ring(tmp_path / "samples")
    ring.write(a_sample(1))
    shutil.rmtree(tmp_path / "samples")
    ring.write(a_sample(2))
    assert [one.monotonic_s for one in read(tmp_path / "samples")] == [2.0]


def test_the_last_room_of_a_disk_is_not_taken(tmp_path, monkeypatch):
    """No segment begins where training needs what is left; one that is there is gone on with."""
    ring = a_ring(tmp_path)
    ring.write(a_sample(1))
    monkeypatch.setattr(samples, "ROOM_BYTES", 2**60)
    ring.write(a_sample(2))
    with pytest.raises(OSError, match="No space left"):
        ring.write(a_sample(3, gpus=(GpuSample(),)))
    assert [one.monotonic_s for one in read(tmp_path)] == [1.0, 2.0]


def test_a_name_that_nobody_knows_any_more_has_a_sign(tmp_path):
    """Without the file of names a run is told by its key."""
    ring = a_ring(tmp_path)
    ring.write(a_sample(1, mode="light"))
    (tmp_path / samples.NAMES).unlink()
    assert [one.mode for one in read(tmp_path)] == [f"#{samples.key('light'):08x}"]


def test_a_day_takes_less_than_its_room():
    """Each 15 s, without GPUs and with one; a large sample is taken more rarely."""
    per_day = samples.DAY_S / 15
    assert slot_bytes(0, samples.RUNS_LEAST) * per_day < 1e6
    assert slot_bytes(1, samples.RUNS_LEAST) * per_day < 1.2e6
    assert slot_bytes(1, samples.RUNS_LEAST) <= 200


def test_a_span_of_a_long_ring_is_read_in_a_moment(tmp_path, monkeypatch):
    """What is not asked for is passed over by its time alone."""
    ring = a_ring(tmp_path)
    monkeypatch.setattr(ring, "_name", lambda *names: None)
    for number in range(30_000):
        ring.write(a_sample(number))
    began_s = time.monotonic()
    assert sum(1 for _ in read(tmp_path, 1e9 + 29_000)) == 1000
    assert time.monotonic() - began_s < 5
