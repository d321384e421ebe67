"""Simulated lives beside closed forms, and the real decision code beside the guide."""

import math
from itertools import pairwise

import msgspec
import pytest

from supervisor.core.facts import StabilityLimits
from supervisor.simulation.families import draw
from supervisor.simulation.life import Supervised, live
from supervisor.simulation.rivals import POLICIES, BackOff, Only, Thompson
from supervisor.simulation.worlds import Strike, constant

FIXED = StabilityLimits(name="fixed")
MINUTE_H = 1 / 60


def fixed(world):
    return Supervised(world, FIXED)


def kept_per_h(world, mode):
    """Work per hour of the clock at a constant hazard, by renewal-reward.

    A cycle is a run X ~ Exp(rate), a downtime and a start-up; it keeps X less X mod tau,
    whose mean is 1/rate - tau / (exp(rate tau) - 1).
    """
    rate, tau = world.hazards[0][mode], world.checkpoint_h
    kept_h = tau / math.expm1(rate * tau)
    return world.work[mode] * kept_h / (1 / rate + world.downtime_h + world.start_h)


def moves(life):
    """(hour, mode) of each change of the mode."""
    changes = []
    for part in life.stretches:
        if not changes or part.mode != changes[-1][1]:
            changes.append((round(part.from_h, 3), part.mode))
    return changes


@pytest.mark.parametrize(("rate", "downtime_h"), [(0.2, 0.5), (2.0, 0.1), (20.0, 0.05)])
def test_one_mode_keeps_what_renewal_theory_says(rate, downtime_h):
    """Work and crashes of a long life at a constant hazard agree with their closed forms."""
    world = constant((1.0, 1.7), (0.01, rate), downtime_h=downtime_h, days=200.0)
    life = live(world, Only(1))
    cycle_h = 1 / rate + world.downtime_h + world.start_h
    crashes = 4_800 / cycle_h
    # Three standard errors of a renewal process, whose intervals vary less than exponentially.
    assert life.crashes == pytest.approx(crashes, abs=3 * math.sqrt(crashes))
    assert life.work == pytest.approx(4_800 * kept_per_h(world, 1), rel=3 / math.sqrt(crashes))
    assert life.hours[0] == 0
    assert life.hours[1] == pytest.approx(life.crashes / rate, rel=3 / math.sqrt(crashes))


@pytest.mark.parametrize(("name", "mode"), [("light only", 0), ("heaviest only", 2)])
def test_who_knows_one_mode_stays_in_it(name, mode):
    """Whatever comes, only that mode is ever run."""
    world = draw("three rungs", 5, 1)
    life = live(world, POLICIES[name](world, FIXED))
    assert [hours > 0 for hours in life.hours] == [rung == mode for rung in range(3)]


def test_nothing_is_kept_of_what_no_checkpoint_holds():
    """A machine that dies sooner than the first checkpoint comes never gets anywhere."""
    world = constant(
        (1.0,),
        (0.0,),
        checkpoint_h=0.5,
        strikes=tuple(Strike(hour / 2, 0.02) for hour in range(1, 1440)),
    )
    life = live(world, Only(0))
    assert life.crashes == 1439
    assert life.work < 1


def test_the_first_three_days_are_the_beginning():
    """Without a crash they bring 72 hours less the start-up, wherever a stretch ends."""
    world = constant((1.0,), (0.0,), start_h=0.5)
    life = live(world, Only(0))
    assert life.first_work == pytest.approx(71.5)
    assert life.work == pytest.approx(719.5)


def test_a_change_of_the_mode_costs_its_time():
    """Climbing after an hour, `fixed` loses what the trainers need to come back, once."""
    world = constant((1.0, 2.0), (0.0, 0.0), start_h=0.0, switch_h=0.25)
    life = live(world, fixed(world))
    assert moves(life) == [(0.0, 0), (1.25, 1)]
    assert life.work == pytest.approx(1 + 2 * (720 - 1.25))


def test_scenario_b_of_the_guide_is_lived_through():
    """Medium after an hour; four crashes within the next: light; medium again an hour later."""
    storm = tuple(Strike(1 + minute * MINUTE_H, 1e-6) for minute in (8, 23, 38, 53))
    quick = {"start_h": 0.0, "switch_h": 0.0, "downtime_h": 1e-6}
    world = constant((1.0, 2.0), (0.0, 0.0), strikes=storm, struck=1, **quick)
    life = live(world, fixed(world))
    assert life.crashes == 4
    assert moves(life) == [(0.0, 0), (1.0, 1), (round(1 + 53 / 60, 3), 0), (2.883, 1)]


