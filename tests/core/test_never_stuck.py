"""No mode is given up for good, whatever the one below it does."""

import pytest

from supervisor.core import policy
from supervisor.core.facts import StabilityLimits
from testkit.builders import HOUR_S
from testkit.written_life import WrittenLife

DAY_H = 24.0


@pytest.fixture
def shaky():
    """A machine that crashes every 42 minutes, whatever it does, and trains in medium."""
    life = WrittenLife().train(1.05)
    for _ in range(4):
        _shake(life)
    assert life.memory.goal.mode == "medium"
    return life


def _shake(life):
    life.crash(cost_s=300.0, off_s=120.0).train(0.7)


def _until_medium(life, most_h):
    """Hours of running until medium is tried again, while every hour has its crash."""
    ran_h = 0.0
    while life.memory.goal.mode == "light":
        assert ran_h < most_h, "medium is given up"
        _shake(life)
        ran_h += 0.7
    return ran_h


@pytest.mark.parametrize("kind", ["scale_down", "forbid"])
def test_what_a_person_has_left_is_tried_again_without_an_hour_of_calm(shaky, kind):
    """Nothing is held against medium, and light is never calm: an hour of running is enough."""
    shaky.request(kind, "medium" if kind == "forbid" else None)
    if kind == "forbid":
        shaky.request("allow", "medium")
    assert shaky.memory.goal.mode == "light"
    assert _until_medium(shaky, 3.0) >= 1.0


def test_after_an_absence_medium_comes_back_without_an_hour_of_calm(shaky):
    """The same where the machine was off for more than a day."""
    shaky.crash(off_s=30 * HOUR_S)
    assert shaky.memory.goal.mode == "light"
    assert _until_medium(shaky, 3.0) >= 1.0


def test_a_hopeless_mode_is_tried_within_a_day_even_where_light_is_never_calm():
    """Medium died at once, light dies hourly: medium may have been repaired meanwhile."""
    life = WrittenLife().train(1.05)
    while life.memory.goal.mode == "medium":
        life.crash().train(0.02)
    assert _until_medium(life, DAY_H + 1.0) > DAY_H / 2


def test_that_day_is_foreseen_and_said():
    """What comes next is told to the second, and the reason is no hour of calm."""
    life = WrittenLife().train(1.05)
    while life.memory.goal.mode == "medium":
        life.crash().train(0.02)
    while (facts := life.facts()).running_s < 23.5 * HOUR_S:
        _shake(life)
    due_s = DAY_H * HOUR_S - facts.running_s
    assert policy.forecast(facts).in_s == pytest.approx(due_s)
    assert policy.wake_in_s(facts) == pytest.approx(due_s)
    life.train(due_s / HOUR_S + 0.001)
    reason = life.lines[-1]["reason"]
    assert life.memory.goal.mode == "medium"
    assert reason.startswith("24.0 h in light without 60 min of calm: up to medium")


def test_the_guides_rule_waits_for_calm_as_it_says():
    """`fixed` knows no such day."""
    life = WrittenLife(StabilityLimits(name="fixed"))
    for _ in range(60):
        _shake(life)
    assert life.memory.goal.mode == "light"
