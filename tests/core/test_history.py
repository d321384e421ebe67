"""What is remembered of time, boots and decisions."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from state.records import Goal, Kept
from supervisor.core import decisions, history, measure, told
from supervisor.core.facts import Decision, StabilityLimits
from supervisor.core.goodput import Lived
from testkit.builders import (
    DAY_S,
    HOUR_S,
    a_heartbeat,
    a_ladder,
    a_process,
    a_request,
    a_run,
    asked,
)
from testkit.fakes import FakeClock, at
from trainers.contract import Mark

LADDER = a_ladder(3)


@pytest.fixture
def clock():
    return FakeClock("12:00")


def first_day(clock, **fields):
    """The memory of a first day, with some fields replaced."""
    return msgspec.structs.replace(history.first_day(clock.read(), LADDER, (a_run(),)), **fields)


def running(clock, **fields):
    return first_day(clock, running=True, **fields)


def passed(memory, clock):
    return history.pass_time(memory, clock.read())


def booted(memory, clock):
    memory, boot = history.record_boot(memory, clock.read(), LADDER, StabilityLimits())
    assert boot is not None
    return memory


def moved_to(memory, mode, cool_down_s=None):
    decision = Decision(goal=Goal(mode=mode), rule="test", reason="", cool_down_s=cool_down_s)
    return decisions.enact(memory, decision)


# Time


def test_time_within_a_boot_is_what_the_boot_clock_says(clock):
    """An hour of training is an hour of timeline, of running and of stable time."""
    memory = running(clock)
    clock.advance(HOUR_S)
    memory = passed(memory, clock)
    assert memory.timeline.now_s == HOUR_S
    assert (memory.visit.running_s, memory.visit.stable_s) == (HOUR_S, HOUR_S)


def test_an_idle_machine_proves_nothing(clock):
    """Time in which no trainer lives is not stable time."""
    memory = first_day(clock)
    clock.advance(HOUR_S)
    memory = passed(memory, clock)
    assert memory.timeline.now_s == HOUR_S
    assert memory.visit.stable_s == 0


def test_a_suspended_machine_proves_nothing(clock):
    """Eight hours asleep are eight hours of timeline, and none of stable time."""
    memory = running(clock)
    clock.suspend(8 * HOUR_S)
    memory = passed(memory, clock)
    assert memory.timeline.now_s == 8 * HOUR_S
    assert memory.visit.stable_s == 0


@given(st.lists(st.tuples(st.floats(0, DAY_S), st.floats(-1e9, 1e10)), max_size=10))
def test_setting_the_wall_clock_within_a_boot_changes_nothing(steps):
    """1970, two weeks back, a day ahead: within a boot only the passing of time counts."""
    restless, calm = FakeClock(), FakeClock()
    memories = [running(restless), running(calm)]
    for seconds, wall in steps:
        restless.advance(seconds)
        calm.advance(seconds)
        restless.set_wall(wall)
        memories = [passed(memories[0], restless), passed(memories[1], calm)]
    for number in ("now_s", "boottime_s", "monotonic_s"):
        assert getattr(memories[0].timeline, number) == getattr(memories[1].timeline, number)
    assert memories[0].visit.stable_s == memories[1].visit.stable_s


@pytest.mark.parametrize(
    ("wall_step_s", "gap_s"),
    [
        (600.0, 600.0),
        (0.0, 10.0),
        (-14 * DAY_S, 10.0),
        (3 * DAY_S, DAY_S),
        (60 * 365 * DAY_S, DAY_S),
        (float("-inf"), 10.0),
    ],
    ids=["ten minutes", "none", "two weeks back", "three days", "sixty years", "never"],
)
def test_a_gap_between_boots_is_at_least_the_uptime_and_at_most_a_day(clock, wall_step_s, gap_s):
    """How long the machine was away is only as sure as the wall clock: it is bounded."""
    memory = running(clock)
    wall = clock.read().wall + wall_step_s
    clock.reboot(up_s=10.0)
    clock.set_wall(wall)
    memory = booted(memory, clock)
    assert memory.timeline.now_s == gap_s
    assert memory.visit.stable_s == 0


def test_a_clock_of_1970_costs_no_history(clock):
    """A boot before NTP, and the jump to the present after it, leave boots in their order."""
    memory = running(clock)
    clock.reboot()
    clock.set_wall(0.0)
    memory = booted(memory, clock)
    clock.set_wall(at("12:05"))
    clock.advance(60.0)
    memory = passed(memory, clock)
    assert memory.timeline.now_s == pytest.approx(70.0)
    assert [boot.seq for boot in memory.boots] == [1, 2]
    assert history.crashes_last_hour(memory) == 1


def test_a_boot_dated_in_the_future_does_not_stick(clock):
    """A crash recorded with tomorrow's date is an hour old after an hour, not after a day."""
    memory = running(clock)
    clock.reboot()
    clock.set_wall(at("12:00") + DAY_S)
    memory = booted(memory, clock)
    clock.set_wall(at("12:01"))
    clock.advance(HOUR_S - 1)
    memory = passed(memory, clock)
    assert history.crashes_last_hour(memory) == 1
    clock.advance(1.0)
    assert history.crashes_last_hour(passed(memory, clock)) == 0


