"""What holds for whole lives under `ledger`, whatever happens in them."""

import math
import os
from itertools import pairwise, zip_longest

import msgspec
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from state.records import Kept, Ledger, ModeLedger
from state.store import Store
from supervisor.core import decisions, history
from supervisor.core import ledger as learnt
from supervisor.core.facts import StabilityLimits
from supervisor.core.replay import replay
from supervisor.simulation.families import FAMILIES, draw
from supervisor.simulation.life import Supervised, live
from supervisor.simulation.worlds import Strike, constant
from testkit.builders import HOUR_S, some_terms
from testkit.written_life import TICK_S, WrittenLife

LIMITS = StabilityLimits()
DAY_H = 24.0
SECOND_H = 1 / 3600
OFF_H = 20 * SECOND_H


@st.composite
def worlds(draw_one, days=4.0, families=tuple(FAMILIES)):
    """A machine of any kind, for some days."""
    world = draw(draw_one(st.sampled_from(sorted(families))), 77, draw_one(st.integers(0, 999)))
    return msgspec.structs.replace(world, days=days)


class Observed(Supervised):
    """Ours, with a diary.

    Args:
        world: in which it lives.
        limits: those of the policy.
        every_h: how often it looks at least.
        unit: of work, in hours of the lightest mode.
        walls_s: what the wall clock is set to at one look after the other, beside the truth.
    """

    def __init__(self, world, limits=LIMITS, *, every_h=1e9, unit=1.0, walls_s=(0.0,)):
        self._every_h, self._unit = every_h, unit
        self._walls_s, self._looks = walls_s, 0
        self.moves = []
        """(hour, mode, rule) of each change of the mode"""
        self.known = {}
        """second of each look: what was known of medium after it"""
        self.rule = None
        super().__init__(world, limits)

    def _pass(self, at_h, kept):
        super()._pass(at_h, Kept(steps=kept.steps * self._unit, hours=kept.hours))

    def look(self, at_h, kept):
        self._looks += 1
        return super().look(at_h, kept)

    def _amended(self, decision):
        if decision.ledger is not None and decision.outcome != "proved":
            self.rule = decision.rule
        return decision

    def _decide(self, at_h):
        before = self.memory.goal.mode
        choice = super()._decide(at_h)
        medium = self.memory.ledger.modes.get("medium", ModeLedger())
        self.known[round(at_h * HOUR_S)] = medium
        if self.memory.goal.mode != before:
            self.moves.append((at_h, self.memory.goal.mode, self.rule))
        return choice._replace(until_h=min(choice.until_h, at_h + self._every_h))

    def _moment(self, at_h):
        moment = super()._moment(at_h)
        off_s = self._walls_s[self._looks % len(self._walls_s)]
        return msgspec.structs.replace(moment, wall=moment.wall + off_s)

    @property
    def falls(self):
        """The hours of the fall-backs from the upper of two modes."""
        return [at_h for at_h, mode, _ in self.moves if mode == "light"]


def lived(world, **how):
    """The diary of a life."""
    pilot = Observed(world, **how)
    live(world, pilot)
    return pilot


def same_moves(one, other, tolerance_h=1e-6):
    """Whether two lives changed the mode at the same times, by the same rules."""
    return [move[1:] for move in one.moves] == [move[1:] for move in other.moves] and [
        move[0] for move in one.moves
    ] == pytest.approx([move[0] for move in other.moves], abs=tolerance_h)


# Monotone


class Priced(Observed):
    """A machine of which every crash costs what a crash was taken to cost: 20 minutes."""

    def pay(self, cost_h):
        super().pay(LIMITS.crash_price_min / 60)


def struck(minutes, rho, days=2.0):
    """A machine that goes down in medium at these minutes, and never in light."""
    return constant(
        (1.0, rho),
        (0.0, 0.0),
        strikes=tuple(Strike(minute / 60, OFF_H) for minute in sorted(minutes)),
        struck=1,
        days=days,
        start_h=0.0,
        switch_h=0.0,
        checkpoint_h=0.001,
        downtime_h=OFF_H,
    )


def struck_life(minutes, rho):
    world = struck(minutes, rho)
    pilot = Priced(world)
    live(world, pilot)
    return pilot


def parting(one, other):
    """The first two moves that are not the same, as (hour, mode); None where all are."""
    end = (1e9, "end")
    rows = [[*((at_h, mode) for at_h, mode, _ in life.moves), end] for life in (one, other)]
    for left, right in zip(*rows, strict=False):
        if abs(left[0] - right[0]) > SECOND_H:
            return left, right
        assert left[1] == right[1]
    return None


