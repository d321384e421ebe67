"""Hours as the clock on the wall has them; zero is zero, and an outage is a gap."""

import datetime as dt
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.usage.grid import Point, Series, Span, filled, hours, quantile, without

UTC = ZoneInfo("UTC")
MONDAY = dt.datetime(2026, 1, 5, tzinfo=dt.UTC).timestamp()
WEEKS = 4 * 7 * 86_400


def series(metric, counted, rows):
    return Series(metric=metric, counted=counted, points=tuple(Point(*row) for row in rows))


def night(zone, day):
    """All hours of a day, as that zone has it."""
    begin = dt.datetime.combine(day, dt.time(), ZoneInfo(zone))
    end = dt.datetime.combine(day + dt.timedelta(days=1), dt.time(), ZoneInfo(zone))
    return [hour.hour for hour in hours(ZoneInfo(zone), begin.timestamp(), end.timestamp())]


@pytest.mark.parametrize(
    ("zone", "spring", "autumn", "at"),
    [
        ("Europe/Berlin", dt.date(2026, 3, 29), dt.date(2026, 10, 25), 2),
        ("America/New_York", dt.date(2026, 3, 8), dt.date(2026, 11, 1), 2),
        ("Australia/Adelaide", dt.date(2026, 10, 4), dt.date(2026, 4, 5), 2),
    ],
)
def test_a_missing_hour_is_not_there_and_a_doubled_one_is_there_twice(zone, spring, autumn, at):
    """In zones of whole and of half hours."""
    assert night(zone, spring) == [hour for hour in range(24) if hour != at]
    doubled = at if zone.startswith(("Australia", "Europe")) else 1
    assert night(zone, autumn) == sorted([*range(24), doubled])


def test_zones_of_half_hours_have_their_own_hours():
    """An hour of Kolkata begins at half past one of UTC."""
    zone = ZoneInfo("Asia/Kolkata")
    found = hours(zone, MONDAY, MONDAY + 4 * 3600)
    assert [one.at - MONDAY for one in found] == [1800, 5400, 9000]
    assert [one.hour for one in found] == [6, 7, 8]


@given(st.integers(0, 10**6), st.sampled_from(["Europe/Berlin", "Australia/Lord_Howe", "UTC"]))
def test_hours_follow_each_other_without_a_gap(minutes, zone):
    """Wherever a history begins, and whatever the clocks do in it."""
    begin = MONDAY + 60 * minutes
    found = hours(ZoneInfo(zone), begin, begin + 9 * 86_400)
    steps = {later.at - one.at for one, later in pairwise(found)}
    assert steps <= {1800.0, 3600.0}
    assert found[0].at - begin < 3600


def test_zero_is_zero_every_night():
    """Hours without logins have no row; nobody plays then, and nothing is guessed."""
    every = hours(UTC, MONDAY, MONDAY + WEEKS)
    rows = [(hour.at, 20.0) for hour in every if hour.hour >= 8]
    values = filled(every, [series("players", True, rows)]).values["players"]
    nights = [value for hour, value in zip(every, values, strict=True) if hour.at > MONDAY]
    assert set(nights[7:]) == {0.0, 20.0}
    assert values[:8] == [None] * 8  # before the first row nobody knows


def test_an_outage_is_a_gap():
    """A day without any row where every other has hundreds was no quiet day."""
    every = hours(UTC, MONDAY, MONDAY + WEEKS)
    dead = range(300, 330)
    rows = [(hour.at, 5.0) for number, hour in enumerate(every) if number not in dead]
    values = filled(every, [series("players", True, rows)]).values["players"]
    assert [number for number, value in enumerate(values) if value is None] == list(dead)


def test_rows_of_another_source_tell_an_outage_from_a_quiet_hour():
    """Where health was measured, nobody played; where it was not, nobody knows."""
    every = hours(UTC, MONDAY, MONDAY + WEEKS)
    rows = [(hour.at, 5.0) for number, hour in enumerate(every) if number not in range(300, 340)]
    health = series(
        "cpu", False, [(one.at, 1.0) for n, one in enumerate(every) if n not in range(320, 322)]
    )
    values = filled(every, [series("players", True, rows)], [health]).values["players"]
    assert values[300:340] == [0.0] * 20 + [None] * 2 + [0.0] * 18


def test_what_is_measured_is_a_mean_and_has_gaps():
    """Twelve samples of an hour are one number; an hour without one is unknown."""
    every = hours(UTC, MONDAY, MONDAY + 3 * 3600)
    rows = [(MONDAY + 300 * number, float(number)) for number in range(12)]
    grid = filled(every, [series("players", False, rows)])
    assert grid.values["players"] == [5.5, None, None]
    assert grid.missing("players") == 2


def test_a_count_of_an_hour_that_lies_across_two_is_shared():
    """As where the server of the game counts by hours of another zone."""
    every = hours(UTC, MONDAY, MONDAY + 3 * 3600)
    values = filled(every, [series("players", True, [(MONDAY + 1800, 10.0)])]).values["players"]
    assert values == [5.0, 5.0, 0.0]


def test_hours_in_which_we_trained_are_masked():
    """Each hour that a span touches."""
    every = hours(UTC, MONDAY, MONDAY + 5 * 3600)
    spans = [Span(MONDAY + 3700, MONDAY + 7300), Span(MONDAY - 9e9, MONDAY - 8e9)]
    assert without([1.0] * 5, every, spans) == [1.0, None, None, 1.0, 1.0]


def test_a_quantile_lies_between_values():
    """As others compute it, too."""
    assert quantile([1.0, 2.0, 3.0, 4.0, 5.0], 0.95) == pytest.approx(4.8)
    assert quantile([3.0], 0.5) == 3.0
