"""The machines of the simulator crash as their hazards say."""

import statistics
from collections import Counter
from itertools import pairwise

import msgspec
import pytest

from supervisor.core.facts import StabilityLimits
from supervisor.simulation.families import FAMILIES, HARD, draw
from supervisor.simulation.life import Supervised, live
from supervisor.simulation.rivals import POLICIES, Only, best
from supervisor.simulation.worlds import (
    HOURS,
    Fate,
    Measured,
    Strike,
    constant,
    likely,
)

DRAWN = 60
"""how many worlds of a family are looked at"""


def drawn(family):
    return [draw(family, 7, index) for index in range(DRAWN)]


def kept_per_h(world, mode, hazard=None):
    """Work per hour of the clock in one mode, while its hazard is what it is now."""
    hazard = world.hazards[0][mode] if hazard is None else hazard
    lost = hazard * world.checkpoint_h / 2
    return world.work[mode] * (1 - lost) / (1 + hazard * (world.downtime_h + world.start_h))


def hazards_of(world, mode):
    return [piece[mode] for piece in world.hazards]


def gaps(world, mode=1):
    """Running hours from each boot to the crash that ended it."""
    life = live(world, Only(mode))
    return [part.to_h - part.from_h for part in life.stretches[:-1]]


@pytest.mark.parametrize("family", FAMILIES | HARD)
def test_equal_numbers_draw_an_equal_world(family):
    """A world is known by its family, its seed and its index alone."""
    assert draw(family, 3, 4) == draw(family, 3, 4)
    assert draw(family, 3, 4) != draw(family, 3, 5)
    assert draw(family, 3, 4) != draw(family, 4, 4)


@pytest.mark.parametrize("family", FAMILIES | HARD)
def test_every_world_is_possible(family):
    """No hazard is negative, every mode brings something, and the weather covers the life."""
    for world in drawn(family):
        assert world.family == family
        assert all(rate >= 0 for piece in world.hazards for rate in piece)
        assert all(len(piece) == world.rungs for piece in world.hazards)
        assert min(world.work) > 0
        assert list(world.edges_h) == sorted(set(world.edges_h))
        assert len(world.edges_h) + 1 == len(world.hazards)
        assert all(0 < edge < HOURS for edge in world.edges_h)


def test_calm_machines_hardly_ever_crash():
    """In either mode a calm machine crashes less than twice a day."""
    assert max(rate for world in drawn("calm") for rate in world.hazards[0]) < 2 / 24


def test_marginal_machines_gain_or_lose_a_fifth():
    """In medium a marginal machine keeps between four and five quarters of light's work."""
    gains = [kept_per_h(world, 1) / kept_per_h(world, 0) for world in drawn("marginal")]
    assert 0.78 < min(gains) < 0.95
    assert 1.05 < max(gains) < 1.27


def test_costly_machines_take_twenty_minutes_to_come_back():
    """Three of their reboots fill an hour."""
    assert min(world.downtime_h for world in drawn("costly")) >= 1 / 3


@pytest.mark.parametrize(("family", "minutes"), [("hopeless", 10), ("boot loop", 3)])
def test_hopeless_machines_die_within_minutes(family, minutes):
    """In medium they last for minutes, and light is always better."""
    for world in drawn(family):
        assert 60 / world.hazards[0][1] <= minutes
        assert kept_per_h(world, 1) < kept_per_h(world, 0)
        assert world.hazards[0][0] < 1 / 20


def test_drifting_machines_go_from_good_to_bad_or_back():
    """Their hazard only ever grows, or only ever falls, and each happens."""
    ways = Counter()
    for world in drawn("drift"):
        rates = hazards_of(world, 1)
        ways[rates[0] < rates[-1]] += 1
        assert rates in (sorted(rates), sorted(rates, reverse=True))
        assert max(rates) > 10 * min(rates)
    assert min(ways.values()) > DRAWN / 4


def test_change_points_turn_medium_bad_and_good_again():
    """From piece to piece medium changes sides: worth it, not worth it, worth it."""
    for world in drawn("change points"):
        better = [
            kept_per_h(world, 1, rate) > kept_per_h(world, 0) for rate in hazards_of(world, 1)
        ]
        assert 2 <= len(better) <= 7
        assert all(one is not other for one, other in pairwise(better))


