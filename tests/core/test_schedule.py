"""Each firing of a schedule is told once, whatever the clock, the nights and the machine do."""

import datetime as dt
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.core.calendar import BadCalendar
from supervisor.core.schedule import LATE_S, TOLD_MAX, Schedule

DAY_S, HOUR_S = 86_400, 3_600


def at(text):
    return dt.datetime.fromisoformat(text).timestamp()


def fired(schedule, since, until, every_s, *, unfinished=False):
    """Local time and fate of all firings that looks at an even pace find."""
    found, looked, until_at = [], at(since), at(until)
    now = looked
    while now < until_at:
        now = min(now + every_s, until_at)
        seen = schedule.look(looked, now, unfinished=unfinished)
        found += seen.firings
        looked = seen.until_at
    zone = ZoneInfo(schedule.zone)
    return [
        (dt.datetime.fromtimestamp(one.at, zone).strftime("%a %H:%M%z"), one.became)
        for one in found
    ]


@pytest.mark.parametrize("sunday", ["0", "7", "sun", "SUN"])
def test_sunday_is_0_and_7(sunday):
    """The document's `0 2 * * 0` is weekly on Sunday at two, and not on Monday."""
    schedule = Schedule(cron=f"0 2 * * {sunday}")
    found = fired(schedule, "2026-11-28T00:00+00:00", "2026-12-01T00:00+00:00", 240)
    assert found == [("Sun 02:00+0000", "on_time")]


def test_the_hour_that_a_spring_night_skips_is_made_up_for_at_its_end():
    schedule = Schedule(cron="30 2 * * *", zone="Europe/Berlin")
    found = fired(schedule, "2026-03-28T12:00+01:00", "2026-03-30T12:00+02:00", 240)
    assert [when for when, _ in found] == ["Sun 03:00+0200", "Mon 02:30+0200"]


def test_the_hour_that_an_autumn_night_has_twice_fires_once():
    schedule = Schedule(cron="30 2 * * *", zone="Europe/Berlin")
    found = fired(schedule, "2026-10-24T12:00+02:00", "2026-10-26T12:00+01:00", 240)
    assert [when for when, _ in found] == ["Sun 02:30+0200", "Mon 02:30+0100"]
    often = Schedule(cron="*/30 * * * *", zone="Europe/Berlin")
    found = fired(often, "2026-10-25T01:45+02:00", "2026-10-25T03:15+01:00", 240)
    assert [when for when, _ in found] == [
        "Sun 02:00+0200", "Sun 02:30+0200", "Sun 02:00+0100", "Sun 02:30+0100", "Sun 03:00+0100",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("catch_up", "fates"),
    [
        ("none", ["missed", "missed", "missed"]),
        ("once", ["missed", "missed", "caught_up"]),
        ("all", ["caught_up", "caught_up", "caught_up"]),
    ],
)
def test_after_a_time_off_as_much_is_made_up_for_as_is_asked(catch_up, fates):
    """And each firing that never began is told all the same."""
    schedule = Schedule(cron="0 2 * * *", catch_up=catch_up, overlap="allow")
    seen = schedule.look(at("2026-06-01T12:00Z"), at("2026-06-04T12:00Z"), unfinished=False)
    assert [one.became for one in seen.firings] == fates
    assert [one.starts for one in seen.firings] == [fate == "caught_up" for fate in fates]
    assert (seen.more, seen.next_at) == (False, at("2026-06-05T02:00Z"))


def test_one_that_comes_back_in_time_is_no_catch_up():
    schedule = Schedule(cron="0 * * * *", catch_up="none")
    seen = schedule.look(
        at("2026-06-01T12:30Z"), at("2026-06-01T15:00Z") + LATE_S, unfinished=False
    )
    assert [one.became for one in seen.firings] == ["missed", "missed", "on_time"]
    seen = schedule.look(at("2026-06-01T14:30Z"), at("2026-06-01T15:00Z") + 301, unfinished=False)
    assert [one.became for one in seen.firings] == ["missed"]


def test_while_the_last_one_trains_the_next_is_skipped_and_told():
    schedule = Schedule(cron="0 * * * *")
    since, now = at("2026-06-01T12:30Z"), at("2026-06-01T13:00Z")
    assert [one.became for one in schedule.look(since, now, unfinished=True).firings] == ["skipped"]
    allowed = Schedule(cron="0 * * * *", overlap="allow")
    assert [one.became for one in allowed.look(since, now, unfinished=True).firings] == ["on_time"]


def test_a_schedule_of_every_minute_that_was_off_for_years_tells_of_the_newest_firings():
    """They are told one by one, and that there are more."""
    schedule, now = Schedule(cron="* * * * *"), at("2026-06-01T12:00Z")
    seen = schedule.look(now - 3650 * DAY_S, now, unfinished=False)
    assert (len(seen.firings), seen.more) == (TOLD_MAX, True)
    assert seen.firings[-1].at == now
    assert seen.firings[0].at == now - 60 * (TOLD_MAX - 1)


def test_a_rare_one_is_found_however_long_ago_it_was():
    schedule = Schedule(cron="0 0 29 2 *")
    seen = schedule.look(at("2024-02-28T00:00Z"), at("2026-06-01T00:00Z"), unfinished=False)
    assert [(one.at, one.became) for one in seen.firings] == [
        (at("2024-02-29T00:00Z"), "caught_up")
    ]
    assert (seen.more, seen.next_at) == (False, at("2028-02-29T00:00Z"))


def test_where_the_clock_was_set_back_nothing_fires_again():
    schedule = Schedule(cron="*/10 * * * *")
    now = at("2026-06-01T12:00Z")
    seen = schedule.look(now, now - HOUR_S, unfinished=False)
    assert (seen.firings, seen.until_at, seen.next_at) == ((), now, now + 600)


@pytest.mark.parametrize(
    ("cron", "zone"),
    [
        ("0 0 30 2 *", "UTC"),
        ("0 0 31 4,6,9,11 *", "UTC"),
        ("* * * * * *", "UTC"),
        ("daily", "UTC"),
        ("Sun 03:00", "UTC"),
        ("60 * * * *", "UTC"),
        ("*/0 * * * *", "UTC"),
        ("", "UTC"),
        ("0 2 * * 0", "Mars/Olympus"),
        ("0 2 * * 0", "../etc/localtime"),
        ("* " * 5000, "UTC"),
    ],
)
def test_what_never_comes_or_is_no_cron_is_refused(cron, zone):
    with pytest.raises(BadCalendar):
        Schedule(cron=cron, zone=zone)


crons = st.sampled_from(["*/7 * * * *", "30 2 * * *", "0 2 * * 0", "15 */6 * * *", "5 4 1 * *"])
zones = st.sampled_from(["UTC", "Europe/Berlin", "Australia/Lord_Howe", "America/St_Johns"])


@given(crons, zones, st.integers(1_790_000_000, 1_800_000_000), st.lists(st.integers(1, 20_000)))
def test_however_often_is_looked_each_instant_comes_once(cron, zone, begin, steps):
    """Many looks find what one look over all of it finds."""
    schedule = Schedule(cron=cron, zone=zone, catch_up="all", overlap="allow")
    looked, found = begin, []
    for step in steps:
        seen = schedule.look(looked, looked + step, unfinished=False)
        found += [one.at for one in seen.firings]
        looked = seen.until_at
    whole = schedule.look(begin, begin + sum(steps), unfinished=False)
    newest = [one.at for one in whole.firings]
    assert found == sorted(set(found))
    assert found[-len(newest) :] == newest if newest else not found
    assert whole.more == (len(found) > len(newest))
