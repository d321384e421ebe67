"""What the ledger must not tell itself: slow starts, foreign units, its own impatience."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from state.records import Goal, Kept, Ledger, ModeLedger
from supervisor.core import decisions, explain, history, measure, policy
from supervisor.core import ledger as learnt
from supervisor.core.facts import StabilityLimits
from supervisor.core.replay import replay
from supervisor.simulation.families import FAMILIES, draw
from supervisor.simulation.life import Supervised, live, record_work
from supervisor.simulation.worlds import constant
from testkit.builders import (
    HOUR_S,
    a_heartbeat,
    a_ladder,
    a_mode_ledger,
    a_process,
    a_run,
    asked,
    some_facts,
)
from testkit.fakes import FakeClock
from testkit.written_life import WrittenLife
from trainers.contract import Mark

LIMITS = StabilityLimits()


# Speed


@pytest.mark.parametrize("start_s", [5.0, 60.0, 180.0])
def test_a_mode_that_dies_early_is_as_fast_as_it_is(start_s):
    """Medium makes 1.47 times the steps, and dies every four minutes, after a start of a minute."""
    world = constant(
        (1.0, 1.47),
        (0.0, 15.0),
        start_h=start_s / 3600,
        switch_h=start_s / 3600,
        checkpoint_h=0.025,
        downtime_h=0.05,
        days=4.0,
    )
    pilot = Supervised(world, LIMITS)
    life = live(world, pilot)
    facts = decisions.facts(pilot.memory, pilot._ladder, LIMITS)
    assert life.crashes > 5
    assert learnt.compared(facts.ledger, facts.terms, 1)
    assert learnt.ratio(facts.ledger, facts.terms, 1) == pytest.approx(1.47, abs=0.02)


def test_a_mode_that_never_saved_keeps_its_promise():
    """It has run for an hour, and crashed too often for any checkpoint."""
    light = ModeLedger(hours=9.0, work={"a": Kept(steps=900.0, hours=9.0)})
    ledger = Ledger(modes={"light": light, "medium": a_mode_ledger(crashes=9.0, hours=1.0)})
    facts = some_facts("medium", speeds=(1.0, 1.5), running_s=HOUR_S, ledger=ledger)
    assert learnt.ratio(ledger, facts.terms, 1) == 1.5
    assert policy.decide(facts).rule != "not_faster"
    assert explain.known(facts).modes[1].compared_h == 0.0


class Mixed(Supervised):
    """Ours, on a machine where one of two kinds of runs trains in turn.

    Args:
        world: in which it lives.
        unit: of the second kind, in steps of the first.
        turns: after how many looks it is the other's turn, in light and in medium.
    """

    def __init__(self, world, *, unit=1.0, turns=(2, 3)):
        self._unit, self._turns, self._looks = unit, turns, 0
        self.moves = []
        super().__init__(world, LIMITS)

    def _pass(self, at_h, kept):
        super()._pass(at_h, Kept())
        self._looks += 1
        mode = self.memory.goal.mode
        second = self._looks // self._turns[mode != "light"] % 2
        unit = self._unit if second else 1.0
        kept = Kept(steps=kept.steps * unit, hours=kept.hours)
        self.memory = record_work(self.memory, mode, kept, "ab"[second])

    def _decide(self, at_h):
        choice = super()._decide(at_h)
        self.moves.append((at_h, self.memory.goal.mode))
        return choice


def moves(world, **how):
    pilot = Mixed(world, **how)
    live(world, pilot)
    return pilot.moves


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from(sorted(FAMILIES)),
    st.integers(0, 99),
    st.sampled_from((1e-3, 1000.0)),
    st.tuples(st.integers(1, 4), st.integers(1, 4)),
)
def test_kinds_a_thousand_apart_change_no_decision(family, index, unit, turns):
    """Alternating as they may: the same moves at the same times as if they had one unit."""
    world = msgspec.structs.replace(draw(family, 78, index), days=3.0)
    told, same = moves(world, unit=unit, turns=turns), moves(world, turns=turns)
    assert [mode for _, mode in told] == [mode for _, mode in same]
    assert [at_h for at_h, _ in told] == pytest.approx([at_h for at_h, _ in same], abs=1e-6)


@pytest.mark.parametrize("unit", [1e-3, 1.0, 1e3])
def test_a_game_in_light_and_a_table_in_medium_are_not_compared(unit):
    """Nothing was trained in both: the promise stands."""
    memory = WrittenLife().memory
    memory = record_work(memory, "light", Kept(steps=1000.0, hours=5.0), "atari/Pong")
    memory = record_work(memory, "medium", Kept(steps=1500.0 * unit, hours=5.0), "tabular/t")
    facts = decisions.facts(memory, a_ladder(2), LIMITS)
    assert learnt.ratio(facts.ledger, facts.terms, 1) == 2.0


def test_a_kind_is_a_trainer_a_run_and_its_options():
    """Another algorithm makes other steps; another seed or target does not."""
    one = a_run(options={"algorithm": "ppo", "n": 1})
    assert measure.kind(one) == measure.kind(a_run(options={"n": 1, "algorithm": "ppo"}, seed=9))
    others = (
        a_run(),
        a_run(options={"algorithm": "dqn", "n": 1}),
        a_run("drill-b", options=one.asked.options),
        asked(one, trainer="other"),
    )
    assert len({measure.kind(run) for run in (one, *others)}) == 5


def heard(memory, runs, step, *, mode="light", ladder=None):
    """The memory once each of these runs has saved that step, ten steps a second."""
    mark = Mark(step=step, trained_s=step / 10)
    words = {
        run.id: a_heartbeat(
            run=run.id, mode=mode, began=Mark(step=0, trained_s=0.0), saved=mark, reached=mark
        )
        for run in runs
    }
    memory = msgspec.structs.replace(memory, runs=runs, full=True)
    return measure.hear(memory, words, ladder or a_ladder(2))


def test_kinds_beyond_the_first_32_teach_no_speed():
    """A campaign of a thousand names makes no ledger of a thousand; the known ones go on."""
    clock = FakeClock()
    memory = history.first_day(clock.read(), a_ladder(2))
    runs = tuple(a_run(f"drill-{n}", status="running", started_monotonic_s=0.0) for n in range(40))
    memory = heard(memory, runs, 100)
    known = memory.stretch.work["light"]
    assert len(known) == learnt.KINDS_MAX
    memory = heard(history.book(memory, a_ladder(2), LIMITS), memory.runs, 200, mode="medium")
    assert memory.stretch.work["medium"].keys() == known.keys()
    assert all(run.progress.booked.step == 200 for run in memory.runs), (
        "what is not kept is not kept later"
    )


def test_an_hour_of_one_slot_of_two_is_half_an_hour_of_the_mode():
    """Medium has two slots: two runs for an hour are an hour of it."""
    memory = history.first_day(FakeClock().read(), a_ladder(2))
    run = a_run(status="running", started_monotonic_s=0.0)
    for mode, hours in (("light", 1.0), ("medium", 0.5)):
        (kept,) = heard(memory, (run,), 36_000, mode=mode).stretch.work[mode].values()
        assert (kept.steps, kept.hours) == (36_000, pytest.approx(hours))
    gone = heard(memory, (run,), 36_000, mode="removed").stretch.work
    assert gone == {}, "how many slots it had is not known"


# Running


def stepping(memory, clock, *, mode, since_s):
    """The memory once drill-a is heard to step in that mode for so long."""
    run = a_run(process=a_process(boot_id=clock.boot_id), status="running")
    said = a_heartbeat(mode=mode, stepping_at_s=clock.read().monotonic_s - since_s)
    memory = msgspec.structs.replace(memory, runs=(run,))
    return measure.hear(memory, {"drill-a": said}, a_ladder(2))


def test_the_time_of_a_move_is_no_running_time():
    """The old trainers save, the new ones start: a minute and a half in which nothing trains."""
    clock = FakeClock()
    memory = history.first_day(clock.read(), a_ladder(2))
    memory = history.starting(msgspec.structs.replace(memory, running=True))
    clock.advance(90.0)
    memory = stepping(history.pass_time(memory, clock.read()), clock, mode="medium", since_s=500.0)
    assert memory.visit.starting_s == 90.0, "steps of the mode that is left are none of this one"
    clock.advance(30.0)
    memory = stepping(history.pass_time(memory, clock.read()), clock, mode="light", since_s=20.0)
    assert (memory.visit.running_s, memory.visit.stable_s) == (pytest.approx(20.0),) * 2
    assert memory.stretch.running_s == pytest.approx(20.0)
    clock.advance(60.0)
    assert history.pass_time(memory, clock.read()).visit.running_s == pytest.approx(80.0)
    assert memory.boots[-1].trained_s == 120.0, "a boot has lived all the same"


# A person's word


def failed_once():
    """A life whose first visit of medium has just failed."""
    life = WrittenLife().train(1.1)
    while life.memory.goal.mode == "medium":
        life.train(0.02).crash()
    assert life.memory.ledger.modes["medium"].level == 1
    return life


def test_a_forced_visit_that_is_left_has_not_failed():
    """No level, no cool-down, no bad spell, in both policies; and yet it is left."""
    for limits in (LIMITS, StabilityLimits(name="fixed")):
        life = WrittenLife(limits).train(0.2).request("scale_up")
        for _ in range(5):
            life.train(0.02).crash()
        assert life.memory.goal.mode == "light"
        assert life.memory.cool_downs == {}
        known = life.memory.ledger.modes["medium"]
        assert (known.level, known.in_row, known.failures, known.bad_since_s) == (0, 0, 0, None)
        (left,) = [line for line in life.lines if line.get("old") == "medium"]
        assert "a person had asked for it, so this is not held against it" in left["reason"]
        assert replay(life.lines).first is None


def test_a_cool_down_from_before_outlasts_a_forced_visit():
    """Whoever tries a mode that cools down neither shortens its cool-down nor begins another."""
    life = failed_once()
    until_s = life.memory.cool_downs["medium"]
    life.request("scale_up")
    while life.memory.goal.mode == "medium":
        life.train(0.01).crash()
    assert life.memory.cool_downs == {"medium": until_s}
    assert life.memory.ledger.modes["medium"].level == 1


def test_what_crashes_under_a_pin_is_forgiven_when_it_ends():
    """A hundred crashes of a pinned mode cost no budget, and `unpin` falls back for none."""
    life = WrittenLife().train(0.2).request("pin", "medium")
    for _ in range(120):
        life.train(0.03).crash()
    assert life.memory.ledger.budget == 3.0
    life.request("unpin").train(0.05)
    assert life.memory.goal == Goal(mode="medium")
    assert (life.memory.visit.crashes, life.memory.visit.crashes_s) == (0, ())
    assert life.memory.ledger.budget == 3.0
    assert life.memory.ledger.modes["medium"].level == 0
    assert replay(life.lines).first is None


def test_a_pin_where_it_stands_forgives_what_came_under_it_and_nothing_else():
    """A mode on probation is on probation again when it is set free."""
    life = failed_once().request("pin", "medium").crash().request("unpin")
    assert life.memory.ledger.budget < 3.0
    assert life.memory.ledger.modes["medium"].level == 1


# Counts


def test_a_long_list_of_crashes_is_counted_though_it_is_not_kept():
    """Of 291 crashes a hundred are listed, the first among them; 291 are told and judged by."""
    life = WrittenLife(StabilityLimits(crashes_max=99, budget_max=99.0, cool_down_max_h=8000.0))
    life.request("pin", "light").train(0.1).crash()
    first_s = life.memory.visit.crashes_s[0]
    for _ in range(290):
        life.train(0.01).crash()
    visit = life.memory.visit
    assert (visit.crashes, len(visit.crashes_s), visit.crashes_s[0]) == (291, 100, first_s)
    facts = life.facts()
    assert facts.crashes == 291
    assert next(each.value for each in explain.inputs(facts) if each.note == "of this visit") == 291


def test_an_acquittal_judges_by_all_crashes():
    """Light crashed 291 times in thirty hours, of which a hundred are listed."""
    listed = tuple(100_000.0 - 600.0 * n for n in reversed(range(100)))
    medium = ModeLedger(level=1, last_hours=1.0, last_crashes=12)
    given = {
        "now_s": 100_000.0,
        "crashes_s": listed,
        "running_s": 30 * HOUR_S,
        "speeds": (1.0, 2.0),
        "ledger": Ledger(modes={"medium": medium}),
        "limits": StabilityLimits(exonerated_factor=1.05),
    }
    assert policy.decide(some_facts(**given)).rule != "exonerated"
    assert policy.decide(some_facts(**given, crashes_total=291)).rule == "exonerated"


def test_a_visit_of_an_older_version_is_counted_by_its_list():
    """It knew no other count."""
    life = WrittenLife()
    visit = msgspec.structs.replace(life.memory.visit, crashes_s=(1.0, 2.0, 3.0))
    life.memory = msgspec.structs.replace(life.memory, visit=visit)
    assert life.crash().memory.visit.crashes == 4


# Failures


def test_a_run_of_failed_trials_is_asked_now_and_then_whether_it_grows_calm():
    """The 4th trial in a row, the 10th, the 28th: ever more seldom."""
    failed = range(100)
    assert [n for n in failed if learnt.long_trial(ModeLedger(in_row=n))] == [3, 9, 27, 81]


def test_a_long_trial_sees_the_calm_after_its_first_crashes():
    """Medium crashes twice after each move, and never again: one trial in a row stays."""
    life = WrittenLife()
    life.steps_per_h["medium"] = 2 * life.steps_per_h["light"]
    life.train(1.1)
    for _ in range(4):
        life.train(0.02).crash()
    visits = 0
    for _ in range(400):
        if life.memory.goal.mode == "medium" and life.memory.visit.crashes < 2:
            visits += life.memory.visit.crashes == 0
            life.train(0.05).crash()
        else:
            life.train(0.5)
    assert life.memory.goal.mode == "medium"
    assert life.memory.visit.running_s > 48 * HOUR_S
    assert life.memory.ledger.modes["medium"].in_row == 0
    assert visits <= 6


def test_a_probation_may_cost_hours_of_work_and_one_crash_at_least():
    """Two minutes each: three crashes; an hour each: one. A long trial may cost an hour."""
    terms = some_facts("medium", speeds=(1.0, 2.0)).terms
    hours = terms.limits.probation_h

    def cap(price_min, in_row=1):
        ledger = Ledger(
            costs_s=(60.0 * price_min,) * 30,
            modes={"medium": ModeLedger(level=1, in_row=in_row)},
        )
        return learnt.budget_cap(ledger, terms, "medium", 0.0)

    assert cap(5) == pytest.approx(hours / (5 + 15 / 31) * 60, rel=0.01)
    assert (cap(2), cap(60)) == (3.0, 1.0)
    assert cap(60, in_row=3) == pytest.approx(1.0, abs=0.03)
    assert cap(25, in_row=3) == pytest.approx(60 / 25, rel=0.02)


def test_failures_beyond_the_longest_cool_down_are_not_counted():
    """After a bad month a repaired mode needs five proofs, not fifty."""
    known = ModeLedger(level=5, in_row=40)
    facts = some_facts(
        "medium", speeds=(1.0, 2.0), ledger=Ledger(budget=-1.0, modes={"medium": known})
    )
    after = policy.decide(facts).ledger.modes["medium"]
    assert (after.level, after.in_row) == (5, 41)
    assert learnt.level_max(StabilityLimits(cool_down_min=10.0)) == 8


# Crashes less than an hour apart


CLOSE = a_mode_ledger(crashes=12.0, hours=4.0, aftershocks=12.0, aftershock_hours=4.0, level=0)
"""three an hour, and never an hour without one"""
STORM_S = (9_000.0, 9_300.0, 9_600.0, 10_000.0)


def test_crashes_that_are_never_an_hour_apart_may_be_worth_it():
    """At a price of five minutes medium pays for far more: it stays, and says by what."""
    ledger = Ledger(budget=0.5, costs_s=(300.0,) * 30, modes={"medium": CLOSE})
    facts = some_facts("medium", speeds=(1.0, 2.0), crashes_s=STORM_S, ledger=ledger)
    assert policy.decide(facts).rule == "stay"
    assert "by its record it has at most" in dict(policy.rejected(facts))["reboot_storm"]


def reason(known, **fields):
    """Why a storm of that medium leads down."""
    ledger = Ledger(budget=0.5, costs_s=(300.0,) * 30, modes={"medium": known})
    given = {"speeds": (1.0, 2.0), "crashes_s": STORM_S, "ledger": ledger, **fields}
    decision = policy.decide(some_facts("medium", **given))
    assert decision.rule == "reboot_storm"
    return decision.reason


def test_the_ground_of_a_fall_back_is_the_true_one():
    """Too many, too little known, in bursts, or because somebody wants it so."""
    many = msgspec.structs.replace(CLOSE, crashes=44.0, aftershocks=44.0)
    assert "it may have 1" in reason(many)
    short = a_mode_ledger(crashes=3.0, hours=0.7, aftershocks=3.0, aftershock_hours=0.7, level=0)
    assert "is not known for long enough to sit this out" in reason(short)
    bursts = a_mode_ledger(crashes=9.0, hours=20.0, aftershocks=8.0, aftershock_hours=1.5, level=0)
    assert "a crash draws others after it" in reason(bursts)
    assert "`strict` bears no more" in reason(CLOSE, limits=StabilityLimits(strict=True))


# Words


@pytest.mark.parametrize(
    ("running_h", "count", "told"),
    [
        (30.0, 4, "4 crashes within 16 min are more than medium pays for"),
        (30.0, 9, "9 crashes in 30.0 h of running, the newest 4 within 16 min, are more than"),
        (0.1, 4, "4 crashes in 6 min of running are more than medium pays for"),
        (0.0, 4, "4 crashes before any step was made are more than medium pays for"),
    ],
)
def test_crashes_that_were_too_many_are_told_with_their_time(running_h, count, told):
    """Thirty hours of calm before four crashes make them no fewer."""
    now_s = 200_000.0
    later = tuple(now_s - 320.0 * n for n in reversed(range(4)))
    listed = (*(100_000.0 + n for n in range(count - 4)), *later)
    given = {"now_s": now_s, "crashes_s": listed, "running_s": running_h * HOUR_S}
    facts = some_facts("medium", speeds=(1.0, 1.2), ledger=Ledger(budget=-0.5), **given)
    assert policy.decide(facts).reason.startswith(told)


def every_sentence(facts):
    """All that `why` would say of these facts."""
    told = explain.explained_now(facts)
    yield from (told.reason, told.next)
    yield from (each.why for each in told.rules)
    for each in told.inputs:
        yield f"{each.name} {each.value} {each.unit} {each.note}"


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(sorted(FAMILIES)), st.integers(0, 999))
def test_no_sentence_has_a_number_that_means_nothing(family, index):
    """No worth or budget below nothing, no level: in all that is said in a life."""
    said = []

    class Asked(Supervised):
        def _decide(self, at_h):
            facts = decisions.facts(self.memory, self._ladder, self._limits)
            said.extend(every_sentence(facts))
            return super()._decide(at_h)

    world = msgspec.structs.replace(draw(family, 79, index), days=1.0)
    live(world, Asked(world, LIMITS))
    for sentence in said:
        assert "level" not in sentence
        assert not any(word[:1] == "-" and word[1:2].isdigit() for word in sentence.split()), (
            sentence
        )