class Restless(Supervised):
    """Ours, looking every five minutes whether or not anything can be decided."""

    def _decide(self, at_h):
        choice = super()._decide(at_h)
        return choice._replace(until_h=min(choice.until_h, at_h + 5 * MINUTE_H))


@pytest.mark.parametrize("family", ["change points", "boot loop", "self-exciting"])
def test_nothing_is_missed_between_two_events(family):
    """Whoever looks every five minutes, as the daemon does, changes the mode at the same times."""
    world = draw(family, 5, 1)
    life = live(world, fixed(world))
    times, modes = zip(*moves(life), strict=True)
    restless_times, restless_modes = zip(*moves(live(world, Restless(world, FIXED))), strict=True)
    assert len(modes) > 20
    assert restless_modes == modes
    assert restless_times == pytest.approx(times, abs=0.002)


def test_looking_often_teaches_the_ledger_the_same():
    """It fades what it knows at every look, which makes a small difference, and no other."""
    world, limits = draw("change points", 5, 1), StabilityLimits()
    life, restless = (live(world, pilot(world, limits)) for pilot in (Supervised, Restless))
    assert restless.work == pytest.approx(life.work, rel=0.01)
    assert restless.crashes == pytest.approx(life.crashes, rel=0.1)


def test_fixed_idles_on_a_machine_that_dies_even_in_light():
    """After four boots that died at once nothing trains for ten minutes, then longer."""
    world = constant(
        (1.0, 2.0), (0.0, 0.0), strikes=tuple(Strike(n / 60, 1e-4) for n in range(2, 60))
    )
    life = live(world, fixed(world))
    idle_h = [part.to_h - part.from_h for part in life.stretches if part.mode is None]
    assert idle_h[:2] == pytest.approx([1 / 6, 1 / 3], rel=0.01)


def test_both_of_ours_climb_a_calm_machine_after_an_hour():
    """`ledger` begins as `fixed` does."""
    world = constant((1.0, 2.0), (0.0, 0.0), start_h=0.0)
    for name in ("fixed", "ledger"):
        life = live(world, POLICIES[name](world, StabilityLimits()))
        assert moves(life)[1] == (1.02, 1)


def test_the_ledger_is_taught_by_the_life():
    """After a month of crashes it knows how fast medium is, and what a crash costs."""
    world = msgspec.structs.replace(
        constant((1.0, 2.0), (0.02, 0.6), seed="t", downtime_h=0.5), nominal=(1.0, 1.3)
    )
    pilot = Supervised(world, StabilityLimits())
    life = live(world, pilot)
    ledger = pilot.memory.ledger
    medium = ledger.modes["medium"]
    (kept,) = medium.work.values()
    assert life.hours[1] > 500
    assert kept.steps / kept.hours == pytest.approx(2.0)
    costs_h = [cost_s / 3600 for cost_s in ledger.costs_s]
    assert sum(costs_h) / len(costs_h) == pytest.approx(world.crash_cost_h, rel=0.2)


def test_back_off_waits_twice_as_long_after_each_failure():
    """On a hopeless machine its visits to medium grow rarer, up to one a day."""
    world = constant((1.0, 2.0), (0.0, 20.0), start_h=0.0, switch_h=0.0, days=10.0)
    life = live(world, BackOff(world, FIXED))
    entered = [hour for hour, mode in moves(life) if mode == 1]
    waits = [b - a for a, b in pairwise(entered)]
    assert waits[:4] == pytest.approx([1.5, 2.5, 4.5, 8.5], abs=0.8)
    assert waits[-1] == pytest.approx(24.5, abs=0.8)
    assert life.crashes < live(world, fixed(world)).crashes / 5


def test_the_bandit_finds_the_better_of_two_modes():
    """Where nothing changes it soon stays in the better one, be that light or medium."""
    worth = constant((1.0, 2.0), (0.01, 0.3), seed="w")
    hopeless = constant((1.0, 2.0), (0.01, 30.0), seed="w")
    assert live(worth, Thompson(worth)).hours[1] > 650
    assert live(hopeless, Thompson(hopeless)).hours[0] > 650


def test_equal_worlds_give_equal_lives():
    """Every policy lives the same life twice, to the last bit."""
    world = draw("self-exciting", 2, 3)
    for make in POLICIES.values():
        assert live(world, make(world, FIXED)) == live(world, make(world, FIXED))
