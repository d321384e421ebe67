"""Runs train in windows, have left before one closes, and go on in the next."""

import datetime as dt
import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from state import windows as kept
from state.windows import Backtest, Promise, QuietWindow, Windows
from supervisor import report
from supervisor.config import Config
from supervisor.core import policy
from supervisor.core.guard import Verdict
from supervisor.core.quiet_hours import QuietHours, quiet
from testkit.builders import MIDNIGHT
from testkit.fakes import Plan
from testkit.place import Place

MADE_AT = dt.datetime(2026, 11, 25, tzinfo=dt.UTC).timestamp()
SETTINGS = """\
[campaign]
trainer = "drill"
runs = ["a"]
target.steps = 1000000
[quiet_hours]
zone = "UTC"
"""


def at(text):
    return dt.datetime.fromisoformat(text).timestamp()


def known(*windows, zone="UTC", made_at=MADE_AT):
    """An analysis that has found windows: (weekday, hour, hours)."""
    promise = Promise(weeks_choosing=3, weeks_judging=4, kept=4, of=4, at_least=0.8)
    return Windows(
        made_at=made_at,
        zone=zone,
        sources=(),
        weeks=4,
        metrics_used=("players",),
        formula="robust",
        windows=tuple(
            QuietWindow(
                start_weekday=day,
                start_hour=hour,
                hours=hours,
                score=0.0,
                players_mean=None,
                players_high=None,
                promise=promise,
            )
            for day, hour, hours in windows
        ),
        backtest=Backtest(weeks=4, regret_median=None, regret_p95=None, promise_kept=None),
        next=None,
    )


@pytest.mark.parametrize(
    ("moment", "opens", "changes"),
    [
        ("2026-11-29T21:59:59+00:00", False, "2026-11-29T22:00:00+00:00"),
        ("2026-11-29T22:00:00+00:00", True, "2026-11-30T05:58:00+00:00"),
        ("2026-11-30T05:57:59+00:00", True, "2026-11-30T05:58:00+00:00"),
        ("2026-11-30T05:58:00+00:00", False, "2026-12-06T22:00:00+00:00"),
        ("2026-11-30T06:00:00+00:00", False, "2026-12-06T22:00:00+00:00"),
    ],
)
def test_a_window_closes_as_much_earlier_as_saving_takes(moment, opens, changes):
    """Over midnight and the end of the week."""
    found = quiet(QuietHours(), known((6, 22, 8)), at(moment), reserve_s=120.0)
    assert (found.open, found.changes_at) == (opens, at(changes))


def test_a_clock_that_was_set_back_makes_no_analysis_young_for_ever():
    found = quiet(QuietHours(), known((6, 22, 8)), MADE_AT - 20 * 86_400)
    assert (found.open, found.why) == (False, "unknown")


@given(
    st.lists(
        st.tuples(st.integers(0, 6), st.integers(0, 23), st.integers(1, 24)),
        min_size=1,
        max_size=3,
    ),
    st.integers(0, 6 * 86_400),
    st.sampled_from(["UTC", "Europe/Berlin", "Asia/Kolkata"]),
    st.floats(0, 1800),
)
def test_the_next_change_is_one(week, after_s, zone, reserve_s):
    """Just before it the answer is as now, and at it it is another one; so nobody looks in vain."""
    made_at = at("2026-10-24T00:00+00:00")
    windows = known(*week, zone=zone, made_at=made_at)

    def asked(moment):
        return quiet(QuietHours(max_age_days=400), windows, moment, reserve_s=reserve_s)

    now = asked(made_at + after_s)
    assert asked(now.changes_at - 0.001).open == now.open
    assert asked(now.changes_at).open != now.open


@pytest.fixture
def place(tmp_path):
    """A home that waits for a window of two hours, from 03:00 on each day but Sunday."""
    home = tmp_path / "home"
    home.mkdir()
    kept.write(home / "windows.json", known(*((day, 3, 2) for day in range(6)), made_at=MIDNIGHT))
    return Place(home, SETTINGS)


def hour(place):
    return (place.clock.read().wall - MIDNIGHT) / 3600


