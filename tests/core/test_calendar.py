"""What is due by the clock on the wall comes once, in every zone, on every night of the year."""

import datetime as dt
import itertools
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.core.calendar import (
    BadCalendar,
    Calendar,
    Opening,
    Window,
    opening,
)

ZONES = [
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "America/St_Johns",
    "Australia/Lord_Howe",
    "Asia/Kolkata",
]
DAY_S = 86_400
moments = st.integers(1_700_000_000, 1_900_000_000)
windows = st.builds(
    Window,
    start_weekday=st.integers(0, 6),
    start_hour=st.integers(0, 23),
    hours=st.integers(1, 30),
)


def at(text):
    return dt.datetime.fromisoformat(text).timestamp()


def on_the_wall(moment, zone):
    return dt.datetime.fromtimestamp(moment, ZoneInfo(zone))


def dues(text, begin, count):
    """The next few times from a moment on, in the calendar's zone."""
    calendar, moment, found = Calendar(text), at(begin), []
    for _ in range(count):
        moment = calendar.after(moment)
        found.append(dt.datetime.fromtimestamp(moment, calendar.zone).isoformat())
    return found


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("Sun 03:00", "2026-11-29T03:00:00+00:00"),
        ("sunday 3:00", "2026-11-29T03:00:00+00:00"),
        ("Mon..Fri 02:30", "2026-11-30T02:30:00+00:00"),
        ("Fri-Sun,Tue 12:00", "2026-11-28T12:00:00+00:00"),
        ("04:15", "2026-11-29T04:15:00+00:00"),
        ("hourly", "2026-11-28T11:00:00+00:00"),
        ("daily", "2026-11-29T00:00:00+00:00"),
        ("weekly", "2026-11-30T00:00:00+00:00"),
        ("monthly", "2026-12-01T00:00:00+00:00"),
        ("0 2 * * 0", "2026-11-29T02:00:00+00:00"),
        ("0 2 * * 7", "2026-11-29T02:00:00+00:00"),
        ("*/20 * * * *", "2026-11-28T10:20:00+00:00"),
        ("Sun 03:00 Asia/Kolkata", "2026-11-29T03:00:00+05:30"),
    ],
)
def test_a_person_writes_a_line_or_cron(text, first):
    """Sunday is 0 and 7; days may go round the week's end; a zone may follow."""
    assert dues(text, "2026-11-28T10:00:30+00:00", 1) == [first]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is no calendar"),
        ("Someday 03:00", "'someday' in 'Someday 03:00' is no day"),
        ("Mon..Wed..Fri 03:00", "is no day"),
        ("25:00", "Bad hour"),
        ("* * * * * *", "is no calendar"),
        ("0 0 30 2 *", "is no calendar"),
        ("0 0 * 2 mon#5,tue#9", "is no calendar"),
        ("Sun 03:00 Mars/Olympus", "there is no time zone 'Mars/Olympus'"),
        ("0 3 * * * ../../etc/passwd", "is no calendar"),
        ("x" * 5000, "is no calendar"),
    ],
)
def test_what_is_none_is_refused_in_a_line(text, said):
    """It says what would be one, and is no longer than a line."""
    with pytest.raises(BadCalendar) as refused:
        Calendar(text)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 500


def test_what_a_spring_night_skips_is_due_at_the_end_of_the_gap():
    assert dues("Sun 02:30 Europe/Berlin", "2026-03-28T00:00:00+00:00", 2) == [
        "2026-03-29T03:00:00+02:00",
        "2026-04-05T02:30:00+02:00",
    ]


def test_what_an_autumn_night_has_twice_is_due_once():
    """Whoever asks between the two is not told of the first again."""
    night = "Sun 02:30 Europe/Berlin"
    assert dues(night, "2026-10-24T00:00:00+00:00", 2) == [
        "2026-10-25T02:30:00+02:00",
        "2026-11-01T02:30:00+01:00",
    ]
    assert dues(night, "2026-10-25T01:10:00+00:00", 1) == ["2026-11-01T02:30:00+01:00"]


def test_what_comes_several_times_an_hour_comes_in_both_hours():
    found = dues("*/30 * * * * Europe/Berlin", "2026-10-24T23:59:00+00:00", 5)
    assert [one[11:16] for one in found] == ["02:00", "02:30", "02:00", "02:30", "03:00"]


@given(moments, st.sampled_from(ZONES), st.integers(0, 23), st.integers(0, 59))
def test_each_day_has_each_time_of_day_once(moment, zone, hour, minute):
    """Whatever the night: always later, once a day, and as late as the clock says or at a gap."""
    calendar = Calendar(f"{hour}:{minute:02}", zone)
    days = []
    for _ in range(4):
        due = calendar.after(moment)
        assert due > moment
        moment = due
        local = on_the_wall(due, zone)
        days.append(local.date())
        if (local.hour, local.minute) != (hour, minute):
            shown = on_the_wall(due - 1, zone)
            assert (shown.hour, shown.minute) < (hour, minute) < (local.hour, local.minute)
    assert [(later - sooner).days for sooner, later in itertools.pairwise(days)] == [1] * 3


