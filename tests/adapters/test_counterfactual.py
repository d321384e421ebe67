"""What another policy would have made of the past: an estimate with known ends."""

import msgspec
import pytest

from supervisor.core.facts import StabilityLimits
from supervisor.counterfactual import TooLittle, past, relived
from testkit.written_life import WrittenLife

LEDGER, FIXED = StabilityLimits(), StabilityLimits(name="fixed")
NEVER = StabilityLimits(name="fixed", stable_min=500_000.0)
"""light for ever"""


def a_bad_medium():
    """Light never crashes; medium does so every six minutes, and `fixed` goes back to it."""
    life = WrittenLife(FIXED)
    life.train(1.01)
    for _ in range(6):
        for _ in range(4):
            life.train(0.1).crash()
        life.train(1.01)
    return life


def test_the_past_is_read_from_the_log():
    """Hours in each mode, crashes with their modes, and downtimes stand in the lines."""
    told = past(a_bad_medium().lines)
    assert told.ladder == ("light", "medium")
    assert told.trained_h[0] == pytest.approx(7 * 1.0, abs=0.05)
    assert told.trained_h[1] == pytest.approx(6 * 0.4, abs=0.1)
    assert [rung for _, rung in told.crashes] == [1] * 24
    assert told.down_h * 3600 == pytest.approx(260.0)
    assert told.work == pytest.approx((1.0, 2.0), rel=0.05)
    assert told.rates[0] < 0.1
    assert told.rates[1] > 9.0


def test_the_same_policy_lives_the_same_life():
    """Against itself nothing differs, and what it lives is near to what was recorded."""
    told = past(a_bad_medium().lines)
    lived = relived(told, FIXED, FIXED, 5)
    assert (lived.work_ratio, lived.parts_h) == (1.0, None)
    assert lived.logged == lived.other
    assert lived.logged.crashes == pytest.approx(lived.recorded_crashes, rel=0.3)
    assert lived.logged.hours[1] == pytest.approx(lived.recorded_hours[1], rel=0.4)


def test_a_policy_that_never_climbs_is_spared_the_crashes_of_the_heavier_mode():
    """Crashes that came in medium come to light as rarely as light has crashed."""
    lived = relived(past(a_bad_medium().lines), FIXED, NEVER, 10)
    assert lived.other.crashes < 2
    assert lived.other.hours[1] == 0
    assert lived.parts_to == ("medium", "light")
    assert lived.work_ratio > 1, "medium cost more than it brought"


def test_lives_that_come_out_differently_part_at_some_time():
    """In whichever of the lives: chance may let the first one be the same under both."""
    life = WrittenLife().train(2)
    for _ in range(4):
        life.crash(cost_s=900).train(0.15)
    life.train(3)
    for _ in range(3):
        life.crash(cost_s=700).train(0.3)
    told = past(life.train(20).lines)
    other = msgspec.structs.replace(LEDGER, crash_price_min=60.0)
    lived = [relived(told, LEDGER, other, lives) for lives in (1, 10)]
    assert [one.parts_h is None for one in lived] == [True, False]
    assert [one.logged == one.other for one in lived] == [True, False]


def test_a_policy_that_learns_does_better_on_a_machine_that_never_changes():
    """`ledger` stops trying what always fails; the interval says how much of that is chance."""
    lived = relived(past(a_bad_medium().lines), FIXED, LEDGER, 10)
    assert lived.other.crashes < lived.logged.crashes
    assert lived.work_ratio_low > 1


def test_a_heavier_mode_than_that_of_the_log_crashes_as_it_was_learnt_to():
    """Where the log says nothing of medium at that hour, its own rate decides."""
    eager = StabilityLimits(name="fixed", stable_min=1.0, crashes_max=99, cool_down_min=1.0)
    lived = relived(past(a_bad_medium().lines), FIXED, eager, 10)
    assert lived.other.hours[1] > 2 * lived.logged.hours[1]
    assert lived.other.crashes > 2 * lived.logged.crashes


def test_a_pause_is_left_out():
    """Time in which a person wanted nothing is no part of the past."""
    life = WrittenLife(FIXED).train(2.0).request("pause")
    life.memory = msgspec.structs.replace(life.memory, running=False)
    life.train(10.0).request("resume")
    assert past(life.lines).hours == pytest.approx(2.0)


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        ([], "no decision"),
        ([{"seq": 1, "now_s": 0.0, "event": "boot.recorded"}], "no decision"),
    ],
)
def test_a_log_without_a_decision_cannot_be_lived(lines, why):
    """There is no ladder to climb."""
    with pytest.raises(TooLittle, match=why):
        past(lines)


def test_a_log_of_absurd_times_is_refused():
    """A place on the timeline that no machine reaches is no past."""
    life = WrittenLife(FIXED).train(1.5)
    with pytest.raises(TooLittle, match="ten years"):
        past([*life.lines, {**life.lines[-1], "now_s": 1e300}])
