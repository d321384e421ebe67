"""What is known of the timers that learn usage, from a systemd that answers, hangs, or is none."""

import time

import pytest

from supervisor import doctor
from supervisor.config import Config
from supervisor.core.events import Event
from supervisor.host.home import Home
from supervisor.host.install import cron, timers
from supervisor.host.install.timers import Timer
from supervisor.report import report
from supervisor.screen import state
from testkit.written_life import WrittenLife

BOTH = ("analyze-usage", "sample-usage")
ANSWERS = """#!/bin/sh
test "$TZ $LC_ALL" = "UTC C" || exit 1
cat <<END
Id=training-supervisor-analyze-usage.timer
ActiveState=active
SubState=waiting
Result=success
LastTriggerUSec=Sun 2026-11-22 03:04:05 UTC
NextElapseUSecRealtime=Sun 2026-11-29 03:11:16 UTC

Id=training-supervisor-analyze-usage.service
ActiveState=inactive
SubState=dead
Result=success
ExecMainStartTimestamp=Mon 2026-11-23 05:00:00 UTC
ExecMainStatus=75

Id=training-supervisor-sample-usage.timer
ActiveState=inactive
LastTriggerUSec=n/a
NextElapseUSecRealtime=

Id=training-supervisor-sample-usage.service
ActiveState=inactive
ExecMainStartTimestamp=
ExecMainStatus=0
END
"""


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A home whose user has both timers, of which the first is enabled."""
    home = Home(tmp_path / "home")
    home.make()
    folder = tmp_path / "config" / "systemd/user"
    wants = folder / "timers.target.wants"
    wants.mkdir(parents=True)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    for command in BOTH:
        (folder / timers.unit(command, "timer")).write_text("[Timer]")
        text = f"ExecStart=/opt/x --home {home.path} {command} --timer"
        (folder / timers.unit(command, "service")).write_text(text)
    name = timers.unit("analyze-usage", "timer")
    (wants / name).symlink_to(folder / name)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    (tmp_path / "bin").mkdir()
    return home


def systemctl(tmp_path, text):
    program = tmp_path / "bin" / "systemctl"
    program.write_text(text)
    program.chmod(0o755)


def test_what_systemd_tells_is_told(tmp_path, home):
    """The last run is the service's own, also one by hand; a stop of a timer is no unknown."""
    systemctl(tmp_path, ANSWERS)
    first, second = timers.look(home.path)
    assert first == Timer(
        command="analyze-usage", enabled=True, runs=True, last_at=1795410000.0,
        result="success", exit_code=75, next_at=1795921876.0, of_user=True,
    )  # fmt: skip
    assert first.words == (
        "enabled, runs next 2026-11-29 03:11:16 UTC; it ran last 2026-11-23 05:00:00 UTC, and "
        "could claim nothing"
    )
    assert (second.enabled, second.runs, second.last_at, second.result) == (
        False,
        False,
        None,
        None,
    )
    assert second.words == (
        "not enabled: systemctl --user enable --now training-supervisor-sample-usage.timer"
    )
    new = Timer("sample-usage", True, True, next_at=1795921876.0)
    assert new.words.endswith("11:16 UTC; it has not run since the boot")
    stopped = Timer("sample-usage", True, False)
    assert stopped.words == (
        "enabled, and stands still: sudo systemctl start training-supervisor-sample-usage.timer"
    )


@pytest.mark.parametrize("waits", ["auto-restart", "auto-restart-queued"])
def test_a_service_that_waits_until_it_is_tried_again_does_not_run(tmp_path, home, waits):
    """Newer ones of systemd tell two such states."""
    told = ANSWERS.replace("inactive\nSubState=dead", f"activating\nSubState={waits}")
    systemctl(tmp_path, told.replace("Result=success\nExec", "Result=exit-code\nExec"))
    assert timers.look(home.path)[0].result == "again"


@pytest.mark.parametrize("trouble", ["hangs", "fails", "missing", "babbles"])
def test_what_nobody_tells_is_unknown(tmp_path, home, monkeypatch, trouble):
    """A systemd that hangs is waited for no longer than its deadline."""
    text = {"hangs": "#!/bin/sh\nexec sleep 60\n", "fails": "#!/bin/sh\nexit 1\n"}
    if trouble == "missing":
        monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    else:
        systemctl(tmp_path, text.get(trouble, "#!/bin/sh\nprintf 'Id\\n=\\n\\377'\n"))
    begun = time.monotonic()
    first, second = timers.look(home.path, max_s=0.3)
    assert time.monotonic() - begun < 10
    assert (first.enabled, second.enabled) == (True, False)
    for one in (first, second):
        assert (one.runs, one.last_at, one.result, one.next_at) == (None,) * 4
    assert first.words == "enabled; systemd does not tell when it ran, nor when it runs next"


