"""The rival that believes in machines reckons as the closed forms do, and acts upon it."""

import math

import msgspec
import numpy as np
import pytest

from supervisor.core.facts import StabilityLimits
from supervisor.simulation.families import draw
from supervisor.simulation.life import live
from supervisor.simulation.oracle import oracle
from supervisor.simulation.rivals import POLICIES, making_way
from supervisor.simulation.worlds import constant
from testkit.benchmarks import benchmark

bayes = benchmark("bayes")
Machine = bayes.Machine

TURNS = Machine((0.01, 0.5), (0.1, 6.0), 1 / 12, 1 / 3)
KICKED = Machine((0.01, 0.5), (0.1, 6.0), 0.0, 1 / 3, 0.7)
GOOD, BAD = Machine((0.01, 0.01), (0.02, 0.02)), Machine((0.01, 0.01), (20.0, 20.0))


def belief(*machines):
    return bayes.Belief(bayes.Machines(dict.fromkeys(machines, 1 / len(machines))))


def for_ever(rate, speed, cost_h):
    """Discounted work of a mode that is never left: V = speed G + rate G exp(-cost / H) V."""
    time = 1 / (1 / bayes.HORIZON_H + rate)
    return speed * time / (1 - rate * time * math.exp(-cost_h / bayes.HORIZON_H))


@pytest.mark.parametrize("machine", [TURNS, KICKED, GOOD])
@pytest.mark.parametrize("within", [True, False, None])
def test_the_way_through_an_hour_is_that_of_many_short_steps(machine, within):
    """The exponential by its eigenvalues agrees with the differential equation, step by step."""
    machines = bayes.Machines({machine: 1.0})
    a_step = (machines.turns[within][0] - np.diag(machines.rates[within][0])) / 2**20
    steps = np.linalg.matrix_power(np.eye(2) + a_step, 2**20)
    assert machines.passage(1.0, within=within)[0] == pytest.approx(steps, rel=1e-4, abs=1e-12)


@pytest.mark.parametrize("rate", [0.02, 1.0, 9.0])
@pytest.mark.parametrize("cost_h", [0.05, 0.6])
def test_who_knows_the_machine_reckons_as_the_closed_form_does(rate, cost_h):
    """Where one machine is known, there is nothing to learn: the better mode for ever."""
    known = belief(Machine((0.1, 0.1), (rate, rate)))
    stays, climbs = known.worth(1.0, 2.0, cost_h)
    low, high = for_ever(0.1, 1.0, cost_h), for_ever(rate, 2.0, cost_h)
    assert max(stays, climbs) == pytest.approx(max(low, high), rel=1e-9)
    assert (climbs > stays) == (high > low)


def test_the_odds_are_those_of_two_poisson_processes(monkeypatch):
    """Three crashes in two hours speak for two steady machines as their likelihoods say."""
    monkeypatch.setattr(bayes, "FORGET_H", math.inf)
    monkeypatch.setattr(bayes, "FORGET_CRASHES", math.inf)
    one, other = 0.5, 2.0
    seen = belief(Machine((0, 0), (one, one)), Machine((0, 0), (other, other)))
    for hours in (0.3, 1.1, 0.6):
        seen.passes(hours, within=True)
        seen.crashes(within=True)
        seen.passes(0.4, within=None)
    first, second = seen.weights.sum(axis=1)
    assert first / second == pytest.approx((one / other) ** 3 * math.exp((other - one) * 2.0))


def test_a_belief_is_never_more_nor_less_than_certain():
    """Whatever comes, the probabilities of all machines in all states add up to 1."""
    seen = bayes.Belief(bayes.Machines(bayes.grid()))
    assert seen.weights.sum() == pytest.approx(1)
    for hours in (1e-4, 0.02, 700.0, 0.0, 3.0):
        for within in (True, False):
            seen.passes(hours, within=within)
            seen.crashes(within=within)
            seen.passes(hours, within=None)
            assert (seen.weights >= 0).all()
            assert seen.weights.sum() == pytest.approx(1)


