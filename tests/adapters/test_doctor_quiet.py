"""`doctor` on quiet hours and on the guard: what can be asked, and what can be told apart."""

import msgspec
import pytest

from state import samples, windows
from supervisor import doctor
from supervisor.config import Config
from supervisor.core.guard import Pressure
from supervisor.core.readings import GpuAnswer, GpuReadings
from supervisor.host.home import Home, machine_id
from testkit.fakes import FakeClock
from testkit.histories import by_week, look

DAY_S = 86_400.0
URL = 'url = "mariadb://reader@127.0.0.1:1/game"'
SOURCES = f"""
[quiet_hours]
zone = "UTC"
[quiet_hours.sources.online]
kind = "online"
{URL}
password_file = "password"
[quiet_hours.sources.last]
kind = "last_login"
{URL}
[quiet_hours.sources.service]
kind = "loginlog"
{URL}
password_credential = "game"
[quiet_hours.sources.here]
kind = "machine"
"""
FOUND = look(by_week(range(29, 37)), top_n_windows=1).windows


@pytest.fixture
def clock():
    return FakeClock()


def examined(path, text, clock, part):
    """What is found of a part, by the beginning of each result."""
    (path / "supervisor.toml").write_text(text)
    config = Config(path / "supervisor.toml")
    home = Home(path)
    found = (
        doctor._guard(home, config)
        if part == "guard"
        else doctor._quiet(home, config, clock.read())
    )
    return [(one.verdict, one.what, one.result) for one in found]


def test_without_them_nothing_is_asked(tmp_path, clock):
    """Neither a database nor the counters."""
    for part in ("guard", "quiet"):
        assert examined(tmp_path, "# nothing\n", clock, part) == []


def test_each_source_says_whether_it_can_be_asked(tmp_path, clock, monkeypatch):
    """With the file of its password, which others may not read."""
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    password = tmp_path / "password"
    password.write_text("Marked-S3cret")
    password.chmod(0o644)
    _, online, last, service, here = examined(tmp_path, SOURCES, clock, "quiet")
    assert online[:2] == ("bad", "usage")
    assert "password can be read by others (mode 0644): chmod 600 it" in online[2]
    assert (last[0], "allow_last_login" in last[2]) == ("note", True)
    assert (service[0], "no credentials" in service[2]) == ("note", True)
    assert here == ("note", "usage", "here: this machine keeps no samples of itself")
    password.chmod(0o600)
    online = examined(tmp_path, SOURCES, clock, "quiet")[1]
    assert online[0] == "bad"
    assert online[2].startswith("online: ")
    assert "refused" in online[2]
    assert not (tmp_path / "usage").exists()


def test_a_machine_that_samples_itself_is_a_source_that_answers(tmp_path, clock):
    """With the number of its samples."""
    ring = samples.Ring(tmp_path / "samples", machine=machine_id(), max_bytes=2**22)
    at = clock.read().wall - 60
    sample = samples.Sample(at=at, monotonic_s=1.0, boottime_s=1.0, boot_id="0" * 32)
    ring.write(msgspec.structs.replace(sample, cpu_percent=9.0, cpu_own_percent=1.0))
    ring.close()
    *_, here = examined(tmp_path, SOURCES, clock, "quiet")
    assert here == ("well", "usage", "here: answers, 1 rows in 30 days")


@pytest.mark.parametrize(
    ("days", "verdict", "says"),
    [
        (2, "well", "1 windows a week, learnt 48.0 h ago"),
        (9, "note", "a newer analysis should be there"),
        (16, "bad", "16.0 days old, and max_age_days is 15"),
    ],
)
def test_the_analysis_has_an_age(tmp_path, clock, days, verdict, says):
    """One that is too old opens no window; one that is late is still of use."""
    made_at = clock.read().wall - days * DAY_S
    windows.write(tmp_path / "windows.json", msgspec.structs.replace(FOUND, made_at=made_at))
    ((found, what, result),) = examined(tmp_path, '[quiet_hours]\nzone = "UTC"\n', clock, "quiet")
    assert (found, what) == (verdict, "quiet hours")
    assert says in result