MINUTES = st.integers(61, 1500) | st.integers(61, 200)


@settings(max_examples=150)
@given(st.sets(MINUTES, max_size=12), MINUTES, st.sampled_from((1.2, 1.5, 2.0, 3.0)))
def test_one_more_crash_of_medium_never_leads_to_more_of_it(minutes, another, rho):
    """Where two lives part that differ by one crash of medium, who had it is in light.

    So it makes no climb sooner, and no fall-back later; but for one exception, by intent: a
    crash that draws no others after it is a sign that crashes do not come in bursts, and where
    they do not, a run of them may be borne. A crash of light may acquit medium, by intent, too.
    """
    assume(another not in minutes)
    worse, calmer = (struck_life(each, rho) for each in (minutes | {another}, minutes))
    parted = parting(worse, calmer)
    if parted is None:
        return
    (at_h, mode), (calmer_h, calmer_mode) = parted
    if at_h < calmer_h:
        assert mode == "light", "who crashed once more is in medium sooner"
    elif calmer_mode == "light":
        assert less_in_bursts(*(life.known[round(calmer_h * HOUR_S)] for life in (worse, calmer)))


def less_in_bursts(one, other):
    """Whether what is known of the one speaks less for crashes that draw others after them."""
    soon, other_soon = (learnt.aftershock_rate(known).mean_per_h for known in (one, other))
    even, other_even = map(learnt.crashes_evenly, (one, other))
    return soon < other_soon or even > other_even


# Bounded


@pytest.mark.parametrize(
    ("rho", "rate_per_h", "downtime_min"),
    [
        (1.25, 12.0, 30.0),
        (2.0, 12.0, 30.0),
        (4.0, 12.0, 30.0),
        (1.25, 30.0, 10.0),
        (2.0, 30.0, 10.0),
        (2.0, 60.0, 3.0),
    ],
)
def test_a_hopeless_machine_is_tried_ever_more_seldom(rho, rate_per_h, downtime_min):
    """Cool-downs double up to the interval that costs least, which grows with the spell.

    So in t hours there are at most log2(t) failures while they double, and after that one for
    each interval sqrt(4 K t / (rho - 1)), if a try costs K: in sum sqrt(t (rho - 1) / K). Once
    a cool-down lasts for a day, it is one a day. Nearly every failure is two crashes at most.
    """
    world = constant(
        (1.0, rho), (0.0, rate_per_h), seed="hopeless", downtime_h=downtime_min / 60, days=60.0
    )
    assert rate_per_h > 2 * (rho - 1) / world.crash_cost_h, "it is hopeless"
    pilot = Observed(world)
    life = live(world, pilot)
    known = pilot.memory.ledger.modes["medium"]
    try_h = (learnt.VISIT_HOURS + known.failure_hours) / (1 + known.failures)
    for at_h in (6.0, 24.0, 96.0, 384.0, 1440.0):
        failures = sum(fall_h < at_h for fall_h in pilot.falls)
        seldom = math.sqrt(at_h * (rho - 1) / try_h)
        assert failures <= 1 + math.log2(at_h) + seldom + at_h / DAY_H
        assert sum(crash_h < at_h for crash_h in life.crashes_h) <= 2 * failures + 5
    waits_h = [climb[0] - fall[0] for fall, climb in pairwise(pilot.moves) if fall[1] == "light"]
    assert all(later > 0.95 * earlier for earlier, later in pairwise(waits_h)), "they only grow"
    assert waits_h[:2] == pytest.approx([1.0, 2.0], abs=0.05)
    assert max(waits_h) == pytest.approx(DAY_H, abs=0.05)
    assert sum(fall_h > 1320 for fall_h in pilot.falls) <= 5, "in the last five days"


# Never stuck


@settings(max_examples=80)
@given(worlds())
def test_no_mode_is_given_up(world):
    """Whatever happened, where it is calm for a day and an hour the next mode is tried."""
    pilot = Observed(world)
    live(world, pilot)
    at_h = begin_h = world.days * DAY_H
    pilot.moves.clear()
    pilot.step(at_h)
    mode, since_h = pilot.memory.goal.mode, begin_h
    if pilot.memory.goal.idle_until_s is not None:
        since_h += 1.0
    while at_h < begin_h + 60.0:
        at_h = min(at_h + 0.25, pilot.look(at_h, Kept()).until_h)
        pilot.step(at_h)
        if pilot.memory.goal.mode != mode:
            mode, since_h = pilot.memory.goal.mode, at_h
        highest = mode == pilot.memory.goal.mode == world.names[-1]
        assert highest or at_h - since_h <= 25.0 + 0.5