def test_timers_of_another_home_are_none_of_this_one(tmp_path, home):
    """Nor is systemd asked then."""
    systemctl(tmp_path, f"#!/bin/sh\ntouch {tmp_path}/asked\n")
    assert timers.look(tmp_path / "other") == ()
    assert not (tmp_path / "asked").exists()


@pytest.mark.parametrize(
    ("result", "code", "says"),
    [
        ("success", 0, ", well"),
        ("success", 78, ", and found nobody to ask"),
        ("timeout", 0, ", and failed (timeout)"),
        ("again", 1, ", and failed; it is tried again each hour"),
        ("running", None, ", and runs still"),
        (None, None, "05:00:00 UTC"),
    ],
)
def test_each_end_has_its_words(result, code, says):
    """One before the boot is known by its moment alone."""
    one = Timer("analyze-usage", True, True, 1795410000.0, result, code, 1795921876.0)
    assert one.words.endswith(says)


def found(path, text):
    (path / "supervisor.toml").write_text(text)
    config = Config(path / "supervisor.toml")
    return [(one.verdict, one.result) for one in doctor._timers(Home(path), config)]


def test_doctor_tells_of_each_timer(tmp_path, home):
    """Without quiet hours of none."""
    systemctl(tmp_path, ANSWERS)
    assert found(home.path, "# nothing\n") == []
    first, second = found(home.path, "[quiet_hours]\n")
    assert (first[0], second[0]) == ("note", "note")
    assert first[1].startswith("analyze-usage: enabled, runs next")
    assert "sample-usage: not enabled" in second[1]
    systemctl(tmp_path, ANSWERS.replace("75", "0"))
    assert found(home.path, "[quiet_hours]\n")[0][0] == "well"
    systemctl(tmp_path, ANSWERS.replace("Result=success\nExec", "Result=timeout\nExec"))
    assert found(home.path, "[quiet_hours]\n")[0][0] == "bad"


def test_doctor_says_where_there_are_none_and_what_cron_does(tmp_path, monkeypatch):
    """Nobody asks who is online then, if somebody was to be asked."""
    monkeypatch.setenv("PATH", str(tmp_path))
    url = 'url = "mariadb://reader@127.0.0.1:1/game"'
    online = f'[quiet_hours.sources.on]\nkind = "online"\n{url}\n'
    ((verdict, result),) = found(tmp_path, "[quiet_hours]\n")
    assert (verdict, result) == (
        "well",
        "none; a supervisor that runs has usage analysed by itself",
    )
    ((verdict, result),) = found(tmp_path, online)
    assert (verdict, "`supervisor install --with usage`" in result) == ("note", True)
    line = cron._learns("sample-usage", tmp_path)
    crontab = tmp_path / "crontab"
    crontab.write_text(
        f"#!/bin/sh\necho '{cron.BEGIN}'; echo '@hourly {line}'; echo '{cron.END}'\n"
    )
    crontab.chmod(0o755)
    ((verdict, result),) = found(tmp_path, online)
    assert (verdict, result) == (
        "well", "sample-usage: cron has it at `@hourly`, and does not tell how it ended"
    )  # fmt: skip
    assert cron.learns(tmp_path.with_name(tmp_path.name[:-1])) == {}
    crontab.write_text(crontab.read_text().replace("@hourly", "# @hourly"))
    assert cron.learns(tmp_path) == {}


def test_the_block_of_the_quiet_hours_has_the_timers_and_the_last_refusal(tmp_path):
    """Whichever was the newest: training that had to wait, or usage that nobody told."""
    life = WrittenLife()
    for rule, event, quiet in (
        ("refresh", Event.USAGE_UNKNOWN, None),
        ("quiet_hours", Event.GOAL_CHANGED, "outside"),
        ("quiet_hours", Event.GOAL_CHANGED, "window"),
    ):
        evidence = {"quiet": quiet} if quiet else None
        life._write(event, rule=rule, reason=f"{rule} {quiet}", evidence=evidence)
    life.save(tmp_path)
    (tmp_path / "supervisor.toml").write_text("[quiet_hours]\n")
    config = Config(tmp_path / "supervisor.toml")
    one = Timer("sample-usage", True, True, 1795410000.0, "success", 0, 1795921876.0)
    told = report(Home(tmp_path), config, life.clock.read(), [one])
    (timer,) = told.quiet.timers
    assert (timer.command, timer.enabled, timer.waits, timer.result) == (
        "sample-usage", True, True, "success"
    )  # fmt: skip
    assert (timer.last, timer.next) == ("2026-11-23T05:00:00.000Z", "2026-11-29T03:11:16.000Z")
    assert told.quiet.last_refusal.why == "quiet_hours outside"
    text = state(told)
    assert "timer sample-usage: enabled, runs next 2026-11-29 03:11:16 UTC; it ran last" in text
    assert f"refused last {told.quiet.last_refusal.at[:10]}" in text
