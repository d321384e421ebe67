"""Runs train in windows, and have left before one closes."""

import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.core.calendar import Window
from supervisor.core.quiet import Quiet, Windows, look

NIGHT = Window(start_weekday=6, start_hour=22, hours=8)


def at(text):
    return dt.datetime.fromisoformat(text).timestamp()


def quiet(moment, *, reserve_s=120.0, max_age_days=15, **known):
    told = {"windows": (NIGHT,), "made_at": at("2026-11-25T00:00+00:00"), **known}
    return look(Windows(**told), at=at(moment), reserve_s=reserve_s, max_age_days=max_age_days)


@pytest.mark.parametrize(
    ("moment", "answer", "until"),
    [
        ("2026-11-29T21:59:59+00:00", "closed", "2026-11-29T22:00:00+00:00"),
        ("2026-11-29T22:00:00+00:00", "open", "2026-11-30T05:58:00+00:00"),
        ("2026-11-30T05:57:59+00:00", "open", "2026-11-30T05:58:00+00:00"),
        ("2026-11-30T05:58:00+00:00", "closed", "2026-12-06T22:00:00+00:00"),
        ("2026-11-30T06:00:00+00:00", "closed", "2026-12-06T22:00:00+00:00"),
    ],
)
def test_a_window_closes_as_much_earlier_as_saving_takes(moment, answer, until):
    """Over midnight and the end of the week."""
    assert quiet(moment) == Quiet(answer=answer, until_at=at(until))


@pytest.mark.parametrize(
    ("known", "said"),
    [
        ({"made_at": None}, "nothing was analysed yet"),
        ({"trouble": "mariadb: connection refused"}, "mariadb: connection refused"),
        ({"made_at": at("2026-11-01T00:00+00:00")}, "the analysis is 29.0 d old"),
        ({"made_at": at("2027-11-01T00:00+00:00")}, "old"),
        ({"windows": ()}, "no hours are quiet enough"),
        ({"zone": "Mars/Olympus"}, "there is no time zone"),
    ],
)
def test_what_is_not_known_opens_nothing(known, said):
    """It says why, and never makes a window up."""
    found = quiet("2026-11-30T00:00+00:00", **known)
    assert (found.answer, found.until_at) == ("unknown", None)
    assert said in found.words


@given(
    st.lists(
        st.builds(
            Window,
            start_weekday=st.integers(0, 6),
            start_hour=st.integers(0, 23),
            hours=st.integers(1, 24),
        ),
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
    known = Windows(windows=tuple(week), zone=zone, made_at=made_at)

    def asked(moment):
        return look(known, at=moment, reserve_s=reserve_s, max_age_days=400)

    now = asked(made_at + after_s)
    if len(week) and now.until_at - (made_at + after_s) > 8 * 86_400:
        return  # it is open all week long
    assert asked(now.until_at - 0.001).answer == now.answer
    assert asked(now.until_at).answer != now.answer