@given(
    st.lists(
        st.tuples(st.sampled_from(["advance", "suspend", "wall", "reboot"]), st.floats(0, 2e6))
    )
)
def test_the_timeline_only_grows(events):
    """Whatever happens to clock and machine, time never goes back."""
    clock = FakeClock()
    memory = running(clock)
    for what, number in events:
        before_s = memory.timeline.now_s
        match what:
            case "advance":
                clock.advance(number)
            case "suspend":
                clock.suspend(number)
            case "wall":
                clock.set_wall(number * 1e3)
            case "reboot":
                clock.reboot(off_s=number)
                memory = booted(memory, clock)
        memory = passed(memory, clock)
        assert memory.timeline.now_s >= before_s
        assert memory.visit.stable_s <= memory.visit.running_s <= memory.timeline.now_s


# Boots


def test_a_boot_is_recorded_once(clock):
    """However often the daemon starts within a boot, the boot counts once."""
    memory = running(clock)
    clock.reboot()
    memory = booted(memory, clock)
    again, boot = history.record_boot(memory, clock.read(), LADDER, StabilityLimits())
    assert boot is None
    assert again == passed(memory, clock)
    assert (memory.boots_total, memory.crashes_total) == (2, 1)


def test_a_crash_ends_stable_time_and_counts_against_the_mode(clock):
    """A crash is told from a clean stop by the marker that is missing."""
    memory = running(clock)
    clock.advance(HOUR_S / 2)
    memory = passed(memory, clock)
    clock.reboot(off_s=50.0)
    memory = booted(memory, clock)
    assert memory.visit.stable_s == 0
    assert memory.visit.running_s == HOUR_S / 2
    assert memory.visit.crashes_s == (HOUR_S / 2 + 60.0,)
    assert not memory.running


def test_a_clean_stop_counts_against_nothing_and_for_one_boot_only(clock):
    """A planned reboot keeps the stable time; the next reboot is a crash again."""
    memory = running(clock, clean_stop=True)
    clock.advance(60.0)
    memory = passed(memory, clock)
    clock.reboot()
    memory = booted(memory, clock)
    assert memory.visit.stable_s == 60.0
    assert (memory.crashes_total, memory.visit.crashes_s) == (0, ())
    clock.reboot()
    assert booted(memory, clock).crashes_total == 1


def test_a_clean_stop_without_a_reboot_plans_nothing(clock):
    """The supervisor stopped and started within one boot: a crash after it is a crash."""
    memory, boot = history.record_boot(
        running(clock, clean_stop=True), clock.read(), LADDER, StabilityLimits()
    )
    assert boot is None
    clock.reboot()
    assert booted(memory, clock).boots[-1].crash


def test_a_crash_of_a_paused_machine_says_nothing_about_the_mode(clock):
    """While a person has paused, a reboot is recorded, and held against no mode."""
    memory = first_day(clock, goal=Goal(mode="light", pauses=("person",)))
    clock.reboot()
    memory = booted(memory, clock)
    assert memory.crashes_total == 1
    assert memory.visit.crashes_s == ()


def test_ten_thousand_boots_keep_the_memory_small(clock):
    """The newest boots and crashes are kept, the totals are right, the size stays flat."""
    memory = running(clock)
    sizes = []
    for _ in range(10_000):
        clock.reboot()
        memory = told.write(booted(memory, clock), "boot.recorded", rule="boot", reason="")
        memory = msgspec.structs.replace(memory, outbox=())
        sizes.append(len(msgspec.json.encode(memory)))
    assert (memory.boots_total, memory.crashes_total) == (10_001, 10_000)
    assert len(memory.boots) == history.BOOTS_KEPT
    assert memory.boots[-1].seq == 10_001
    assert len(memory.visit.crashes_s) == history.CRASHES_KEPT
    assert sizes[-1] < 1.1 * sizes[history.BOOTS_KEPT] < 100_000


# Decisions


