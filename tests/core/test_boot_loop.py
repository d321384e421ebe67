"""A machine that dies as soon as it trains is left idle for a while, and tried again."""

import msgspec
import pytest

from state.boot_notes import BootNotes
from state.records import BootNote, Goal
from supervisor.core import decisions, history, policy
from supervisor.core.facts import StabilityLimits
from testkit.builders import a_ladder, a_request, a_run
from testkit.fakes import FakeClock

LADDER = a_ladder(2)
LIMITS = StabilityLimits()
MINUTE_S = 60.0


class Machine:
    """A machine in its lowest mode, seen by a supervisor at the start of each boot."""

    def __init__(self, **fields):
        self.clock = FakeClock("10:00")
        memory = history.first_day(self.clock.read(), LADDER, (a_run(),))
        self.memory = msgspec.structs.replace(memory, **fields)

    @property
    def goal(self):
        return self.memory.goal

    def facts(self, **more):
        return decisions.facts(self.memory, LADDER, LIMITS, **more)

    def train(self, minutes):
        """Train for so long, looking at the end; while idle nothing trains."""
        self.memory = msgspec.structs.replace(self.memory, running=self.goal.trains)
        self.clock.advance(minutes * MINUTE_S)
        self.memory = history.pass_time(self.memory, self.clock.read())
        return self.look()

    def crash(self, *, planned=False):
        self.memory = msgspec.structs.replace(self.memory, clean_stop=planned)
        self.clock.reboot(up_s=0.0)
        self.memory, _ = history.record_boot(self.memory, self.clock.read(), LADDER, LIMITS)
        return self.look()

    def look(self, request=None):
        for _ in LADDER.names:
            self.memory = decisions.enact(self.memory, policy.decide(self.facts(request=request)))
            request = None
        return self

    def idle_min(self):
        until_s = self.goal.idle_until_s
        return None if until_s is None else (until_s - self.memory.timeline.now_s) / MINUTE_S

    def short_boots(self, count):
        for _ in range(count):
            self.train(2).crash()
        return self


def test_the_fourth_short_boot_leaves_the_machine_idle_and_each_further_one_for_longer():
    """Three short boots are borne; then nothing trains for 10, 20, 40 and 60 minutes."""
    machine = Machine().short_boots(3)
    assert machine.goal.trains
    waits = []
    for _ in range(6):
        machine.short_boots(1)
        waits.append(machine.idle_min())
    assert waits == [10, 20, 40, 60, 60, 60]


def test_after_the_idle_time_the_mode_is_tried_again():
    """Idling ends by itself, within the same boot."""
    machine = Machine().short_boots(4)
    assert not machine.train(9).goal.trains
    assert machine.train(1).goal == Goal(mode="light")


def test_one_short_boot_after_an_idle_time_makes_it_longer():
    """An idle boot that lives is no proof: the loop goes on where it was."""
    machine = Machine().short_boots(4)
    machine.train(10)
    machine.train(2).crash()
    assert machine.idle_min() == 20


def test_a_boot_that_trains_for_long_enough_ends_the_loop():
    """Five minutes of training forgive all short boots before."""
    machine = Machine().short_boots(4)
    machine.train(10).train(5).crash()
    assert machine.goal.trains
    assert machine.facts().short_boots == 0


def test_a_planned_reboot_ends_the_loop():
    """Whoever reboots the machine in order has looked after it."""
    machine = Machine().short_boots(4).crash(planned=True)
    assert machine.goal.trains


@pytest.mark.parametrize("kind", ["resume", "pause"])
def test_a_persons_word_ends_the_idle_time(kind):
    """Who says resume or pause is obeyed, and the short boots before are forgiven."""
    machine = Machine().short_boots(4)
    machine.look(a_request(kind))
    assert machine.goal == Goal(mode="light", pauses=("person",) * (kind == "pause"))
    assert machine.train(1).goal.idle_until_s is None


def test_a_pinned_mode_never_idles():
    """A person's word wins over a boot loop."""
    machine = Machine(goal=Goal(mode="light", pinned=True)).short_boots(9)
    assert machine.goal == Goal(mode="light", pinned=True)


def test_a_machine_without_work_never_idles():
    """Where every run has ended there is nothing to hold back."""
    machine = Machine(runs=(a_run(status="done"),)).short_boots(9)
    assert machine.goal.trains


def test_what_comes_next_is_foreseen():
    """While idle the forecast says until when."""
    forecast = policy.forecast(Machine().short_boots(4).facts())
    assert (forecast.action, forecast.in_s) == ("rest", 600.0)
    assert "light in 10 min" in forecast.why


# Boots that no supervisor lived to see


def a_note(number, event="up", wall=2e9):
    return BootNote(boot_id=f"note-{number}", event=event, wall=wall + number, boottime_s=1.0)


def test_boots_without_a_supervisor_are_counted_and_lead_to_the_lowest_mode_and_to_idling():
    """Twenty boots that died before the first look: medium falls back, and the machine idles."""
    machine = Machine(goal=Goal(mode="medium"))
    notes = [a_note(number) for number in range(20)]
    machine.memory, missed = history.record_missed(machine.memory, notes, LADDER, LIMITS)
    machine.crash()
    assert [boot.crash for boot in missed] == [True] * 20
    assert (machine.memory.boots_total, machine.memory.crashes_total) == (22, 21)
    assert machine.goal.mode == "light"
    assert machine.idle_min() == 60


def test_an_orderly_end_makes_the_next_boot_a_planned_one():
    """A boot that noted its own end was no crash, whether or not a supervisor saw it."""
    machine = Machine()
    notes = (a_note(1), a_note(1, "down"), a_note(2), a_note(2, "down"), a_note(2))
    machine.memory, missed = history.record_missed(machine.memory, notes, LADDER, LIMITS)
    assert [boot.crash for boot in missed] == [True, False]
    assert machine.crash().memory.boots[-1].crash, "boot 2 had begun again before it died"


def test_notes_are_counted_once():
    """Notes that could not be removed are not counted again by the next start."""
    machine = Machine()
    notes = (a_note(1), a_note(2))
    machine.memory, _ = history.record_missed(machine.memory, notes, LADDER, LIMITS)
    again, missed = history.record_missed(machine.memory, notes, LADDER, LIMITS)
    assert missed == ()
    assert again == machine.memory


def test_the_end_of_a_known_boot_is_news():
    """A boot that the supervisor knew, and that went down orderly after it had died."""
    machine = Machine()
    known = machine.memory.boots[-1].boot_id
    down = BootNote(boot_id=known, event="down", wall=2e9, boottime_s=100.0)
    memory, missed = history.record_missed(machine.memory, (down,), LADDER, LIMITS)
    assert missed == ()
    assert memory.clean_stop
    assert memory.timeline == machine.memory.timeline


def test_torn_notes_spoil_no_others(tmp_path):
    """What a power cut tore is left out; what is known is forgotten."""
    notes = BootNotes(tmp_path / "boots.jsonl")
    assert notes.read() == ()
    whole = [msgspec.json.encode(a_note(number)) for number in (1, 2)]
    (tmp_path / "boots.jsonl").write_bytes(
        whole[0] + b'\n{"boot_id":"3\n\0\0\0\n[]\n' + whole[1] + b"\n" + whole[0][:40]
    )
    assert notes.read() == (a_note(1), a_note(2))
    notes.trim(a_note(2).boot_id)
    assert notes.read() == (a_note(2),)