def test_a_run_goes_on_over_as_many_windows_as_it_takes(place):
    """The daemon wakes for each by itself; outside nothing lives, and nothing is counted."""
    weekday = dt.datetime.fromtimestamp(MIDNIGHT, dt.UTC).weekday()
    steps, lived = [], []
    while hour(place) < 24 * 4:
        due_s = place.daemon.tick("time")
        lived.append((hour(place), bool(place.host.mains())))
        place.clock.advance(min(due_s, 900.0))
        steps.append(place.run("a").progress.step)
        if place.run("a").status == "done":
            break
    for when, lives in lived:
        day = (weekday + int(when // 24)) % 7
        inside = day != 6 and 3 <= when % 24 < 5
        assert inside or not lives, f"it trains at hour {when}"
    assert max(steps) > 150_000  # more than two windows hold
    assert steps == sorted(steps)
    visit = place.daemon.memory.visit
    assert visit.running_s <= 4 * 2 * 3600
    assert not place.lines("run.died")


@pytest.mark.parametrize("stands_still", [False, True])
@pytest.mark.parametrize(
    ("plan", "reserve_s", "ends"),
    [
        (Plan(writes_s=300.0, stops_s=590.0), 600.0, ("run.stopped", "asked")),
        (Plan(stops_s=math.inf), 120.0, ("run.killed", "grace")),
    ],
    ids=["slow", "deaf"],
)
def test_what_takes_long_to_save_is_asked_so_much_earlier_and_gone_when_the_window_closes(
    place, plan, reserve_s, ends, stands_still
):
    """Also where the guard has it stand still at that moment: it goes on, and saves.

    One that does not listen is killed then: how long it stood still gives it no more time.
    """
    place.home.settings.write_text(f"{SETTINGS}[guard]\n[policy]\nstable_min = 600\n")
    place.plans["a"] = plan
    place.sentry.answer = Verdict(answer="free", cause="calm")
    weekday = dt.datetime.fromtimestamp(MIDNIGHT, dt.UTC).weekday()
    opens_s = 3 * 3600.0 + (86_400.0 if weekday == 6 else 0.0)
    place.look(opens_s + 10.0)
    while hour(place) * 3600 < opens_s + 5400:
        place.look(60.0)
    assert place.training() == ["a"]
    if stands_still:
        place.sentry.answer = Verdict(answer="freeze", cause="cpu")
    while hour(place) * 3600 < opens_s + 7200:
        place.look(min(20.0, place.daemon.tick("time")))
    assert place.training() == []
    at_s = {one["event"]: one["now_s"] for one in place.lines("goal.changed")}
    assert at_s["goal.changed"] == opens_s + 7200 - reserve_s
    event, rule = ends
    (line,) = place.lines(event)
    assert (line["rule"], bool(place.lines("run.killed"))) == (rule, event == "run.killed")
    assert opens_s + 7200 - 20 <= line["now_s"] <= opens_s + 7200


@pytest.mark.parametrize(
    ("zone", "evening", "opens"),
    [
        ("Europe/Berlin", "2026-03-28T18:00+01:00", "2026-03-29T03:00+02:00"),
        ("Europe/Berlin", "2026-10-24T18:00+02:00", "2026-10-25T02:00+02:00"),
        ("America/New_York", "2026-03-07T18:00-05:00", "2026-03-08T03:00-04:00"),
        ("America/New_York", "2026-10-31T18:00-04:00", "2026-11-01T02:00-05:00"),
        ("Australia/Lord_Howe", "2026-10-03T18:00+10:30", "2026-10-04T02:30+11:00"),
        ("Australia/Lord_Howe", "2026-04-04T18:00+11:00", "2026-04-05T02:00+10:30"),
    ],
)
def test_a_night_on_which_the_clock_is_changed_is_one_window(tmp_path, zone, evening, opens):
    """It opens once, as late as the clock on the wall says, and trains its real hours."""
    home = tmp_path / "home"
    home.mkdir()
    kept.write(home / "windows.json", known((6, 2, 3), zone=zone, made_at=at(evening)))
    place = Place(home, SETTINGS.replace("UTC", zone))
    place.clock.set_wall(at(evening))
    lived_at = []
    while place.clock.read().wall < at(evening) + 86_400:
        due_s = place.daemon.tick("time")
        if place.host.mains():
            lived_at.append(place.clock.read().wall)
        place.clock.advance(min(due_s, 120.0))
    assert at(opens) <= lived_at[0] <= at(opens) + 60
    closes_at = at(opens) + 3 * 3600
    assert closes_at - 300 <= lived_at[-1] < closes_at
    assert all(later - sooner < 300 for sooner, later in itertools.pairwise(lived_at))


def test_a_crash_outside_a_window_blames_no_mode(place):
    place.clock.advance(4 * 3600.0)
    place.settle(10)
    assert place.host.mains()
    place.clock.advance(3600.0)
    place.settle(10)
    assert not place.host.mains()
    place.host.power_off()
    place.clock.reboot(off_s=30.0)
    place.begin()
    assert place.daemon.memory.visit.crashes == 0
    assert not place.host.mains()


def test_windows_that_cannot_be_read_open_nothing_and_say_why(place):
    place.home.windows.write_text("not what was written")
    place.clock.advance(4 * 3600.0)
    place.settle(4)
    assert not place.host.mains()
    config = Config(place.home.settings)
    told = policy.forecast(report.facts(place.home, config, place.clock.read()))
    assert "windows.json" in told.why


def test_a_person_lifts_them_for_a_while(place):
    """Until then it trains in any hour; afterwards it waits again, by itself."""
    place.settle(4)
    assert not place.host.mains()
    answer = place.ask("train_now", for_s=1800.0)
    assert not answer.refused
    place.settle(10)
    assert place.host.mains()
    for _ in range(20):
        place.look(200.0)
    assert not place.host.mains()
