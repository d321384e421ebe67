"""The oracle is the best that can be done, so that shares of its work mean something."""

import math
import statistics

import msgspec
import pytest

from supervisor.core.facts import StabilityLimits
from supervisor.simulation.families import FAMILIES, draw
from supervisor.simulation.life import Choice, live
from supervisor.simulation.oracle import oracle
from supervisor.simulation.rivals import POLICIES, Only, best
from supervisor.simulation.worlds import HOURS, Strike, constant


def kept_per_h(world, mode):
    """Work per hour of the clock at a constant hazard, by renewal-reward."""
    rate, tau = world.hazards[0][mode], world.checkpoint_h
    kept_h = tau / math.expm1(rate * tau)
    return world.work[mode] * kept_h / (1 / rate + world.downtime_h + world.start_h)


class AfterCrash(Only):
    """Light for a while after each crash, then medium."""

    def __init__(self, light_h):
        super().__init__(1)
        self.light_h = light_h

    def boot(self, seen_h, at_h, work):
        return Choice(0, at_h + self.light_h)


class WhileNew(Only):
    """Medium for a while after each boot, then light."""

    def __init__(self, medium_h):
        super().__init__(0)
        self.medium_h = medium_h

    def begin(self):
        return Choice(1, self.medium_h)

    def boot(self, seen_h, at_h, work):
        return Choice(1, at_h + self.medium_h)


@pytest.mark.parametrize("medium", [0.05, 1.0, 3.0, 4.4, 5.2, 8.0, 40.0])
def test_it_takes_the_mode_that_renewal_theory_prefers(medium):
    """At a constant hazard it stays in one mode: the one whose closed form is larger."""
    world = constant((1.0, 2.0), (0.05, medium), downtime_h=0.2)
    better = int(kept_per_h(world, 1) > kept_per_h(world, 0))
    life = live(world, oracle(world))
    assert life.hours[better] > 0.99 * sum(life.hours)


def test_it_knows_when_the_weather_changes():
    """It is in medium while that is safe, and in light before the bad hours begin."""
    world = msgspec.structs.replace(
        constant((1.0, 2.0), (0.0, 0.0)),
        edges_h=(100.0, 200.0),
        hazards=((0.0, 0.01), (0.0, 30.0), (0.0, 0.01)),
    )
    life = live(world, oracle(world))
    inside = [part for part in life.stretches if part.from_h > 100.1 and part.to_h < 199.9]
    assert life.crashes <= 12
    assert all(part.mode == 0 for part in inside)
    assert life.hours[0] == pytest.approx(100, abs=2)


def test_a_burst_that_is_shorter_than_the_change_is_sat_out():
    """For twelve bad minutes nobody changes the mode for half an hour and back."""
    world = msgspec.structs.replace(
        constant((1.0, 2.0), (0.0, 0.0), switch_h=0.5),
        edges_h=(100.0, 100.2),
        hazards=((0.0, 0.0), (0.0, 2.0), (0.0, 0.0)),
    )
    assert live(world, oracle(world)).hours[0] == 0


def test_it_idles_where_running_only_stirs():
    """Where every run dies before its first checkpoint, and stirs the next, rest is better."""
    world = msgspec.structs.replace(
        constant((1.0, 1.2), (0.01, 0.02), checkpoint_h=0.3, downtime_h=0.5),
        stirs=(6.0, 60.0),
        stir_h=1.0,
        days=200.0,
    )
    life = live(world, oracle(world))
    assert sum(part.mode is None for part in life.stretches) > 20
    assert life.work > max(live(world, Only(mode)).work for mode in (0, 1))


@pytest.mark.parametrize(
    "family", ["marginal", "drift", "medium bursts", "three rungs", "dies young", "mixed units"]
)
def test_it_keeps_on_average_what_it_expects_to_keep(family):
    """Two routes to one number: backward induction, and the mean of many lives."""
    world = draw(family, 13, 2)
    pilot = oracle(world)
    kept = [live(msgspec.structs.replace(world, seed=f"s{i}"), pilot).work for i in range(60)]
    error = statistics.stdev(kept) / math.sqrt(len(kept))
    assert statistics.mean(kept) == pytest.approx(pilot.expected, abs=4 * error, rel=0.002)


@pytest.mark.parametrize(
    ("family", "index"), [("self-exciting", 0), ("self-exciting", 3), ("wear-out", 0)]
)
def test_a_long_life_keeps_the_gain_that_it_expects(family, index):
    """Where there is no calendar, the mean gain of years is that of the induction."""
    world = draw(family, 13, index)
    assert world.stirs or world.wears
    pilot = oracle(world)
    long = msgspec.structs.replace(world, days=2000.0)
    assert live(long, pilot).work / 2000 == pytest.approx(pilot.expected / world.days, rel=0.015)


@pytest.mark.parametrize("index", range(6))
def test_no_wait_after_crashes_beats_it_on_self_exciting_machines(index):
    """Light for some time after each crash, however long, keeps less on a stirred machine."""
    world = msgspec.structs.replace(draw("self-exciting", 11, index), days=300.0)
    kept = live(world, oracle(world)).work
    rivals = [live(world, AfterCrash(hours)).work for hours in (0.0, 0.25, 0.5, 1, 2, 4, 8, 1e9)]
    assert kept > 0.98 * max(rivals)


@pytest.mark.parametrize("index", range(6))
def test_no_retreat_before_wear_beats_it_on_machines_that_wear_out(index):
    """Medium for some time after each boot, however long, keeps less."""
    worn = [world for i in range(30) if (world := draw("wear-out", 11, i)).wears]
    world = msgspec.structs.replace(worn[index], days=300.0)
    kept = live(world, oracle(world)).work
    rivals = [live(world, WhileNew(hours)).work for hours in (0.5, 1, 2, 4, 8, 16, 1e9)]
    assert kept > 0.98 * max(rivals)


def test_nobody_beats_it_beyond_luck():
    """Over many machines of every kind, no policy keeps more."""
    shares = {name: [] for name in ("light only", "heaviest only", "bandit", "ledger")}
    for family in FAMILIES:
        for index in range(2):
            world = draw(family, 12, index)
            most = live(world, oracle(world)).work
            for name, mine in shares.items():
                life = live(world, POLICIES[name](world, StabilityLimits()))
                mine.append(life.work / most)
    for mine in shares.values():
        assert statistics.mean(mine) < 1
        assert max(mine) < 1.05


def test_for_a_trace_the_best_mode_in_hindsight_is_the_measure():
    """It stays in heavy if what it brings outweighs the crashes of the trace, else in light."""
    few = tuple(Strike(float(day * 24 + 1), 0.0) for day in range(29))
    many = tuple(Strike(minute / 30, 0.0) for minute in range(1, int(HOURS * 30)))
    for strikes, mode in ((few, 1), (many, 0)):
        world = constant((1.0, 2.0), (0.0, 0.0), strikes=strikes, struck=1)
        life = live(world, best(world))
        assert life.hours[1 - mode] == 0