def test_common_storms_hit_light_as_hard():
    """In a storm light crashes at least three quarters as often as medium does."""
    for world in drawn("common storms"):
        storms = [piece for piece in world.hazards if piece[0] > 1]
        assert len(storms) >= 4
        assert all(light > 0.75 * medium for light, medium in storms)


@pytest.mark.parametrize("family", ["medium bursts", "time of day"])
def test_bursts_are_of_medium_alone(family):
    """Light never notices; medium is worth it most of the time and is not in a burst."""
    for world in drawn(family):
        assert len(set(hazards_of(world, 0))) == 1
        worth = {kept_per_h(world, 1, rate) > kept_per_h(world, 0) for rate in hazards_of(world, 1)}
        assert worth == {True, False}


def test_the_time_of_day_repeats_every_day():
    """What the hazard is now it is at the same hour of another day."""
    for world in drawn("time of day"):
        for hour in (30.5, 37.5, 45.5):
            assert world.at(hour) == world.at(hour + 24 * 9)


def test_crashes_of_a_self_exciting_machine_come_in_clusters():
    """Counted in windows of six hours they vary more than a Poisson process would."""
    spread = []
    for world in drawn("self-exciting"):
        counts = Counter(int(hour / 6) for hour in live(world, Only(1)).crashes_h)
        windows = [counts[window] for window in range(int(HOURS / 6))]
        if sum(windows) > 20:
            spread.append(statistics.variance(windows) / statistics.mean(windows))
    assert statistics.median(spread) > 2


def test_a_machine_that_wears_out_crashes_more_evenly_than_chance():
    """Its lives are more alike than exponential ones, which vary by as much as their mean."""
    worn = [world for world in drawn("wear-out") if world.wears]
    assert DRAWN / 3 < len(worn) < DRAWN
    spread = []
    for world in worn:
        lives = gaps(msgspec.structs.replace(world, days=120.0))
        if len(lives) > 20:
            spread.append(statistics.stdev(lives) / statistics.mean(lives))
    assert statistics.median(spread) < 0.75


def test_a_serviced_machine_is_as_new():
    """The other kind that wears out is made new every few days, whatever was done."""
    serviced = [world for world in drawn("wear-out") if not world.wears]
    for world in serviced:
        rates = hazards_of(world, 1)
        drops = sum(b < a / 5 for a, b in pairwise(rates))
        assert 2 <= drops <= 10


def test_where_nothing_is_gained_medium_promises_all_the_same():
    """Medium keeps no more than light, and its file says that it keeps more."""
    for world in drawn("no gain"):
        assert kept_per_h(world, 1) < kept_per_h(world, 0)
        assert world.promised[1] >= 1.5


def test_where_both_are_unstable_medium_is_worth_it():
    """Light crashes every two hours or more often, and medium keeps more all the same."""
    worlds = drawn("both unstable")
    assert min(world.hazards[0][0] for world in worlds) >= 0.5
    better = sum(kept_per_h(world, 1) > kept_per_h(world, 0) for world in worlds)
    assert better > 0.9 * DRAWN


def test_of_three_rungs_each_may_be_the_best():
    """Sometimes the heaviest mode is the best, sometimes the middle, sometimes the lightest."""
    best = Counter(
        max(range(3), key=lambda mode: kept_per_h(world, mode)) for world in drawn("three rungs")
    )
    assert set(best) == {0, 1, 2}


# The hard kinds.


def test_a_supercritical_machine_in_its_heaviest_mode_keeps_a_third():
    """Each crash draws more than one other, and light grows calm."""
    worlds = drawn("supercritical")
    assert all(world.stirs[1] * world.stir_h >= 1 for world in worlds)
    assert all(4 <= world.stirs[1] <= 14 for world in worlds)
    assert all(0.25 <= world.stir_h <= 1 for world in worlds)
    shares = [live(world, Only(1)).work / live(world, best(world)).work for world in worlds[:20]]
    assert 0.2 < statistics.mean(shares) < 0.5