@settings(max_examples=12)
@given(st.integers(0, 999), st.sampled_from((6.0, 8.0, 10.0)))
def test_nor_where_it_is_never_calm(seed, rate_per_h):
    """Where light crashes all the time, medium is tried within a day of running all the same."""
    hazards = (rate_per_h, 4 * rate_per_h)
    world = constant((1.0, 1.15), hazards, seed=str(seed), days=8.0, downtime_h=0.2)
    pilot = Observed(world)
    life = live(world, pilot)
    assert pilot.falls, "medium was never tried, or never left"
    ran_h = 0.0
    for part in life.stretches:
        if part.mode is not None:
            ran_h = ran_h + part.to_h - part.from_h if part.mode == 0 else 0.0
        assert ran_h <= DAY_H + 3.0, "up to a minute before each crash is not known of"


# Clocks, units, and how often it looks

WALLS_S = st.lists(st.floats(-1e9, 1e9), min_size=2, max_size=9).map(tuple)


@settings(max_examples=40)
@given(worlds(), WALLS_S)
def test_setting_the_clock_decides_nothing(world, walls_s):
    """1993, 2056, a second ahead: whatever is set while the machine is up, it goes the same way."""
    true, restless = lived(world), lived(world, walls_s=walls_s)
    assert same_moves(true, restless)
    ours, theirs = (pilot.memory.ledger.budget for pilot in (true, restless))
    assert ours == (None if theirs is None else pytest.approx(theirs, abs=1e-3))


@settings(max_examples=40)
@given(worlds(), st.floats(1e-6, 1e9))
def test_the_unit_of_work_decides_nothing(world, unit):
    """Steps, frames of four, epochs: for the whole of a life."""
    assert same_moves(lived(world), lived(world, unit=unit))


DUE_BETWEEN = ("no gain", "both unstable")
"""families in which a rule comes due at a moment that nobody foresees: see the second test"""
CALCULABLE = tuple(family for family in FAMILIES if family not in DUE_BETWEEN)


@settings(max_examples=12)
@given(worlds(days=1.0, families=CALCULABLE))
def test_looking_often_decides_nothing(monkeypatch, world):
    """Every 30 seconds, every five minutes, or only at events: the same moves and ledgers.

    Where heartbeats tell exactly until when a machine lived that has gone down. But for what a
    measured speed decides: checkpoints tell it, so whoever looks between two crashes may know
    sooner, and never later, that a mode is not worth its crashes.
    """
    monkeypatch.setattr("supervisor.simulation.life.HEARTBEAT_S", 1e-5)
    seldom, often, always = (lived(world, every_h=each) for each in (1e9, 1 / 12, 1 / 120))
    for other in (often, always):
        moves = zip_longest(seldom.moves, other.moves)
        sooner = next((pair for pair in moves if not same_move(*pair)), None)
        if sooner is not None:
            late, (at_h, _, rule) = sooner
            assert rule in ("worse_than_worth", "not_faster")
            assert late is None or at_h <= late[0]
            continue
        for name, known in seldom.memory.ledger.modes.items():
            for field in ("crashes", "hours", "aftershock_hours", "level", "bad_hours"):
                there = getattr(other.memory.ledger.modes[name], field)
                assert getattr(known, field) == pytest.approx(there, abs=1e-4)


def same_move(one, other):
    """Whether two moves are the same, at the same time."""
    if one is None or other is None:
        return False
    return one[1:] == other[1:] and one[0] == pytest.approx(other[0], abs=1e-4)


@settings(max_examples=6)
@given(worlds(days=0.5, families=DUE_BETWEEN))
def test_what_comes_due_between_two_looks_comes_soon(monkeypatch, world):
    """A speed that turns out to be none, an acquittal by time: at the next look, or the second.

    Work is told by checkpoints, so that a look may come just before what would decide it.
    """
    monkeypatch.setattr("supervisor.simulation.life.HEARTBEAT_S", 1e-5)
    often, always = (lived(world, every_h=each) for each in (1 / 12, 1 / 120))
    for (late_h, mode, rule), (at_h, *same) in zip(often.moves, always.moves, strict=False):
        assert [mode, rule] == same
        assert abs(late_h - at_h) <= 2 / 12 + 1e-4
        if late_h != pytest.approx(at_h, abs=1e-4):
            break


# Written down

