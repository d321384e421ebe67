"""The guide's scenarios and others, minute by minute, through history and the policy `ledger`."""

import pytest

from supervisor.core import measure
from supervisor.core.facts import StabilityLimits
from testkit.builders import HOUR_S
from testkit.fakes import at, time_of_day
from testkit.written_life import WrittenLife


class Played(WrittenLife):
    """A machine that goes down when it is told, from 19:27 on."""

    def until(self, moment):
        """Train until HH:MM."""
        self.train((at(moment) - at("19:27") - self.memory.timeline.now_s) / HOUR_S)
        return self

    def crash_at(self, *moments, cost_min=20.0):
        """Go down at each HH:MM; a boot takes 20 seconds."""
        for moment in moments:
            self.until(moment).crash(off_s=0.0, cost_s=60 * cost_min)
        return self

    @property
    def moves(self):
        """(HH:MM, new mode, rule) of each change of the mode, and of each proof."""
        return [
            (time_of_day(at("19:27") + line["now_s"]), line["new"], line["rule"])
            for line in self.lines
            if line["event"] in ("mode.changed", "mode.proved")
        ]

    @property
    def waits_min(self):
        """How long each mode that failed was left alone."""
        return [
            line["evidence"]["cool_down_min"]
            for line in self.lines
            if line["event"] == "mode.changed" and "cool_down_min" in line["evidence"]
        ]


STORM = ("20:35", "20:50", "21:05", "21:20")


def test_a_a_stable_machine_climbs_after_an_hour_and_stays():
    """A of the guide: started at 19:27 and never down, it is in medium from 20:27 on."""
    assert Played().until("43:27").moves == [("20:27", "medium", "stable")]


def test_b_a_reboot_storm_falls_back_and_costs_two_hours_at_the_second_time():
    """B: light at 21:20; medium again at 22:20; there the first crash is enough, for two hours."""
    life = Played().crash_at(*STORM)
    assert life.moves == [("20:27", "medium", "stable"), ("21:20", "light", "reboot_storm")]
    life.crash_at("22:30")
    assert life.moves[2:] == [("22:20", "medium", "stable"), ("22:30", "light", "worse_than_worth")]
    assert life.waits_min == [60.0, 120.0]


def test_b_a_third_visit_that_lasts_walks_one_failure_back():
    """Two hours later medium is tried again; an hour after that it has proved itself."""
    life = Played().crash_at(*STORM, "22:30").until("33:00")
    assert life.moves[4:] == [("00:30", "medium", "stable"), ("01:30", "medium", "proved")]
    medium = life.memory.ledger.modes["medium"]
    assert (medium.level, medium.recoveries, medium.bad_since_s) == (1, 1, None)
    assert medium.bad_hours == pytest.approx(3.92, abs=0.01), "from 20:35 to 00:30"


def test_c_single_crashes_far_apart_stay_in_medium():
    """C: a crash now and then is forgiven for ever, and so is each of a whole week."""
    life = Played().crash_at("21:00", "22:30", "24:00", "25:10", "26:30", "29:00")
    for hour in range(34, 200, 3):
        life.crash_at(f"{hour}:00")
    assert life.moves == [("20:27", "medium", "stable")]


def test_costly_reboots_an_hour_apart_are_no_storm_and_yet_too_much():
    """Four an hour never come; at two hours each they cost more than medium brings."""
    fixed, ours = Played(StabilityLimits(name="fixed")), Played()
    for life in (fixed, ours):
        life.until("20:28")
        for _ in range(24):
            life.train(65 / 60).crash(off_s=0.0, cost_s=7200.0)
    assert [mode for _, mode, _ in fixed.moves] == ["medium"]
    assert ours.moves[1][1:] == ("light", "budget_spent")


def test_a_hopeless_medium_is_tried_ever_more_seldom_and_every_day():
    """Cool-downs of one, two, four hours; then what tries are worth, and never above a day."""
    life = Played(StabilityLimits())
    while life.memory.timeline.now_s < 60 * 24 * HOUR_S:
        if life.memory.goal.mode == "medium":
            life.train(1 / 30).crash(off_s=0.0, cost_s=7200.0)
        else:
            life.train(0.5)
    waits = life.waits_min
    assert waits[:3] == [60.0, 120.0, 240.0]
    assert all(240 < wait <= 1440 for wait in waits[3:])
    assert waits[3:] == sorted(waits[3:])
    assert waits[-1] == 1440.0


def test_light_crashing_as_well_ends_the_cool_down():
    """After the storm in medium light dies twice within minutes: medium was not the cause."""
    life = Played().crash_at(*STORM, "21:30", "21:40")
    assert life.moves[2:] == [("21:40", "medium", "exonerated")]
    assert life.memory.ledger.modes["medium"].level == 0
    assert "medium" not in life.memory.cool_downs


def test_a_medium_that_is_slower_is_left_and_tried_again():
    """After 54 minutes, for six hours; the next time nine minutes are enough to tell."""
    life = Played()
    life.steps_per_h["medium"] = 0.5 * life.steps_per_h["light"]
    life.until("29:00")
    assert life.moves[1:] == [
        ("21:21", "light", "not_faster"),
        ("03:21", "medium", "stable"),
        ("03:30", "light", "not_faster"),
    ]
    assert life.waits_min == [360.0, 360.0]


def test_after_days_without_power_it_begins_in_the_lowest_mode():
    """From heavy to light at once, and up again rung by rung."""
    life = Played(rungs=3).until("23:00").crash(off_s=3 * 24 * HOUR_S)
    assert [mode for _, mode, _ in life.moves] == ["medium", "heavy", "light"]
    assert life.moves[-1][2] == "absence"
    assert [mode for _, mode, _ in life.train(2.1).moves[3:]] == ["medium", "heavy"]


def test_what_is_forbidden_is_left_and_what_is_allowed_again_is_climbed_to():
    """From heavy down to light; an hour of calm in light counts as ever."""
    life = Played(rungs=3).until("23:00").request("forbid", "medium").until("30:00")
    assert life.moves[2:] == [("23:00", "light", "request")]
    assert [mode for _, mode, _ in life.request("allow", "medium").until("32:00").moves[3:]] == [
        "medium",
        "heavy",
    ]


def test_each_of_three_rungs_has_a_ledger_of_its_own():
    """Heavy fails again and again; medium, which bears everything, pays for none of it."""
    life = Played(rungs=3)
    while life.memory.timeline.now_s < 24 * HOUR_S:
        if life.memory.goal.mode == "heavy":
            life.train(1 / 30).crash(off_s=0.0, cost_s=1200.0)
        else:
            life.train(0.5)
    modes = {mode for _, mode, _ in life.moves[1:]}
    assert modes == {"heavy", "medium"}
    assert life.memory.ledger.modes["heavy"].level >= 4
    assert life.memory.ledger.modes["medium"].level == 0


def test_another_machine_ends_the_cool_down():
    """A new kernel may have mended what failed: medium is tried after an hour, without caution."""
    life = Played().crash_at(*STORM, "22:30")
    for kernel in ("6.1", "6.2"):
        life.memory, _ = measure.recognise(
            life.memory, {"kernel": kernel}, life.ladder, life.limits
        )
    life.until("23:31")
    assert life.moves[4:] == [("23:30", "medium", "stable")]
    assert life.memory.ledger.budget == 3.0
