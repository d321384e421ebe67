"""What a home tells of quiet hours and of the guard, where they are set."""

import sys

import msgspec
import pytest

from state import windows
from state.store import Store
from state.windows import SourceReport
from supervisor import screen
from supervisor.analyst import Analyst
from supervisor.config import Config
from supervisor.core.events import Event
from supervisor.host.home import Home
from supervisor.report import report
from testkit.histories import by_week, look
from testkit.patience import until
from testkit.written_life import WrittenLife

DAY_S = 86_400.0
QUIET = """
[quiet_hours]
zone = "UTC"
[quiet_hours.sources.online]
kind = "online"
url = "mariadb://reader@127.0.0.1:1/game"
[quiet_hours.sources.log]
kind = "loginlog"
url = "mariadb://reader@127.0.0.1:1/game"
[quiet_hours.sources.here]
kind = "machine"
"""
TUESDAY_AT_FIVE = look(by_week(range(29, 37)), top_n_windows=1).windows


def settled(tmp_path, text):
    """A home with these settings; its clock says Monday, 2026-01-05, shortly before 19:30."""
    (tmp_path / "supervisor.toml").write_text(text)
    life = WrittenLife()
    life.save(tmp_path)
    return Home(tmp_path), Config(tmp_path / "supervisor.toml"), life.clock


def analysed(home, at):
    sources = (
        SourceReport(
            name="online", rows=9, begin=at, end=at, hours_missing=0, used=True, why_not=None
        ),
        SourceReport(
            name="log", rows=0, begin=None, end=None, hours_missing=None, used=False,
            why_not="Connection refused" + 200 * "!",
        ),
    )  # fmt: skip
    windows.write(
        home.windows, msgspec.structs.replace(TUESDAY_AT_FIVE, made_at=at, sources=sources)
    )


def remember(home, **changes):
    store = Store(home.state)
    memory, _ = store.peek()
    goal = {key: changes.pop(key) for key in ("any_hour_until_at",) if key in changes}
    goal = msgspec.structs.replace(memory.goal, **goal)
    store.save(msgspec.structs.replace(memory, goal=goal, **changes))


def lines(found, name):
    """The lines of a block in the text."""
    told = screen.state(found).splitlines()
    begin = next(number for number, line in enumerate(told) if line.startswith(name))
    rest = [line for line in told[begin + 1 :] if not line.startswith(" ")]
    end = told.index(rest[0], begin)
    return [line[9:].strip() for line in told[begin:end]]


def test_without_them_nothing_is_told(tmp_path):
    """Nor where the settings cannot be read."""
    home, config, clock = settled(tmp_path, "# no settings\n")
    for known in (config, "broken"):
        found = report(home, known, clock.read())
        assert (found.quiet, found.guard) == (None, None)
        assert not any(
            line.startswith(("quiet", "guard")) for line in screen.state(found).splitlines()
        )


def test_before_the_first_analysis_it_is_said_that_nothing_is_known(tmp_path):
    """The next one is due now, and no source has been asked."""
    home, config, clock = settled(tmp_path, QUIET)
    found = report(home, config, clock.read())
    assert (found.quiet.open, found.quiet.why, found.quiet.analysed) == (False, "unknown", None)
    assert lines(found, "quiet") == [
        "the quiet hours are not known: no analysis of usage has succeeded yet",
        "no analysis is known; the next is due now, and tried each hour until one succeeds",
        "online: not used, in no analysis yet",
        "log: not used, in no analysis yet",
        "here: not used, in no analysis yet",
    ]


def test_the_next_window_the_analyses_and_the_sources_are_told(tmp_path):
    """Of a source that was not used a few words; the whole reason is for programs."""
    home, config, clock = settled(tmp_path, QUIET)
    now = clock.read().wall
    analysed(home, now - 2 * DAY_S)
    found = report(home, config, clock.read())
    first, second, online, log, here = lines(found, "quiet")
    assert first == (
        "no quiet window until 2026-01-06 05:00:00 UTC, and then until 2026-01-06 13:00:00 UTC"
    )
    assert second == (
        "analysed 2026-01-03 19:27:00 UTC, 48.0 h ago; the next is due 2026-01-10 19:27:00 UTC"
    )
    assert (online, here) == ("online: used", "here: not used, in no analysis yet")
    assert log.startswith("log: not used, Connection refused!")
    assert len(log) < 120
    assert len(found.quiet.sources[1].why_not) > 200
    remember(home, any_hour_until_at=now + 3600)
    found = report(home, config, clock.read())
    assert found.quiet.lifted_until == "2026-01-05T20:27:00.000Z"
    assert lines(found, "quiet")[1] == "a person trains in any hour until 2026-01-05 20:27:00 UTC"
    clock.advance(11 * 3600)
    found = report(home, config, clock.read())
    assert (found.quiet.open, found.quiet.lifted_until) == (True, None)
    assert lines(found, "quiet")[0] == "a quiet window until 2026-01-06 13:00:00 UTC"