events = st.lists(
    st.tuples(st.just("train"), st.floats(0.01, 3.0))
    | st.tuples(st.just("crash"), st.floats(0.0, 7200.0))
    | st.tuples(
        st.just("request"),
        st.sampled_from(
            [
                ("scale_up",),
                ("pin", "medium"),
                ("unpin",),
                ("forbid", "heavy"),
                ("allow", "heavy"),
                ("reset",),
            ]
        ),
    ),
    max_size=40,
)


def written(happens, **how):
    """A life in which that happens, with its log."""
    life = WrittenLife(**how)
    for what, detail in happens:
        if what == "train":
            life.train(detail)
        elif what == "crash":
            life.crash(cost_s=detail)
        else:
            life.request(*detail)
    return life


@settings(max_examples=40)
@given(events, st.integers(1, 3))
def test_the_log_of_any_life_leads_to_its_ledger(happens, rungs):
    """Bit for bit, through JSON; and each decision of it is made again."""
    life = written(happens, rungs=rungs)
    told = replay(life.lines)
    assert (told.first, told.gaps, told.unreadable) == (None, 0, 0)
    assert told.ledger == life.memory.ledger


@given(st.permutations(range(5)))
def test_the_order_of_runs_is_no_matter(order):
    """A ledger may be read back in any order."""
    kept = [(f"run-{n}", Kept(steps=10.0**n / 7, hours=0.3 + n)) for n in range(5)]

    def told(names):
        work = dict(names)
        light = ModeLedger(work=work)
        return Ledger(modes={"medium": ModeLedger(work=dict(kept)), "light": light})

    terms = some_terms()
    assert learnt.ratio(told(kept[n] for n in order), terms, 1) == pytest.approx(
        learnt.ratio(told(kept), terms, 1), rel=1e-12
    )


# Power cuts


class Cut(BaseException):
    """The power fails here."""


class FailingPower:
    """The `os` of the modules that write, on a machine whose power fails at the n-th call."""

    def __init__(self, left):
        self.left = left

    def __getattr__(self, name):
        real = getattr(os, name)
        return self._counted(real) if callable(real) and name.islower() else real

    def _counted(self, real):
        def call(*arguments, **more):
            self.left -= 1
            if self.left == 0:
                raise Cut
            return real(*arguments, **more)

        return call


@settings(max_examples=12)
@given(happens=events)
def test_a_cut_between_any_two_writes_leaves_one_memory_or_the_other(happens, tmp_path_factory):
    """And with it the same ledger and the same facts, to the last bit."""
    store = Store(tmp_path_factory.mktemp("home") / "state.json")
    life = written(happens)
    before = life.memory
    store.save(before)
    after = life.train(0.3).crash().train(0.3).memory
    for at in range(1, 100):
        store.save(before)
        with pytest.MonkeyPatch.context() as patched:
            power = FailingPower(at)
            for module in ("trainers.durable", "state.store"):
                patched.setattr(f"{module}.os", power)
            try:
                store.save(after)
            except Cut:
                pass
        loaded, _ = store.load()
        assert loaded in (before, after)
        expected = before if loaded == before else after
        assert decisions.facts(loaded, life.ladder, life.limits) == decisions.facts(
            expected, life.ladder, life.limits
        )
        if power.left > 0:
            break
    else:
        raise AssertionError("the save never came to its end")
    assert loaded == after
    assert at > 5, "a save has several steps"


@settings(max_examples=40)
@given(events, st.floats(1.0, TICK_S))
def test_a_power_cut_loses_the_last_tick_and_nothing_else(happens, since_s):
    """What a mode is known to have run is short of at most one tick; its crashes all stand."""
    told, lost = written(happens), written(happens)
    told.clock.advance(since_s)
    lost.clock.advance(since_s)
    told.memory = history.pass_time(told.memory, told.clock.read())
    assume(told.memory.timeline.now_s - lost.memory.timeline.now_s <= TICK_S)
    told, lost = told.crash(), lost.crash()
    ours, theirs = told.memory.ledger, lost.memory.ledger
    assert told.memory.timeline.now_s == pytest.approx(lost.memory.timeline.now_s)
    assert told.memory.goal.mode == lost.memory.goal.mode
    assert told.memory.goal.idle_until_s == pytest.approx(lost.memory.goal.idle_until_s)
    assert len(told.memory.visit.crashes_s) == len(lost.memory.visit.crashes_s)
    for name, known in ours.modes.items():
        assert known.crashes == pytest.approx(theirs.modes[name].crashes)
        assert 0 <= known.hours - theirs.modes[name].hours + 1e-9 <= since_s / HOUR_S + 2e-9
