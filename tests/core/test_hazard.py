"""What is learnt of crashes that draw others after them, and the breather that follows."""

import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from state.records import Booking, Exposure, Hazard, Ledger, Stretch
from supervisor.core import hazard
from supervisor.core import ledger as learnt

NEVER = Hazard()
HOURS = (20.0,) * hazard.AGES
DAY_HOURS = (22.5,) * hazard.PARTS


def a_hazard(*per_h, hours=HOURS, ahead=10.0):
    """A mode that crashes so many times an hour at each age, and at the last of them for ever."""
    rates = (*per_h, *(per_h[-1:] * (hazard.AGES - len(per_h))))
    crashes = tuple(rate * each for rate, each in zip(rates, hours, strict=True))
    return Hazard(
        crashes=crashes,
        hours=hours,
        day_crashes=(math.fsum(crashes) / hazard.PARTS,) * hazard.PARTS,
        day_hours=DAY_HOURS,
        ahead=ahead,
    )


DRAWS_OTHERS = a_hazard(8.0, 8.0, 8.0, 8.0, 0.05)
"""for an hour after each crash"""


def breather_h(here, below=NEVER, *, faster=2.0, cost_h=0.5):
    return hazard.breather_h(here, below, faster=faster, cost_h=cost_h)


def test_where_crashes_draw_others_for_an_hour_the_breather_is_an_hour():
    """Shorter ones end among crashes, longer ones leave work to the slower mode."""
    assert breather_h(DRAWS_OTHERS) == 1.0


def test_a_machine_that_crashes_evenly_needs_none():
    """Whenever it goes on, the next crash is as near."""
    for rate in (0.01, 1.0, 30.0):
        assert breather_h(a_hazard(rate)) == 0.0


def test_crashes_that_grow_with_time_need_none():
    """Nobody waits for the worse."""
    assert breather_h(a_hazard(0.1, 0.1, 0.2, 0.5, 1.0, 3.0)) == 0.0


def test_where_the_hour_of_the_day_tells_as_much_there_is_none():
    """Crashes that come at bad hours are not drawn by the ones before."""
    assert breather_h(msgspec.structs.replace(DRAWS_OTHERS, ahead=1.9)) == 0.0


def test_of_one_crash_nothing_follows():
    """It may be the last."""
    once = a_hazard(1.0, 0.0, hours=(1.0,) * hazard.AGES)
    assert math.fsum(once.crashes) == 1
    assert breather_h(once) == 0.0


def test_where_the_mode_below_crashes_as_well_there_is_nowhere_to_wait():
    """Its crashes begin the time anew."""
    assert breather_h(DRAWS_OTHERS, DRAWS_OTHERS) == 0.0


def test_what_is_dear_to_leave_is_not_left():
    """A mode that is ten times as fast, on a machine whose crashes cost nothing, goes on."""
    assert breather_h(DRAWS_OTHERS, faster=10.0, cost_h=0.005) == 0.0


@given(st.floats(0, 40), st.floats(0, 30), st.floats(0, 100))
def test_running_time_is_counted_once_whatever_its_age_and_hour(age_h, ran_h, now_h):
    """Each second has one age and one part of the day."""
    ran_s = 3600 * min(ran_h, age_h)
    aged = hazard.aged((), 3600 * age_h, ran_s)
    daily = hazard.daily((), 3600 * (now_h + age_h), ran_s)
    assert math.fsum(aged) == pytest.approx(ran_s, abs=1e-6)
    assert math.fsum(daily) == pytest.approx(ran_s, abs=1e-6)
    assert min(aged) >= 0
    assert min(daily) >= 0


def test_running_time_that_spans_two_ages_is_in_both():
    """An hour up to an hour and a half after the crash."""
    aged = hazard.aged((), 1.5 * 3600, 3600.0)
    assert [age_s / 3600 for age_s in aged] == [0, 0, 0, 0.5, 0.5, 0, 0, 0, 0]


def test_a_crash_is_counted_at_its_age_and_hour():
    """And what ran up to it; all that is known fades by half in a week."""
    stretch = Stretch(
        running_s=1800.0,
        aged_s=hazard.aged((), 1800.0, 1800.0),
        day_s=hazard.daily((), 4 * 3600.0, 1800.0),
        crash_age_s=1800.0,
        crash_s=4 * 3600.0,
    )
    more = hazard.exposure(DRAWS_OTHERS, stretch, hazard.HALF_LIFE_H)
    assert (more.keep, more.age, more.part) == (0.5, 3, 1)
    known = hazard.exposed(DRAWS_OTHERS, more, here=True)
    assert known.crashes[3] == DRAWS_OTHERS.crashes[3] / 2 + 1
    assert known.hours[2] == DRAWS_OTHERS.hours[2] / 2 + 0.25
    elsewhere = hazard.exposed(DRAWS_OTHERS, more, here=False)
    assert elsewhere.crashes == tuple(it / 2 for it in DRAWS_OTHERS.crashes)


def test_a_mode_of_which_nothing_is_known_stays_so_while_others_run():
    """It has no numbers, and none are made up."""
    more = hazard.exposure(DRAWS_OTHERS, Stretch(), 1.0)
    assert hazard.exposed(NEVER, more, here=False) == NEVER


def test_crashes_soon_after_others_put_the_age_ahead():
    """Each crash is foretold before it is counted, so nothing is known twice."""
    known, ahead = a_hazard(8.0, 8.0, 8.0, 8.0, 0.05, ahead=0.0), []
    for _ in range(5):
        stretch = Stretch(
            aged_s=hazard.aged((), 300.0, 300.0),
            day_s=hazard.daily((), 300.0, 300.0),
            crash_age_s=300.0,
            crash_s=300.0,
        )
        known = hazard.exposed(known, hazard.exposure(known, stretch, 0.1), here=True)
        ahead.append(known.ahead)
    assert ahead == sorted(ahead)
    assert ahead[0] > 0


def test_an_entry_of_an_older_version_says_nothing_of_it():
    """Its log is replayed to the ledger that it had."""
    entry = Booking(at_s=3600.0, mode="medium", hours=1.0, crashes=1)
    assert learnt.booked(Ledger(), entry).modes["medium"].hazard == NEVER


def test_an_entry_with_it_can_be_written_and_read():
    """As a line of the log."""
    entry = Booking(
        at_s=1.0,
        mode="medium",
        exposure=Exposure(keep=1.0, ahead_keep=1.0, ahead=0.5, hours=HOURS, day_hours=DAY_HOURS),
    )
    assert msgspec.json.decode(msgspec.json.encode(entry), type=Booking) == entry
