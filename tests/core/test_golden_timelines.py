"""The guide's three scenarios, minute by minute, through history and the policy `fixed`."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from supervisor.core import decisions, history, policy
from supervisor.core.facts import StabilityLimits
from testkit.builders import DAY_S, HOUR_S, a_ladder, a_run
from testkit.fakes import FakeClock, at, time_of_day

TICK_S = 300.0


class Chronicle:
    """A machine that trains from boot to crash and looks when the daemon would.

    Args:
        start: when it is first booted, as HH:MM.
        rungs: how many modes there are.
        step_wall_s: set the wall clock by this much after every look.
    """

    def __init__(self, start, *, rungs=2, step_wall_s=0.0, limits=None):
        self.clock = FakeClock(start)
        self._true_wall = at(start)
        self._ladder = a_ladder(rungs)
        self._limits = limits or StabilityLimits(name="fixed")
        self._step_wall_s = step_wall_s
        self.memory = history.first_day(self.clock.read(), self._ladder, (a_run(),))
        self.moves = []
        """(HH:MM, old mode, new mode, rule, a trainer lived) of each change of the mode"""
        self._train(True)

    @property
    def mode(self):
        return self.memory.goal.mode

    @property
    def modes_over_time(self):
        return [(when, new) for when, _, new, *_ in self.moves]

    def until(self, moment):
        """Train until HH:MM, looking every five minutes and when the next climb is due."""
        while (left_s := at(moment) - self._true_wall) > 0:
            climb_in_s = policy.forecast(self._facts()).in_s
            due_s = min(TICK_S, TICK_S if climb_in_s is None else climb_in_s)
            self._pass(min(left_s, max(due_s, 0.05)))
            self._look()
        return self

    def crash(self, moment, *, off_s=0.0, planned=False):
        """Train until HH:MM and go down then; the boot is looked at before training begins."""
        self.until(moment)
        if planned:
            self.memory = msgspec.structs.replace(self.memory, clean_stop=True)
        self.clock.reboot(off_s=off_s, up_s=0.0)
        self._true_wall += off_s
        self.memory, boot = history.record_boot(
            self.memory, self.clock.read(), self._ladder, self._limits
        )
        assert boot is not None
        assert boot.crash is not planned
        self._look()
        self._train(True)
        return self

    def _pass(self, seconds):
        self.clock.advance(seconds)
        self._true_wall += seconds

    def _facts(self):
        return decisions.facts(self.memory, self._ladder, self._limits)

    def _look(self):
        self.memory = history.pass_time(self.memory, self.clock.read())
        decision = policy.decide(self._facts())
        if decision.goal != self.memory.goal:
            when, old = time_of_day(self._true_wall), self.memory.goal.mode
            self.moves.append((when, old, decision.goal.mode, decision.rule, self.memory.running))
        self.memory = decisions.enact(self.memory, decision)
        self.clock.set_wall(self.clock.read().wall + self._step_wall_s)

    def _train(self, running):
        self.memory = msgspec.structs.replace(self.memory, running=running)


STORM = ("20:35", "20:50", "21:05", "21:20")


def scenario_b(**how):
    """Scenario B up to the fall-back."""
    chronicle = Chronicle("19:27", **how)
    for moment in STORM:
        chronicle.crash(moment)
    return chronicle


def test_a_a_stable_machine_climbs_after_an_hour_and_stays():
    """A: started at 19:27 and never down, it is in medium from 20:27 on."""
    chronicle = Chronicle("19:27").until("43:27")
    assert chronicle.moves == [("20:27", "light", "medium", "stable", True)]


def test_b_a_reboot_storm_falls_back_before_a_trainer_starts():
    """B: the fourth crash within the hour, at 21:20, is met with light and no trainer alive."""
    assert scenario_b().moves == [
        ("20:27", "light", "medium", "stable", True),
        ("21:20", "medium", "light", "reboot_storm", False),
    ]


def test_b_medium_is_tried_again_and_left_again():
    """B: medium again at 22:20, after an hour of cool-down; a second storm ends it again."""
    chronicle = scenario_b()
    for moment in ("22:30", "22:45", "23:00", "23:15"):
        chronicle.crash(moment)
    assert chronicle.until("24:14").modes_over_time == [
        ("20:27", "medium"),
        ("21:20", "light"),
        ("22:20", "medium"),
        ("23:15", "light"),
    ]
    assert chronicle.until("24:15").mode == "medium"


def test_c_single_crashes_far_apart_stay_in_medium():
    """C: a crash now and then is forgiven for ever."""
    chronicle = Chronicle("19:27")
    for moment in ("21:00", "22:30", "24:00", "25:10", "26:30", "29:00"):
        chronicle.crash(moment)
    assert chronicle.until("40:00").modes_over_time == [("20:27", "medium")]


def test_three_crashes_an_hour_are_forgiven_and_slide_out_of_the_window():
    """Three crashes are within the measure; a fourth an hour after the first is again the third."""
    chronicle = Chronicle("19:27")
    for moment in ("20:35", "20:50", "21:05", "21:35", "21:50", "22:05"):
        chronicle.crash(moment)
    assert chronicle.mode == "medium"


def test_a_crash_starts_the_stable_time_afresh():
    """Stable time counts from the last crash, not from entering the mode."""
    chronicle = Chronicle("19:27").crash("20:00")
    assert chronicle.until("20:59").moves == []
    assert chronicle.until("21:00").modes_over_time == [("21:00", "medium")]


def test_downtime_is_no_stable_time():
    """A machine that was off has not proved anything meanwhile."""
    chronicle = Chronicle("19:27").crash("20:00", off_s=2 * HOUR_S, planned=True)
    assert chronicle.moves == []
    assert chronicle.until("22:27").modes_over_time == [("22:27", "medium")]


def test_planned_reboots_are_no_crashes():
    """Four clean reboots within the hour fall back from nothing, and cost no stable time."""
    chronicle = Chronicle("19:27").crash("20:00", planned=True).until("20:30")
    assert chronicle.modes_over_time == [("20:27", "medium")]
    for moment in ("20:35", "20:40", "20:45", "20:50", "20:55"):
        chronicle.crash(moment, planned=True)
    assert chronicle.mode == "medium"
    assert chronicle.memory.crashes_total == 0


def test_crashes_of_an_earlier_mode_are_not_held_against_the_next():
    """Crashes before the mode was entered belong to the mode before."""
    chronicle = Chronicle("17:00", rungs=3).until("19:00")
    assert chronicle.mode == "heavy"
    for moment in ("19:05", "19:10", "19:15", "19:20"):
        chronicle.crash(moment)
    assert chronicle.mode == "medium"
    for moment in ("19:25", "19:30", "19:35"):
        chronicle.crash(moment)
    assert chronicle.mode == "medium"
    assert chronicle.crash("19:40").mode == "light"


def test_the_lowest_mode_has_nothing_to_fall_back_to():
    """Light stays light however often the machine dies; after four short boots it idles."""
    chronicle = Chronicle("10:00")
    for minute in range(1, 50):
        chronicle.crash(f"10:{minute:02}")
    assert {(old, new) for _, old, new, *_ in chronicle.moves} == {("light", "light")}
    assert (chronicle.moves[0][0], chronicle.moves[0][3]) == ("10:04", "boot_loop")


@pytest.mark.parametrize(
    "step_wall_s", [-14 * 24 * HOUR_S, 24 * HOUR_S, 7.0, -7.0], ids=["-2w", "+1d", "+7s", "-7s"]
)
def test_a_restless_wall_clock_changes_no_decision_within_a_boot(step_wall_s):
    """Whatever the wall clock is set to while the machine is up, A goes the same way."""
    chronicle = Chronicle("19:27", rungs=3, step_wall_s=step_wall_s).until("24:00")
    assert chronicle.modes_over_time == [("20:27", "medium"), ("21:27", "heavy")]


def test_a_clock_that_goes_back_at_every_boot_misses_no_storm():
    """A clock that each boot finds two weeks back still sees four crashes in quick succession."""
    chronicle = Chronicle("19:27").until("20:27")
    for moment in STORM:
        chronicle.until(moment)
        chronicle.clock.set_wall(chronicle.clock.read().wall - 14 * 24 * HOUR_S)
        chronicle.crash(moment)
    assert chronicle.modes_over_time == [("20:27", "medium"), ("21:20", "light")]


minutes = st.integers(1, 240).map(lambda minute: f"{19 + minute // 60}:{minute % 60:02}")


@settings(max_examples=40)
@given(st.lists(minutes, unique=True, max_size=4), minutes)
def test_one_more_crash_never_brings_the_first_climb_forward(moments, another):
    """Whenever the machine dies once more, its first climb comes no sooner."""
    climbs = []
    for crashes in (moments, [*moments, another]):
        chronicle = Chronicle("19:00")
        for moment in sorted(set(crashes), key=at):
            chronicle.crash(moment)
        climbs.append(next(when for when, *_ in chronicle.until("27:00").moves))
    calm, worse = (at(when) + (DAY_S if when < "19:00" else 0) for when in climbs)
    assert worse >= calm