@pytest.mark.parametrize("machine", [TURNS, KICKED])
def test_a_crash_makes_it_likelier_that_the_machine_is_ill(machine):
    """Calm speaks for a well machine, a crash for an ill one, and who rests recovers."""
    seen = belief(machine)
    seen.passes(1.0, within=True)
    calm = seen.ill
    assert calm <= machine.ill
    seen.crashes(within=True)
    upset = seen.ill
    assert upset > calm + 0.4
    seen.passes(24.0, within=None)
    assert seen.ill == pytest.approx(machine.ill, abs=0.01)


def test_who_has_been_told_wrongly_finds_out():
    """What is certain by thousands of crashes is doubted after two days of calm."""
    seen = belief(GOOD, BAD)
    for _ in range(2_000):
        seen.passes(0.05, within=True)
        seen.crashes(within=True)
    assert seen.weights[1].sum() > 0.99
    seen.passes(48.0, within=True)
    assert seen.weights[0].sum() > 0.5


def test_a_trial_is_worth_what_may_come_of_it(monkeypatch):
    """For ever, medium is a loss by what is believed, but a crash ends a trial: so it is tried."""
    cost_h = 0.3
    stay, good, bad = (
        for_ever(rate, speed, cost_h) for rate, speed in ((0.01, 1), (0.02, 2), (20, 2))
    )
    share = 0.25
    assert share * good + (1 - share) * bad < stay
    doubtful = bayes.Machines({GOOD: share, BAD: 1 - share})
    stays, climbs = bayes.Belief(doubtful).worth(1.0, 2.0, cost_h)
    assert climbs > stays
    # Who has but minutes left learns nothing that could be used.
    monkeypatch.setattr(bayes, "HORIZON_H", 0.3)
    doubtful = bayes.Machines({GOOD: share, BAD: 1 - share})
    stays, climbs = bayes.Belief(doubtful).worth(1.0, 2.0, cost_h)
    assert climbs < stays


def test_of_two_machines_it_is_soon_known_which_one_this_is():
    """On the one that hardly crashes it never leaves medium; on the other it is soon in light."""
    machines = bayes.Machines({GOOD: 0.5, BAD: 0.5})
    calm = constant((1.0, 2.0), (0.0, 0.0), days=5.0)
    life = live(calm, bayes.Bayes(calm, machines))
    assert life.hours[0] == 0
    assert life.hours[1] > 119
    hopeless = constant((1.0, 2.0), (0.0, 20.0), days=5.0)
    life = live(hopeless, bayes.Bayes(hopeless, machines))
    assert life.hours[1] < 1
    assert life.hours[0] > 118


def test_who_sees_no_hazard_keeps_no_more_than_who_does():
    """Luck may favour it on one machine; over some of each kind the oracle keeps as much."""
    machines = bayes.Machines(bayes.grid())
    for family in ("hopeless", "medium bursts", "change points", "self-exciting"):
        ours = theirs = 0.0
        for index in range(3):
            world = msgspec.structs.replace(draw(family, 9, index), days=6.0)
            best = live(world, oracle(world)).work
            ours += live(world, bayes.Bayes(world, machines)).work / best
            theirs += live(world, POLICIES["light only"](world, StabilityLimits())).work / best
        assert theirs / 3 - 0.1 < ours / 3 < 1.02, family


def test_it_makes_way_and_climbs_ladders_of_three():
    """Machines that others need, and ladders of three, are led by it as by other rivals."""
    machines = bayes.Machines(bayes.grid())
    shared = msgspec.structs.replace(draw("foreign load", 9, 0), days=5.0)
    life = live(shared, making_way(shared, bayes.Bayes(shared, machines)))
    assert sum(life.hours) < 118
    good = constant((1.0, 1.5, 2.5), (0.01, 0.02, 0.03), days=5.0)
    assert live(good, bayes.Bayes(good, machines)).hours[2] > 110
