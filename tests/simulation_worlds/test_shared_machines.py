"""Machines that crash under our load and that others need, too: two things that never meet."""

from bisect import bisect

import msgspec
import pytest

from supervisor.core import guard
from supervisor.core.calendar import Window, opening
from supervisor.core.facts import StabilityLimits
from supervisor.core.guard import Guard, Pressure
from supervisor.simulation.families import FAMILIES, draw
from supervisor.simulation.life import BEGAN_AT, HAIR_S, UTC, Supervised, live
from supervisor.simulation.others import KINDS, Sentinel
from supervisor.simulation.worlds import constant, luck
from testkit.series import sample_of_a_series

LIVES, SEED = sample_of_a_series(40)
DAYS = 6.0
NIGHTS = tuple(Window(start_weekday=day, start_hour=22, hours=9) for day in range(7))
LIMITS = Guard()
SEEN_H = ((LIMITS.pause_samples + 1) * LIMITS.sample_s + HAIR_S) / 3600
"""after this time of load that lasts nothing trains any more"""


class Witnessed(Supervised):
    """Ours, with somebody who looks whether a pause is taken for anything else."""

    def __init__(self, world, limits):
        self.paused = False
        self.pauses = 0
        super().__init__(world, limits)

    def _decide(self, at_h):
        choice = super()._decide(at_h)
        self.paused = choice.mode is None
        return choice

    def _pass(self, at_h, kept):
        before = self.memory
        super()._pass(at_h, kept)
        if self.paused:
            assert self.memory.visit.running_s == before.visit.running_s
            assert self.memory.visit.stable_s == before.visit.stable_s
            assert self.memory.stretch == before.stretch
            assert self.memory.boots[-1].trained_s == before.boots[-1].trained_s

    def _amended(self, decision):
        if decision.rule in ("guard", "quiet_hours"):
            self.pauses += 1
            assert decision.goal.mode == self.memory.goal.mode
            assert (decision.outcome, decision.cool_down_s) == (None, None)
            assert decision.ledger in (None, self._facts().ledger)
        return decision


def a_shared_world(seed):
    """A machine that others need, and whether training waits for the night there."""
    rng = luck("shared", seed)
    world = draw(rng.choice(list(FAMILIES)), seed, 0)
    others = KINDS[rng.choice(list(KINDS))](rng, 24 * (DAYS - 1))
    windows = NIGHTS if rng.random() < 0.5 else ()
    return msgspec.structs.replace(
        world, days=DAYS, others=others, guard=LIMITS, windows=windows
    ), rng.choice(("ledger", "fixed"))


def presses(spell):
    """Whether it has training pause."""
    return spell.cpu >= LIMITS.pause_cpu_percent or spell.memory >= LIMITS.pause_memory_percent


@pytest.mark.parametrize("seed", range(SEED, SEED + LIVES))
def test_a_life_that_others_interrupt(seed):
    """No pause counts, nothing trains in one or outside a window, and all goes on afterwards."""
    world, policy = a_shared_world(seed)
    pilot = Witnessed(world, StabilityLimits(name=policy))
    life = live(world, pilot)
    assert pilot.pauses
    trained = [part for part in life.stretches if part.mode is not None and part.to_h > part.from_h]
    pressing = [spell for spell in world.others if presses(spell)]
    begins_h = [spell.from_h for spell in pressing]
    for part in trained:
        met = pressing[max(0, bisect(begins_h, part.from_h) - 1) : bisect(begins_h, part.to_h)]
        for spell in met:
            begin_h = max(part.from_h, spell.from_h + SEEN_H)
            assert min(part.to_h, spell.to_h) <= begin_h, f"{part} within {spell}"
    for part in trained if world.windows else ():
        inside = opening(world.windows, UTC, BEGAN_AT + 3600 * part.from_h)
        assert inside.opens_at <= BEGAN_AT + 3600 * part.from_h
        assert BEGAN_AT + 3600 * part.to_h <= inside.closes_at + 2 * HAIR_S
    last_h = max(spell.to_h for spell in world.others)
    assert any(part.to_h > last_h + 1 for part in trained), "it never goes on"


@pytest.mark.parametrize("kind", KINDS)
def test_the_ledger_learns_what_it_would_alone(kind):
    """Crashes an hour of running, and the speed, whatever part of the time others take."""
    crashes = hours = 0.0
    for seed in range(10):
        world = constant((2.0,), (0.5,), seed=f"{kind} {seed}", days=20.0)
        others = KINDS[kind](luck(kind, seed), 24 * world.days)
        world = msgspec.structs.replace(world, others=others, guard=LIMITS, windows=NIGHTS)
        pilot = Supervised(world, StabilityLimits())
        life = live(world, pilot)
        known = pilot.memory.ledger.modes["light"]
        (work,) = known.work.values()
        assert work.steps / work.hours == pytest.approx(2.0)
        told = pilot.memory.crashes_total
        assert told == pilot.memory.visit.crashes
        assert life.crashes - told in (0, 1)  # the last one may not have been told any more
        crashes, hours = crashes + known.crashes, hours + known.hours
    assert hours > 40
    assert crashes / hours == pytest.approx(0.5, abs=3 * (0.5 / hours) ** 0.5)


@pytest.mark.parametrize("seed", range(20))
def test_a_load_that_comes_and_goes_pauses_twice_at_most(seed):
    """And a load that is over is forgotten."""
    sentinel = Sentinel(KINDS["square wave"](luck(seed), 48.0), LIMITS, 0.0)
    answers = []
    while sentinel.changes_h < 1e9:
        answers.append(sentinel.verdict(sentinel.changes_h).answer)
    assert 1 <= answers.count("freeze") <= 2
    assert answers[-1] == "free"


@pytest.mark.parametrize("seed", range(4))
def test_no_sample_that_is_left_out_would_have_changed_an_answer(seed):
    """Whoever takes each of them comes to the same answers at the same times."""
    spells, watch = KINDS["at random"](luck(seed), 30.0), guard.begun(0.0)
    sentinel = Sentinel(spells, LIMITS, 0.0)
    for sample in range(1, 30 * 1800):
        now_s = sample * LIMITS.sample_s
        there = [spell for spell in spells if spell.from_h <= now_s / 3600 < spell.to_h]
        seen = Pressure(
            cpu_other=max([3.0, *(spell.cpu for spell in there)]),
            memory_other=max([20.0, *(spell.memory for spell in there)]),
        )
        was, watch = watch, guard.step(watch, seen, LIMITS, now_s)
        if watch.verdict != was.verdict:
            assert sentinel.changes_h == now_s / 3600
        assert sentinel.verdict(now_s / 3600).answer == watch.verdict.answer
