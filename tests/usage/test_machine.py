"""A machine with nothing but its own samples learns when others leave it alone."""

import pytest

from state.samples import MAGIC, Ring, Sample
from supervisor.core.moments import stamp
from supervisor.usage import refresh
from testkit.histories import MONDAY, NOW, asked, source, starts

MINE = "mine"
QUIET = range(29, 37)
STEP_S = 1200.0
SETTINGS = asked({"here": source("machine")}, top_n_windows=1)


def taken(at, **changes):
    """A sample: others use 50 % of the processors, 2 % in quiet hours, and we what is left."""
    quiet = (at - MONDAY) // 3600 % 168 in QUIET
    cpu, own = (100.0, 98.0) if quiet else (60.0, 10.0)
    fields = {
        "cpu_percent": cpu,
        "cpu_own_percent": own,
        "memory_total_mib": 1000.0,
        "memory_available_mib": 100.0 if quiet else 300.0,
        "memory_own_mib": 800.0 if quiet else 200.0,
    }
    return Sample(
        at=at, monotonic_s=at, boottime_s=at, boot_id="0" * 32, running=1, **(fields | changes)
    )


def filled(folder, machine=MINE, of=taken):
    """Thirty days of samples."""
    ring = Ring(folder, machine=machine, max_bytes=64 * 2**20)
    for number in range(int((NOW - MONDAY) / STEP_S)):
        ring.write(of(MONDAY + STEP_S * number))
    ring.close()


@pytest.fixture
def where(tmp_path):
    return refresh.Where(
        windows=tmp_path / "windows.json",
        samples=tmp_path / "usage",
        machine=tmp_path / "samples",
        machine_id=MINE,
        decisions=tmp_path / "decisions.jsonl",
        here=tmp_path,
    )


def why_not(where):
    found = refresh.examine(SETTINGS, "UTC", where, NOW)
    assert found.windows is None
    (one,) = found.sources
    return one.why_not


def test_a_machine_is_quiet_when_others_leave_it_alone(where):
    """Though it is then that we use all of it, week by week, as the log tells."""
    filled(where.machine)
    lines = []
    for week in range(4):
        begin = MONDAY + 3600 * (168 * week + QUIET.start)
        for event, at in (("run.started", begin), ("run.stopped", begin + 8 * 3600)):
            lines.append(f'{{"event": "{event}", "run": "a", "time": "{stamp(at)}"}}\n')
    where.decisions.write_text("".join(lines))
    found = refresh.examine(SETTINGS, "UTC", where, NOW)
    assert found.trouble is None
    assert starts(found) == [QUIET.start]
    assert found.windows.metrics_used == ("cpu", "memory")
    assert found.windows.weeks == 4
    (one,) = found.sources
    assert (one.used, one.rows, one.why_not) == (True, 30 * 72, None)
    assert refresh.keep(where, found)


def test_what_cannot_be_told_apart_from_ours_is_no_sample(where):
    """An unknown is never 0."""
    filled(
        where.machine,
        of=lambda at: taken(at, cpu_own_percent=None, memory_own_mib=None),
    )
    assert why_not(where) == "0 samples, and min_data_points is 100"


def test_samples_of_another_machine_are_not_ours(where):
    """In a home that was copied."""
    filled(where.machine, machine="another")
    assert why_not(where) == "0 samples, and min_data_points is 100"


def test_without_samples_and_with_those_of_a_newer_version_it_is_a_line(where):
    """Nothing else breaks."""
    assert why_not(where) == "this machine keeps no samples of itself"
    where.machine.mkdir()
    (where.machine / f"{0:015}.ring").write_bytes(MAGIC + b"\xff\x00" + bytes(4096))
    assert "version 255" in why_not(where)