@given(st.lists(windows, min_size=1, max_size=4), st.sampled_from(ZONES), moments)
def test_an_opening_is_what_walking_through_the_week_minute_by_minute_finds(week, zone, moment):
    """A moment is open where a window began by the wall less than its real hours ago."""
    found = opening(week, ZoneInfo(zone), moment)

    def is_open(when):
        for window in week:
            for ago in range(0, window.hours * 3600 + DAY_S, 1800):
                begun = when // 1800 * 1800 - ago
                local = on_the_wall(begun, zone)
                before = on_the_wall(begun - 1, zone).replace(tzinfo=None)
                wanted = local.replace(hour=window.start_hour, minute=0, second=0, tzinfo=None)
                here = local.replace(tzinfo=None)
                # The wall shows the hour for the first time, or jumps over it.
                begins = before < wanted <= here and local.fold == 0
                if (
                    begins
                    and wanted.weekday() == window.start_weekday
                    and begun <= when < begun + window.hours * 3600
                ):
                    return True
        return False

    assert (found.opens_at <= moment < found.closes_at) == is_open(moment)
    assert is_open(found.opens_at)
    assert is_open(found.closes_at - 1)
    assert not is_open(found.opens_at - 1) or found.closes_at - found.opens_at > 6 * DAY_S


def test_windows_that_follow_each_other_are_one_opening():
    """Over midnight and over the end of the week."""
    week = [
        Window(start_weekday=6, start_hour=22, hours=2),
        Window(start_weekday=0, start_hour=0, hours=6),
    ]
    assert opening(week, ZoneInfo("UTC"), at("2026-11-29T12:00:00+00:00")) == Opening(
        opens_at=at("2026-11-29T22:00:00+00:00"), closes_at=at("2026-11-30T06:00:00+00:00")
    )


@pytest.mark.parametrize(
    ("zone", "hour", "moment", "opens", "closes"),
    [
        (
            "Europe/Berlin",
            2,
            "2026-03-28T12:00+00:00",
            "2026-03-29T03:00+02:00",
            "2026-03-29T11:00+02:00",
        ),
        (
            "Europe/Berlin",
            2,
            "2026-10-24T12:00+00:00",
            "2026-10-25T02:00+02:00",
            "2026-10-25T09:00+01:00",
        ),
        (
            "Europe/Berlin",
            2,
            "2026-10-25T01:30+00:00",
            "2026-10-25T02:00+02:00",
            "2026-10-25T09:00+01:00",
        ),
        (
            "America/New_York",
            2,
            "2026-03-07T12:00+00:00",
            "2026-03-08T03:00-04:00",
            "2026-03-08T11:00-04:00",
        ),
        (
            "America/New_York",
            1,
            "2026-10-31T12:00+00:00",
            "2026-11-01T01:00-04:00",
            "2026-11-01T08:00-05:00",
        ),
        (
            "America/New_York",
            1,
            "2026-11-01T06:30+00:00",
            "2026-11-01T01:00-04:00",
            "2026-11-01T08:00-05:00",
        ),
        (
            "Australia/Lord_Howe",
            2,
            "2026-10-03T00:00+00:00",
            "2026-10-04T02:30+11:00",
            "2026-10-04T10:30+11:00",
        ),
        (
            "Australia/Lord_Howe",
            1,
            "2026-04-04T00:00+00:00",
            "2026-04-05T01:00+11:00",
            "2026-04-05T08:30+10:30",
        ),
        (
            "Australia/Lord_Howe",
            2,
            "2026-04-04T00:00+00:00",
            "2026-04-05T02:00+10:30",
            "2026-04-05T10:00+10:30",
        ),
        (
            "Asia/Kolkata",
            2,
            "2026-03-28T12:00+00:00",
            "2026-03-29T02:00+05:30",
            "2026-03-29T10:00+05:30",
        ),
    ],
)
def test_a_window_lasts_real_hours_and_opens_once(zone, hour, moment, opens, closes):
    """On the nights on which the clock is put forward, and back, by an hour and by half of one."""
    night = [Window(start_weekday=6, start_hour=hour, hours=8)]
    found = opening(night, ZoneInfo(zone), at(moment))
    assert (found.opens_at, found.closes_at) == (at(opens), at(closes))
    later = opening(night, ZoneInfo(zone), found.closes_at)
    assert later.opens_at > found.closes_at + 5 * DAY_S


def test_a_gap_of_half_an_hour_is_skipped_to_its_end():
    found = opening(
        [Window(start_weekday=6, start_hour=2, hours=1)],
        ZoneInfo("Australia/Lord_Howe"),
        at("2026-10-03T00:00+00:00"),
    )
    assert found.opens_at == at("2026-10-04T02:30:00+11:00")


def test_a_week_without_windows_never_opens():
    assert opening([], ZoneInfo("UTC"), 0.0) is None