def test_entering_a_mode_begins_a_visit(clock):
    """Running time and crashes belong to the visit: the next mode starts with none."""
    memory = running(clock)
    clock.advance(HOUR_S)
    clock.reboot()
    memory = moved_to(booted(memory, clock), "medium")
    assert memory.goal.mode == "medium"
    assert memory.visit.entered_s == memory.timeline.now_s
    assert (memory.visit.running_s, memory.visit.stable_s, memory.visit.crashes_s) == (0, 0, ())


def test_a_hold_begins_no_visit(clock):
    """Pausing or pinning where one is keeps the stable time of the mode."""
    memory = running(clock)
    clock.advance(HOUR_S / 2)
    memory = passed(memory, clock)
    decision = Decision(goal=Goal(mode="light", pauses=("person",)), rule="request", reason="")
    assert decisions.enact(memory, decision).visit == memory.visit


def test_the_mode_that_failed_cools_down_until_it_is_entered_or_the_time_is_over(clock):
    """A cool-down ends by time, and by a person who enters the mode nevertheless."""
    memory = moved_to(first_day(clock, goal=Goal(mode="medium")), "light", cool_down_s=HOUR_S)
    assert memory.cool_downs == {"medium": HOUR_S}
    assert moved_to(memory, "medium").cool_downs == {}
    clock.advance(HOUR_S)
    assert moved_to(passed(memory, clock), "heavy").cool_downs == {}


def test_answered_requests_are_remembered_up_to_a_number(clock):
    """The ids of answered requests are kept, newest last, and do not grow without end."""
    memory = first_day(clock)
    for number in range(decisions.REQUESTS_KEPT + 5):
        memory = decisions.answered(memory, a_request("pause", request_id=f"{number}"))
    assert len(memory.requests_done) == decisions.REQUESTS_KEPT
    assert memory.requests_done[-1] == f"{decisions.REQUESTS_KEPT + 4}"


def test_lines_are_numbered_and_the_outbox_is_bounded(clock):
    """Each line gets the next number; a log that cannot be written costs bounded memory."""
    memory = first_day(clock)
    for _ in range(told.OUTBOX_MAX + 5):
        memory = told.write(memory, "thing.happened", rule="test", reason="so", none=None)
    assert [line["seq"] for line in memory.outbox] == list(range(6, told.OUTBOX_MAX + 6))
    assert memory.decisions == told.OUTBOX_MAX + 5
    assert "none" not in memory.outbox[0]


def test_a_reset_forgets_all_but_the_numbers_of_the_log(clock):
    """After a reset it is a first day, and no line or request gets its number twice."""
    memory = told.write(moved_to(running(clock), "heavy", 60.0), "a.b", rule="r", reason="s")
    memory = decisions.answered(memory, a_request("reset"))
    clock.advance(HOUR_S)
    fresh = history.forgotten(memory, clock.read(), LADDER, ())
    assert fresh.goal == Goal(mode="light")
    assert (fresh.boots_total, fresh.crashes_total, fresh.cool_downs) == (1, 0, {})
    assert (fresh.decisions, fresh.outbox) == (memory.decisions, memory.outbox)
    assert fresh.requests_done == ("request-1",)


@pytest.mark.parametrize(
    ("status", "work_left"),
    [
        ("queued", True),
        ("quarantined", True),
        ("blocked", True),
        ("done", False),
        ("failed", False),
    ],
)
def test_work_is_left_until_every_run_has_ended(clock, status, work_left):
    """A run that is held or blocked is still work; one that is done or failed is not."""
    memory = first_day(clock, runs=(a_run(status="done"), a_run("drill-b", status=status)))
    assert decisions.facts(memory, LADDER, StabilityLimits()).work_left is work_left


# What the trainers say


def training(clock, **fields):
    """A memory in which drill-a trains, as the only run, in a mode that is full."""
    given = {"status": "running", "process": a_process(boot_id=clock.boot_id), "mode": "light"}
    run = a_run(**{**given, "started_monotonic_s": clock.read().monotonic_s, **fields})
    return running(clock, full=True, runs=(run,))


def heard(memory, saved=None, *, began=0, reached=None, **fields):
    """The memory after the words of drill-a, whose every step takes a tenth of a second."""
    said = a_heartbeat(
        began=a_mark(began),
        saved=None if saved is None else a_mark(saved),
        reached=a_mark(reached if reached is not None else saved or began),
        **fields,
    )
    return measure.hear(memory, {"drill-a": said}, LADDER)


def a_mark(step):
    return Mark(step=step, trained_s=step / 10)


def kept(memory, mode="light"):
    return memory.stretch.work.get(mode, {}).get("drill/a", Kept())


