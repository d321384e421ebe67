"""It is foretold in which windows work ends: whatever the week, the zone and the night."""

import datetime as dt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from state.samples import Speeds
from supervisor.core import fit
from supervisor.core.calendar import Opening, Window, zone_of

HOUR_S = 3600.0
ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe")
NIGHTS = ("2026-03-08", "2026-03-29", "2026-04-05", "2026-10-04", "2026-10-25", "2026-11-01")
"""on or after which clocks change somewhere in these zones"""

weeks = st.lists(
    st.builds(
        Window,
        start_weekday=st.integers(0, 6),
        start_hour=st.integers(0, 23),
        hours=st.integers(1, 30),
    ),
    min_size=1,
    max_size=3,
)
moments = st.builds(
    lambda night, hours: at(f"{night}T00:00+00:00") + hours * HOUR_S,
    st.sampled_from(NIGHTS),
    st.floats(-200, 48),
)
zones = st.sampled_from(ZONES).map(zone_of)
works = st.floats(0.01, 60).map(lambda hours: hours * HOUR_S)
reserves = st.floats(0, 3000)


def at(text):
    return dt.datetime.fromisoformat(text).timestamp()


def is_open(week, zone, moment, reserve_s):
    """Whether some window of the week is open, looked up on the clock on the wall, hour by hour."""
    for one in week:
        for back in range(9):
            day = dt.datetime.fromtimestamp(moment, zone).date() - dt.timedelta(days=back)
            if day.weekday() != one.start_weekday:
                continue
            local = dt.datetime.combine(day, dt.time(one.start_hour), zone)
            begins = local.timestamp()
            if begins - 7200 <= moment <= begins + 7200 + one.hours * HOUR_S - reserve_s:
                return True
    return False


@given(weeks, zones, moments, works, reserves)
def test_what_is_trained_in_the_foretold_windows_is_the_work(week, zone, now, work_s, reserve_s):
    """To the second, and nothing of it outside of them, before now, or in what saving needs."""
    found = fit.fit(work_s, week, zone, now, reserve_s=reserve_s)
    trained_s, until = 0.0, now
    for one, known in zip(found.openings, _opened(week, zone, now, found), strict=True):
        assert (one.opens_at, one.closes_at) == (known.opens_at, known.closes_at - reserve_s)
        begins_at = max(one.opens_at, now)
        assert begins_at >= until - 1e-6
        until = min(one.closes_at, found.ends_at)
        trained_s += until - begins_at
    assert trained_s == pytest.approx(work_s, abs=0.01)
    last = found.openings[-1]
    assert last.opens_at <= found.ends_at <= last.closes_at + 1e-6
    assert is_open(week, zone, found.ends_at, reserve_s)


def _opened(week, zone, now, found):
    """The openings of that time, without those that end before anybody could train in them."""
    until = found.ends_at
    seconds = {one.opens_at for one in found.openings}
    for one in fit.coming(week, zone, now):
        if one.opens_at > until:
            return
        if one.opens_at in seconds:
            yield one


@given(weeks, zones, moments, works, works, reserves)
def test_more_work_never_ends_earlier(week, zone, now, work_s, more_s, reserve_s):
    one = fit.fit(work_s / 2, week, zone, now, reserve_s=reserve_s)
    other = fit.fit((work_s + more_s) / 2, week, zone, now, reserve_s=reserve_s)
    assert other.ends_at >= one.ends_at
    assert len(other.openings) >= len(one.openings)
    assert other.openings[: len(one.openings)] == one.openings


@given(weeks, zones, moments, works, reserves, st.floats(0, 40))
def test_who_looks_later_within_the_plan_hears_the_same_end(
    week, zone, now, work_s, reserve_s, hours
):
    """As long as all goes as it was foretold."""
    found = fit.fit(work_s, week, zone, now, reserve_s=reserve_s)
    later = now + hours * HOUR_S
    done_s = sum(
        max(0.0, min(one.closes_at, later) - max(one.opens_at, now)) for one in found.openings
    )
    if later >= found.ends_at or work_s - done_s < 1:
        return
    again = fit.fit(work_s - done_s, week, zone, later, reserve_s=reserve_s)
    assert again.ends_at == pytest.approx(found.ends_at, abs=0.1)