@pytest.mark.parametrize(("days", "late"), [(7.9, False), (8.1, True)])
def test_from_day_eight_on_an_analysis_is_late(tmp_path, days, late):
    """While it is still of use, so there is time to see what is wrong."""
    home, config, clock = settled(tmp_path, QUIET)
    analysed(home, clock.read().wall - days * DAY_S)
    found = report(home, config, clock.read())
    assert (found.quiet.why, found.quiet.late) == ("outside", late)
    assert ("the analysis is late" in screen.state(found)) == late


def test_quiet_hours_that_are_off_say_so(tmp_path):
    """Their analysis works all the same."""
    home, config, clock = settled(tmp_path, QUIET.replace("zone", "enabled = false\nzone"))
    found = report(home, config, clock.read())
    assert (found.quiet.open, found.quiet.why) == (True, "off")
    assert lines(found, "quiet")[0] == "off, as [quiet_hours] has it"


def test_the_guard_tells_what_it_wants_since_when_and_who_presses(tmp_path):
    """Also with a memory in which an older version has written no moment."""
    home, config, clock = settled(tmp_path, "[guard]\n")
    found = report(home, config, clock.read())
    assert (found.guard.answer, lines(found, "guard")) == (None, ["it has not looked yet"])
    said = {"answer": "freeze", "cause": "cpu"}
    said["pressure"] = {"cpu_other": 93.2, "by": ["ffmpeg (pid 7) 180 % of one"]}
    remember(home, pressed=said)
    found = report(home, config, clock.read())
    words = (
        "training stands still: others use 93 % of the processors, 80 % pause training: "
        "ffmpeg (pid 7) 180 % of one"
    )
    assert (found.guard.answer, found.guard.since) == ("freeze", None)
    assert lines(found, "guard") == [words]
    remember(home, pressed={**said, "since_at": clock.read().wall - 60})
    found = report(home, config, clock.read())
    assert found.guard.pressure.cpu_other == 93.2
    assert lines(found, "guard") == [f"{words}, since 2026-01-05 19:26:00 UTC"]


ANSWERS = """
import sys
print("{}", flush=True)
sys.stdin.readline()
print('{"trouble": "nobody tells (log: no)", "notes": ["log: no", "more"]}', flush=True)
sys.stdin.read()
"""


def test_an_analysis_that_fails_for_a_week_is_told_once_more(tmp_path):
    """First that it fails, and once that what is known grows old."""
    home, config, clock = settled(tmp_path, QUIET)
    asked = config.settings.quiet_hours
    analysed(home, clock.read().wall - 7.5 * DAY_S)
    analyst = Analyst(home, clock, command=[sys.executable, "-c", ANSWERS])
    told = []

    def tried():
        """One more analysis has ended."""
        told.extend(analyst.tend(asked))
        return not analyst.handles

    try:
        for _ in range(3):
            until(tried, "an analysis has ended")
            clock.advance(0.4 * DAY_S)
    finally:
        analyst.close()
    assert [one.event for one in told] == [Event.USAGE_UNKNOWN, Event.USAGE_LATE]
    assert told[0].reason.endswith(": nobody tells (log: no) (more)")
    assert "is 8.3 days old, and of use for 15: nobody tells" in told[-1].reason


def test_what_somebody_else_has_analysed_meanwhile_ends_the_trouble(tmp_path):
    """It is told, once; what fails after that is told anew."""
    home, config, clock = settled(tmp_path, QUIET)
    asked = config.settings.quiet_hours
    analyst = Analyst(home, clock, command=[sys.executable, "-c", ANSWERS])
    told = []

    def tried():
        told.extend(analyst.tend(asked))
        return not analyst.handles

    try:
        until(tried, "it has failed")
        clock.advance(60)
        analysed(home, clock.read().wall)
        for _ in range(2):
            assert tried()
        clock.advance(8 * DAY_S)
        until(tried, "it has failed again")
    finally:
        analyst.close()
    assert [(one.event, one.rule) for one in told] == [
        (Event.USAGE_UNKNOWN, "refresh"),
        (Event.USAGE_ANALYSED, "elsewhere"),
        (Event.USAGE_UNKNOWN, "refresh"),
    ]


BUSY = ANSWERS.replace(
    '{"trouble": "nobody tells (log: no)", "notes": ["log: no", "more"]}', '{"busy": true}'
)


def test_an_analysis_that_a_timer_makes_is_no_trouble(tmp_path):
    """Nothing is said, and it is looked at again within the hour."""
    home, config, clock = settled(tmp_path, QUIET)
    asked = config.settings.quiet_hours
    analyst = Analyst(home, clock, command=[sys.executable, "-c", BUSY])
    told = []

    def tried():
        told.extend(analyst.tend(asked))
        return not analyst.handles

    try:
        until(tried, "it was somebody else's")
    finally:
        analyst.close()
    assert told == []
    assert 0 < analyst.due_s(asked) <= 3600