@given(st.lists(st.integers(0, 36_000), min_size=1) | st.lists(st.integers(0, 2**60)).map(sorted))
def test_what_a_run_has_kept_is_its_newest_checkpoint_however_often_one_listens(steps):
    """Whatever is heard, in whatever order: no step is kept twice, and none is forgotten."""
    memory = training(FakeClock())
    for step in steps:
        memory = heard(memory, step or None)
    assert kept(memory).steps == pytest.approx(max(steps, default=0))
    assert kept(memory).hours == pytest.approx(max(steps, default=0) / 10 / 3600)


def test_steps_that_are_made_again_are_not_kept_twice(clock):
    """A damaged checkpoint: the next life begins further back, and that was no work kept."""
    memory = heard(heard(training(clock), 5000), 4000, began=4000)
    assert kept(memory).steps == 5000
    assert kept(heard(memory, 6000, began=4000)).steps == 6000


def test_a_run_that_a_person_set_back_begins_anew(clock):
    """Somebody has removed its folder after a day: what it makes from then on is work."""
    memory = heard(training(clock, booked=a_mark(864_000)), 300)
    assert kept(memory).steps == 300
    assert memory.runs[0].progress.booked == a_mark(300)


def test_the_past_of_a_life_that_nobody_started_is_not_booked(clock):
    """A trainer was found alive: the time of its earlier work was never booked either."""
    memory = heard(training(clock, started_monotonic_s=None), 700)
    assert kept(memory) == Kept()
    assert kept(heard(memory, 900)).steps == 200


def test_work_belongs_to_the_mode_in_which_the_trainer_made_it(clock):
    """Its own word counts, not what the goal is by now."""
    memory = heard(training(clock), 700, mode="medium")
    assert (kept(memory, "medium").steps, kept(memory)) == (700, Kept())


def test_a_crash_would_lose_what_no_checkpoint_holds(clock):
    """On average over the trainers that live; nothing once none is left, the same in silence."""
    memory = heard(training(clock), 700, reached=1000)
    assert memory.unsaved_s == 30.0
    assert measure.hear(memory, {}, LADDER).unsaved_s == 30.0
    assert heard(memory, reached=200).unsaved_s == 20.0, "no checkpoint at all yet"
    (run,) = memory.runs
    other = asked(run, id="drill-b")
    both = msgspec.structs.replace(memory, runs=(run, other))
    said = a_heartbeat(run="drill-b", began=a_mark(0), reached=a_mark(100))
    assert measure.hear(both, {"drill-b": said}, LADDER).unsaved_s == 10.0
    resting = msgspec.structs.replace(memory, runs=(a_run(status="queued"),))
    assert heard(resting, 700, reached=1000).unsaved_s == 0.0


@pytest.mark.parametrize(("moved_s", "ran_s"), [(70.0, 60.0), (9.0, 0.0), (1e300, DAY_S)])
def test_a_trainer_has_lived_until_its_step_moved_last(clock, moved_s, ran_s):
    """Never less than nothing, and a day at most, whatever stands in a heartbeat."""
    memory = training(clock)
    said = a_heartbeat(progress_at_s=moved_s)
    memory = measure.last_words(memory, {"drill-a": said})
    assert (memory.visit.running_s, memory.timeline.now_s) == (ran_s, ran_s)
    assert memory.timeline.boottime_s == clock.read().boottime_s + ran_s


def test_words_from_an_older_boot_are_no_sign_of_life(clock):
    """The clock that they name began anew with this boot."""
    memory = training(clock, process=a_process(boot_id="older"))
    assert measure.last_words(memory, {"drill-a": a_heartbeat(progress_at_s=1e4)}) == memory


def test_days_of_absence_are_no_price_of_a_crash(clock):
    """Somebody has switched the machine off for a long weekend."""
    memory = training(clock)
    clock.reboot(off_s=3 * DAY_S)
    memory = booted(memory, clock)
    assert memory.outage is None
    clock.reboot(off_s=HOUR_S)
    assert booted(memory, clock).outage is not None


def test_work_is_lost_once(clock):
    """Boots that died one after the other lost nothing that the first had not lost already."""
    memory = msgspec.structs.replace(training(clock), unsaved_s=50.0)
    clock.reboot()
    memory = booted(memory, clock)
    assert memory.outage.lost_s == 50.0
    clock.reboot()
    assert booted(memory, clock).outage.lost_s == 0.0


def test_a_mode_does_not_pay_for_what_died_in_another(clock):
    """The goal has moved on: what is left of the old mode tells nothing about the new one."""
    memory = moved_to(training(clock), "medium")
    (run,) = memory.runs
    life = Lived(lived_s=60.0, start_s=60.0)
    limits = StabilityLimits()
    after = measure.record_death(memory, run, life, LADDER, limits, out_of_memory=True)
    assert after == (memory, run)