@pytest.mark.parametrize(
    ("zone", "now", "window", "hours", "end"),
    [
        # 02:00 to 06:00 on the night that skips an hour, and on the one that has one twice:
        # four real hours each.
        ("Europe/Berlin", "2026-03-28T12:00+01:00", (6, 2, 4), 4, "2026-03-29T07:00+02:00"),
        ("Europe/Berlin", "2026-10-24T12:00+02:00", (6, 2, 4), 4, "2026-10-25T05:00+01:00"),
        ("America/New_York", "2026-11-01T00:00-04:00", (6, 1, 2), 2, "2026-11-01T02:00-05:00"),
        # Sunday 22:00 over the week's end.
        ("Asia/Kolkata", "2026-11-29T12:00+05:30", (6, 22, 8), 8, "2026-11-30T06:00+05:30"),
        ("Asia/Kolkata", "2026-11-30T01:00+05:30", (6, 22, 8), 6, "2026-12-06T23:00+05:30"),
    ],
)
def test_nights_on_which_clocks_change_and_the_week_s_end(zone, now, window, hours, end):
    day, hour, lasts = window
    week = [Window(start_weekday=day, start_hour=hour, hours=lasts)]
    found = fit.fit(hours * HOUR_S, week, zone_of(zone), at(now), reserve_s=0.0)
    assert found.ends_at == at(end)


def test_saving_takes_its_part_of_each_window():
    """One that is no longer than that is none."""
    week = [Window(start_weekday=6, start_hour=3, hours=8)]
    zone, now = zone_of("UTC"), at("2026-11-28T12:00+00:00")
    found = fit.fit(8 * HOUR_S, week, zone, now, reserve_s=600.0)
    assert len(found.openings) == 2
    assert found.ends_at == at("2026-12-06T03:10+00:00")
    assert fit.fit(60.0, week, zone, now, reserve_s=8 * HOUR_S) is None
    assert fit.fit(4000 * HOUR_S, week, zone, now, reserve_s=0.0) is None


def test_a_person_who_lifts_them_brings_the_end_nearer():
    """What is trained until then is done; it is no window."""
    week = [Window(start_weekday=6, start_hour=3, hours=8)]
    zone, now = zone_of("UTC"), at("2026-11-28T12:00+00:00")
    until = now + 2 * HOUR_S
    found = fit.fit(3 * HOUR_S, week, zone, now, reserve_s=0.0, any_hour_until_at=until)
    assert found.ends_at == at("2026-11-29T04:00+00:00")
    found = fit.fit(HOUR_S, week, zone, now, reserve_s=0.0, any_hour_until_at=until)
    assert (found.openings, found.ends_at) == ((), now + HOUR_S)
    assert fit.in_words(found, zone) == "before the next window, by Sat 2026-11-28 13:00 UTC"


def test_a_person_reads_the_days_and_the_end_with_its_zone():
    """By the clock on the wall; of many days the first, and the end is never told too early."""
    week = [Window(start_weekday=day, start_hour=3, hours=2) for day in (6, 0, 1)]
    zone, now = zone_of("Europe/Berlin"), at("2026-11-28T12:00+01:00")
    found = fit.fit(5 * HOUR_S + 1, week, zone, now, reserve_s=0.0)
    assert fit.in_words(found, zone) == "in 3 windows: Sun, Mon, Tue, by Tue 2026-12-01 04:01 CET"
    found = fit.fit(17 * HOUR_S, week, zone, now, reserve_s=0.0)
    assert fit.in_words(found, zone) == (
        "in 9 windows: Sun, Mon, Tue, Sun, Mon, Tue, ..., by Tue 2026-12-15 04:00 CET"
    )
    found = fit.fit(60.0, week, zone, now, reserve_s=0.0)
    assert fit.in_words(found, zone) == "in 1 window: Sun, by Sun 2026-11-29 03:01 CET"


# How fast it was


def sampled(begin, rates, *, step_s=15.0, run="a"):
    """A sample each 15 s; a rate of None: nothing trains."""
    return [
        Speeds(
            at=begin + step_s * (place + 1),
            covers_s=step_s,
            running=int(rate is not None),
            rates={} if rate is None else {run: rate},
        )
        for place, rate in enumerate(rates)
    ]