def test_a_mode_that_dies_young_is_repaired_after_days():
    """Broken it lasts for minutes, for a day at least; else it is the better one."""
    for world in drawn("dies young"):
        edges_h = (0.0, *world.edges_h, HOURS)
        for (begin_h, end_h), hazards in zip(pairwise(edges_h), world.hazards, strict=True):
            if hazards[1] > 1:
                assert 60 / hazards[1] <= 6
                assert end_h - begin_h > 23 or end_h == HOURS
                assert kept_per_h(world, 1, hazards[1]) < kept_per_h(world, 0)
            else:
                assert kept_per_h(world, 1, hazards[1]) > kept_per_h(world, 0)


def test_slow_starts_take_one_to_three_minutes():
    """After a boot and for each move."""
    for world in drawn("slow starts"):
        assert 1 <= world.start_h * 60 <= 3
        assert 1 <= world.switch_h * 60 <= 3


def test_offices_are_closed_at_night_and_on_two_days_of_seven():
    """Medium is unbearable at noon from the first day to the fifth, and at no midnight."""
    for world in drawn("office hours"):
        good = world.at(0.5)
        for day in range(28):
            noon = world.at(day * 24 + 12.5)
            assert world.at(day * 24 + 0.5) == good
            assert (noon == good) is (day % 7 >= 5)
            if noon != good:
                assert kept_per_h(world, 1, noon[1]) < kept_per_h(world, 0, noon[0])


def test_under_foreign_load_everybody_makes_way_as_ours_does():
    """Whoever would go on beside others stands still, at the same moments."""
    for index in range(6):
        world = msgspec.structs.replace(draw("foreign load", 5, index), hazards=((0.0, 0.0),))
        pinned = msgspec.structs.replace(world, work=(1.0, 0.5))
        ours, theirs = (
            live(pinned, POLICIES[name](pinned, StabilityLimits(name="fixed", stable_min=1e6)))
            for name in ("fixed", "light only")
        )
        assert ours.hours[0] < 0.99 * HOURS
        assert theirs.hours[0] == pytest.approx(ours.hours[0], rel=0.01)


def test_runs_of_mixed_units_take_turns_and_each_is_told_in_its_own():
    """The ledger sees steps of each kind by themselves, and how quick medium is for each."""
    world = draw("mixed units", 5, 1)
    world = msgspec.structs.replace(world, hazards=((0.0, 0.0),))
    pilot = Supervised(world, StabilityLimits())
    life = live(world, pilot)
    told = pilot.memory.stretch.work
    assert set(told["medium"]) == {kind.name for kind in world.kinds}
    kept = 0.0
    for mode, kinds in told.items():
        for kind in world.kinds:
            if kind.name in kinds:
                known, speed = kinds[kind.name], kind.work[mode == "medium"]
                assert known.steps / known.hours == pytest.approx(kind.steps * speed)
                kept += known.steps / kind.steps
    assert 0.98 * life.work < kept <= life.work  # the last stretch is told to nobody


# Luck


def crash_times(world, mode, until_h=HOURS):
    fate, times = Fate(world), []
    while fate.run(mode, until_h):
        times.append(fate.now_h)
        fate.crash()
    return times


def test_luck_is_the_same_in_every_mode():
    """At twice the hazard a machine goes down after half the time, crash by crash."""
    world = constant((1.0, 2.0), (0.5, 1.0))
    light, medium = crash_times(world, 0), crash_times(world, 1)
    assert len(light) > 300
    assert medium[: len(light)] == pytest.approx([hour / 2 for hour in light])


def test_looking_often_changes_no_crash():
    """However a run is cut into pieces, the machine goes down at the same moments."""
    for world in (
        constant((1.0,), (0.7,)),
        constant((1.0,), (0.2,), stirs=(1.5,), stir_h=2.0),
        constant((1.0,), (0.05,), wears=(1.0,), wear_h=3.0),
    ):
        fate, times = Fate(world), []
        while fate.now_h < 200:
            if fate.run(0, min(200.0, fate.now_h + 0.37)):
                times.append(fate.now_h)
                fate.crash()
        assert len(times) > 20
        assert times == pytest.approx(crash_times(world, 0, 200.0))