def test_an_analysis_that_is_none_is_told_from_a_damaged_one(tmp_path, clock):
    """The first is what a first day has."""
    text = '[quiet_hours]\nzone = "UTC"\n'
    ((verdict, _, result),) = examined(tmp_path, text, clock, "quiet")
    assert (verdict, result) == ("note", "no analysis of usage has succeeded yet")
    (tmp_path / "windows.json").write_text("{}")
    ((verdict, _, result),) = examined(tmp_path, text, clock, "quiet")
    assert (verdict, "windows.json" in result) == ("bad", True)


def test_the_real_machine_tells_others_from_us(tmp_path, clock):
    """Its processors and its memory, at least."""
    ((verdict, what, result),) = examined(tmp_path, "[guard]\n", clock, "guard")
    assert what == "guard"
    assert verdict != "bad"
    assert result.startswith("others are told from us on processors, memory")


@pytest.mark.parametrize("grouped", [True, False])
def test_what_cannot_be_told_apart_is_named(tmp_path, clock, monkeypatch, grouped):
    """A GPU whose driver names no owner counts for nothing, and an unknown is no 0."""
    cards = (GpuReadings(index=0, uuid="GPU-a"), GpuReadings(index=1, uuid="GPU-b"))
    monkeypatch.setattr(doctor.Gpus, "read_now", lambda _: GpuAnswer(gpus=cards))
    seen = Pressure(cpu_other=3.0, gpu_memory_other_mib={"GPU-a": 0.0})
    monkeypatch.setattr(doctor, "glance", lambda *_: seen)
    switch = tmp_path / "autogroup"
    switch.write_text("1\n" if grouped else "0\n")
    monkeypatch.setattr(doctor, "AUTOGROUP", switch)
    ((verdict, _, result),) = examined(tmp_path, "[guard]\n", clock, "guard")
    assert verdict == "note"
    assert result == (
        "others are told from us on processors, GPU GPU-a; on memory, GPU GPU-b nobody knows, so "
        "that counts for nothing; this kernel tells no stalls; "
    ) + ("the kernel groups sessions, and ours yield, too" if grouped else "niceness alone")
    monkeypatch.setattr(doctor, "glance", lambda *_: Pressure())
    ((verdict, _, result),) = examined(tmp_path, "[guard]\n", clock, "guard")
    assert (verdict, "us on nothing" in result) == ("bad", True)


def test_a_control_group_that_holds_us_is_refused_and_one_that_is_not_there_is_said(
    tmp_path, clock
):
    """The game may be down; what waits in a group of ours would pause us for our own load."""
    text = '[guard]\nprotect_cgroup = ["game.slice", "system.slice"]\n'
    (tmp_path / "supervisor.toml").write_text(text)
    config, home = Config(tmp_path / "supervisor.toml"), Home(tmp_path)
    refused, remarks = doctor.check_guard(config, home, by_service=True)
    (problem,) = refused
    assert "system.slice holds the supervisor itself" in problem
    assert remarks == ["guard.protect_cgroup: there is no control group game.slice"]
    found = examined(tmp_path, text, clock, "guard")
    assert ("note", "guard", remarks[0]) in found


def test_a_probe_is_tried_once(tmp_path, clock):
    """One that answers, one that is too slow, and one that does not, which is no pressure."""
    text = '[guard]\nprobe = ["true"]\nlatency_p95_ms = 5000\n'
    *_, (verdict, _, result) = examined(tmp_path, text, clock, "guard")
    assert verdict == "well"
    assert result.endswith("ms (at most 5000)")
    *_, (verdict, _, result) = examined(tmp_path, text.replace("5000", "0.001"), clock, "guard")
    assert verdict == "note"
    assert result.endswith("ms (at most 0.001)")
    *_, (verdict, _, result) = examined(
        tmp_path, '[guard]\nprobe = "tcp://127.0.0.1:1"\n', clock, "guard"
    )
    assert verdict == "note"
    assert "does not answer: Connection refused, so that counts for nothing" in result


@pytest.mark.parametrize(
    ("keys", "says"),
    [("", []), ("sample_s = 30", ["60 s"]), ("pause_samples = 20", ["40 s"])],
)
def test_who_looks_rarely_is_told_what_that_means(tmp_path, keys, says):
    """Of the usual two seconds nothing need be said."""
    (tmp_path / "supervisor.toml").write_text(f"[guard]\n{keys}\n")
    refused, remarks = doctor.check_guard(Config(tmp_path / "supervisor.toml"), Home(tmp_path))
    assert refused == []
    assert [one.partition("up to ")[2][:4] for one in remarks] == says