def test_a_steady_run_is_as_fast_as_it_was():
    paces = fit.paces(sampled(0.0, [4.0] * 960), ())
    assert paces["a"] == paces[fit.ALL] == fit.Pace(steps=7200.0, spread=0.0, parts=8)
    assert fit.needed_s(3 * 7200.0, paces["a"]) == pytest.approx(3 * 1800.0)
    assert fit.needed_s(0, paces["a"]) == 0.0


def test_a_short_while_tells_nothing():
    assert fit.paces(sampled(0.0, [4.0] * 240), ()) == {}
    assert fit.paces((), ()) == {}


def test_pauses_starts_and_crashes_in_a_window_count_and_time_outside_does_not():
    """Half of the window it stood still, in whatever way; the day until the next is no matter."""
    openings = [
        Opening(opens_at=0.0, closes_at=4 * HOUR_S),
        Opening(opens_at=24 * HOUR_S, closes_at=28 * HOUR_S),
    ]
    trains, still, gone = [4.0] * 480, [0.0] * 480, [None] * 480
    whole = sampled(24 * HOUR_S, [4.0] * 960)
    outside = sampled(4 * HOUR_S, [None] * 1200, step_s=60.0)
    for half in (still, gone):
        paces = fit.paces([*sampled(0.0, half + trains), *outside, *whole], openings)
        # What precedes its first sample is not known to have been a pause of it.
        steps = 5400.0 if half is still else 7200.0
        assert paces["a"].steps == pytest.approx(steps, rel=0.01)
        paces = fit.paces([*sampled(0.0, trains + half), *outside, *whole], openings)
        assert paces["a"].steps == pytest.approx(5400.0, rel=0.01)
    crashed = [*sampled(0.0, trains), *sampled(3 * HOUR_S, [4.0] * 490)]
    assert fit.paces(crashed, openings)["a"].steps == pytest.approx(7200.0 * 8 / 10, rel=0.01)


def test_who_waits_for_a_slot_is_not_slow():
    """Its own time is that in which it trained; all together went on meanwhile."""
    openings = [Opening(opens_at=0.0, closes_at=12 * HOUR_S)]
    samples = [
        *sampled(0.0, [4.0] * 480),
        *sampled(2 * HOUR_S, [8.0] * 480, run="b"),
        *sampled(4 * HOUR_S, [4.0] * 480),
    ]
    paces = fit.paces(samples, openings)
    assert (paces["a"].steps, paces["b"].steps) == (7200.0, 14_400.0)
    assert paces[fit.ALL].steps == pytest.approx(9600.0)


@given(
    st.floats(1, 1e6),
    st.floats(1, 1e6),
    st.floats(0, 2),
    st.integers(fit.PARTS_MIN, 300),
    st.floats(1, 10),
)
def test_more_work_takes_longer_and_what_is_less_steady_takes_longer(
    left, steps, uneven, parts, more
):
    pace = fit.Pace(steps=steps, spread=steps * uneven, parts=parts)
    steady = fit.Pace(steps=steps, spread=0.0, parts=parts)
    one, other = fit.needed_s(left, pace), fit.needed_s(left * more, pace)
    assert (one is None) == (other is None)
    assert fit.needed_s(left, steady) == pytest.approx(1800.0 * left / steps)
    if one is not None:
        assert other >= one * (1 - 1e-9)
        assert one >= fit.needed_s(left, steady) * (1 - 1e-9)


@pytest.mark.parametrize(
    ("parts", "still"), [(4, 0.0), (12, 0.0), (60, 0.0), (24, 0.15), (60, 0.15)]
)
def test_in_nine_of_ten_cases_it_ends_by_then(parts, still):
    """Shown on made-up pasts and futures; in some a part of an hour stands still by and by."""
    draw = np.random.default_rng(parts)

    def of(count):
        return np.where(draw.random(count) < still, 0.0, draw.normal(1000.0, 200.0, count))

    kept, lives, left = 0, 2000, 30_000.0
    for _ in range(lives):
        past = of(parts)
        pace = fit.Pace(steps=float(past.mean()), spread=float(past.std(ddof=1)), parts=parts)
        takes = fit.needed_s(left, pace) / fit.PART_S
        kept += of(int(takes)).sum() + takes % 1 * of(1)[0] >= left
    assert 0.86 <= kept / lives <= 0.95