def test_the_hazard_between_crashes_is_exponential():
    """At constant hazard the mean life is its inverse, and as long as its spread."""
    times = crash_times(constant((1.0,), (2.0,), seed="x"), 0, 5000.0)
    lives = [b - a for a, b in zip([0.0, *times], times, strict=False)]
    assert statistics.mean(lives) == pytest.approx(0.5, rel=0.03)
    assert statistics.stdev(lives) == pytest.approx(0.5, rel=0.05)


def test_a_crash_stirs_the_machine_for_a_while():
    """Right after a crash it is likelier to go down, and rest calms it."""
    world = constant((1.0,), (0.01,), stirs=(5.0,), stir_h=1.0)

    def lasts_h(rest_h):
        lives = []
        for seed in range(300):
            fate = Fate(msgspec.structs.replace(world, seed=str(seed)))
            fate.run(0, 1e6)
            fate.crash()
            fate.rest(fate.now_h + rest_h)
            begin_h = fate.now_h
            lives.append(fate.run(0, begin_h + 1.0))
        return statistics.mean(lives)

    # The hazard that is gathered in the first hour is 0.01 + 5 (1 - 1/e), or 5 / e^4 of it.
    assert lasts_h(0.0) == pytest.approx(0.958, abs=0.03)
    assert lasts_h(4.0) == pytest.approx(0.065, abs=0.04)


def test_weather_changes_at_its_edges():
    """A machine that is safe until noon crashes in the afternoon alone."""
    world = msgspec.structs.replace(
        constant((1.0,), (0.0,)), edges_h=(12.0,), hazards=((0.0,), (5.0,))
    )
    times = crash_times(world, 0, 24.0)
    assert min(times) > 12.0
    assert len(times) == pytest.approx(60, abs=25)


def test_strikes_hit_what_trains_heavily_enough():
    """A crash of a trace hits the modes it is meant for, and nobody who is at rest."""
    world = constant((1.0, 2.0), (0.0, 0.0), strikes=(Strike(5.0, 0.5), Strike(7.0, 0.0)), struck=1)
    assert crash_times(world, 0) == []
    assert crash_times(world, 1) == [5.0, 7.0]
    fate = Fate(world)
    assert not fate.run(0, 5.0)
    fate = Fate(world)
    fate.rest(6.0)
    assert fate.run(1, 100.0)
    assert fate.now_h == 7.0
    fate = Fate(world)
    fate.run(1, 100.0)
    assert fate.crash() == 0.5


def test_downtimes_have_the_mean_that_is_said():
    """However much they vary, machines are away for as long on average."""
    fate = Fate(constant((1.0,), (1.0,), downtime_h=0.5, downtime_spread=0.6))
    away = []
    for _ in range(4000):
        fate.run(0, 1e9)
        away.append(fate.crash())
    assert statistics.mean(away) == pytest.approx(0.5, rel=0.03)
    assert min(away) > 0


# My machine


def test_my_machine_is_drawn_from_what_its_ledger_knows():
    """Hazards are drawn around crashes per hour, as closely as the hours allow."""
    known = (
        Measured(mode="light", crashes=0, hours=0.0, work_per_h=300.0),
        Measured(mode="full", crashes=200, hours=100.0, work_per_h=750.0),
    )
    worlds = likely(known, crash_cost_h=0.4, seed=1, count=400)
    assert worlds[0].names == ("light", "full")
    assert worlds[0].work == (1.0, 2.5)
    assert worlds[0].crash_cost_h == pytest.approx(0.4)
    light, full = zip(*(world.hazards[0] for world in worlds), strict=True)
    assert statistics.mean(full) == pytest.approx(200.5 / 100.25, rel=0.02)
    assert statistics.stdev(full) == pytest.approx(200.5**0.5 / 100.25, rel=0.15)
    assert statistics.mean(light) == pytest.approx(2.0, rel=0.2)
    assert statistics.stdev(light) > 2
