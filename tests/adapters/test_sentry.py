"""The sentry samples while the guard is on, and wakes nobody for nothing."""

import math

import pytest

from supervisor import sentry
from supervisor.core import history
from supervisor.core.guard import Guard, Pressure
from supervisor.host.alarm import Alarm
from supervisor.host.cgroup import ControlGroup
from supervisor.sentry import Sentry
from testkit.builders import a_ladder
from testkit.fakes import FakeClock, FakeTime, NoGpus

LIMITS = Guard(sample_s=2.0)


@pytest.fixture
def watched(monkeypatch):
    """A sentry on a machine of numbers: `watched.seen` is what others do there."""

    class Watched:
        def __init__(self):
            self.seen, self.time, self.looks = Pressure(cpu_other=1.0), FakeTime(), 0
            self.memory = history.first_day(FakeClock().read(), a_ladder())
            self.alarm = FakeAlarm()
            self.sentry = Sentry(NoGpus(), ControlGroup("", ""), self.time, self.alarm)
            self.trains = True
            monkeypatch.setattr(sentry.pressure, "pressure", lambda *_: self.seen)
            monkeypatch.setattr(sentry.pressure, "trainers", lambda _: [(1, 1)] * self.trains)
            monkeypatch.setattr(sentry.pressure, "look", self.look)
            monkeypatch.setattr(sentry.pressure, "busiest", lambda *_: (("java",), ("db",)))

        def look(self, *_, **__):
            self.looks += 1
            return sentry_look()._replace(at_s=self.time())

        def pass_s(self, seconds, rings=False):
            """How often it would have woken the daemon meanwhile."""
            woken, until_s = 0, self.time() + seconds
            while (left_s := until_s - self.time()) > 1e-9:
                alarmed = rings and bool(self.sentry.alarms)
                self.time.advance(min(left_s, 0.3 if alarmed else self.sentry.due_s or 0.01))
                woken += self.sentry.look(self.memory, alarmed=alarmed)
            return woken

        def calm(self):
            """Training goes on, and as many early samples may be taken as ever."""
            self.sentry.verdict(LIMITS)
            self.pass_s(100)
            assert self.sentry.verdict(LIMITS).answer == "free"

        def stands_after_s(self, rings=False):
            """How long others press until training stands still."""
            began_s = self.time()
            while self.sentry.verdict(LIMITS).answer == "free":
                alarmed = rings and bool(self.sentry.alarms)
                self.time.advance(0.3 if alarmed else self.sentry.due_s)
                self.sentry.look(self.memory, alarmed=alarmed)
            return self.time() - began_s

    sentry_look = sentry.pressure.look
    return Watched()


class FakeAlarm(Alarm):
    """One that can always be set, and rings when a test says so."""

    def __init__(self):
        super().__init__()
        self.is_set = False

    @property
    def handles(self):
        return (7,) if self.is_set else ()

    def set(self):
        self.is_set = True
        return 0.1

    def clear(self):
        self.is_set = False


def test_a_guard_that_is_off_is_asked_nothing(watched):
    """No sample, no waking, no answer."""
    assert watched.sentry.verdict(None) is None
    assert watched.sentry.due_s == math.inf
    assert watched.pass_s(600) == 0
    assert watched.looks == 0


def test_the_daemon_is_woken_only_when_the_answer_is_another_one(watched):
    """Some hundred samples, three answers; who presses is named with the second of them."""
    watched.sentry.verdict(LIMITS)
    assert watched.pass_s(600) == 1
    assert watched.sentry.verdict(LIMITS).answer == "free"
    watched.seen = Pressure(cpu_other=99.0)
    assert watched.pass_s(100) == 1
    found = watched.sentry.verdict(LIMITS)
    assert (found.answer, found.cause) == ("freeze", "cpu")
    assert found.pressure.by == ("java",)
    watched.seen = Pressure(cpu_other=1.0)
    assert watched.pass_s(100) == 1
    assert 400 <= watched.looks <= 404


def test_a_guard_that_is_switched_off_forgets(watched):
    watched.sentry.verdict(LIMITS)
    watched.seen = Pressure(cpu_other=99.0)
    watched.pass_s(20)
    assert watched.sentry.verdict(LIMITS).answer == "freeze"
    assert watched.sentry.verdict(None) is None
    assert watched.sentry.verdict(LIMITS).answer == "hold"


def test_a_sample_is_taken_when_it_is_due_and_not_before(watched):
    watched.sentry.verdict(LIMITS)
    watched.sentry.look(watched.memory)
    assert watched.sentry.due_s == pytest.approx(2.0)
    watched.time.advance(1.0)
    watched.sentry.look(watched.memory)
    assert watched.looks == 1


def test_who_asks_for_more_samples_waits_no_longer_for_the_next_one(watched):
    watched.sentry.verdict(Guard(sample_s=300.0))
    watched.sentry.look(watched.memory)
    assert watched.sentry.due_s == pytest.approx(300.0)
    watched.sentry.verdict(LIMITS)
    assert watched.sentry.due_s == pytest.approx(2.0)
    watched.time.advance(1.5)
    watched.sentry.verdict(LIMITS)
    assert watched.sentry.due_s == pytest.approx(0.5)


CALM = Pressure(cpu_other=1.0, psi_cpu=0.5)
OURS = Pressure(cpu_other=1.0, psi_cpu=97.0)
BUSY = Pressure(cpu_other=99.0, psi_cpu=99.0)


@pytest.mark.parametrize("part", [0.0, 0.25, 0.5, 0.75, 0.99])
def test_foreign_load_has_training_stand_still_within_five_seconds(watched, part):
    """Whenever it begins: what the first sample has of it may be too little to count."""
    watched.seen = CALM
    watched.calm()
    watched.time.advance(part * LIMITS.sample_s)
    share = 99.0 * (1 - part)
    watched.seen = Pressure(cpu_other=share)
    began_s = watched.time()
    watched.time.advance(watched.sentry.due_s)
    watched.sentry.look(watched.memory)
    watched.seen = BUSY
    watched.stands_after_s()
    assert watched.time() - began_s <= 3.5


def test_trainers_that_have_lived_on_stand_still_as_soon(watched):
    """Who has just begun to look lets nothing start; others may come in that minute, too."""
    watched.seen = CALM
    watched.sentry.verdict(LIMITS)
    watched.pass_s(9.0)
    assert watched.sentry.verdict(LIMITS).answer == "hold"
    watched.seen = Pressure(cpu_other=75.0)
    watched.time.advance(watched.sentry.due_s)
    began_s = watched.time() - 0.75 * LIMITS.sample_s
    watched.sentry.look(watched.memory)
    watched.seen = BUSY
    while watched.sentry.verdict(LIMITS).answer == "hold":
        watched.time.advance(watched.sentry.due_s)
        watched.sentry.look(watched.memory)
    assert watched.time() - began_s <= 3.5


def test_an_alarm_has_it_stand_still_within_two(watched):
    """The sample that it causes says little; the two after it come early."""
    watched.seen = CALM
    watched.calm()
    assert watched.sentry.alarms
    watched.time.advance(0.3)
    watched.sentry.look(watched.memory, alarmed=True)
    assert not watched.sentry.alarms
    watched.seen = BUSY
    assert watched.stands_after_s() <= 1.1


def test_trainers_that_fill_the_machine_set_no_alarm(watched):
    """Of stalls that are there in any case it would only ring and ring."""
    watched.seen = OURS
    watched.calm()
    before = watched.looks
    assert watched.pass_s(600, rings=True) == 0
    assert watched.looks - before == 300
    assert not watched.sentry.alarms


def test_where_nothing_trains_there_is_nothing_to_gain(watched):
    watched.seen, watched.trains = CALM, False
    watched.calm()
    assert not watched.sentry.alarms


@pytest.mark.parametrize("other", [1.0, 50.0, 85.0])
def test_however_often_something_calls_for_a_sample_their_number_has_a_bound(watched, other):
    """0.6 a second: an alarm that rings at once, each time; a load that comes and goes."""
    watched.seen = CALM
    watched.calm()
    before, calm = watched.looks, True
    for _ in range(200):
        watched.seen = CALM if calm else Pressure(cpu_other=other, psi_cpu=0.5)
        calm = not calm
        watched.pass_s(3.1, rings=True)
    assert watched.looks - before <= 0.6 * 620 + sentry.EXTRA_MAX


def test_more_patience_is_had_by_more_samples(watched):
    """Only the first and the last of them are followed early."""
    limits = Guard(pause_samples=10)
    watched.sentry.verdict(limits)
    watched.seen = CALM
    watched.pass_s(100)
    watched.seen, began_s = BUSY, watched.time()
    while watched.sentry.verdict(limits).answer == "free":
        watched.time.advance(watched.sentry.due_s)
        watched.sentry.look(watched.memory)
    assert watched.time() - began_s > 7 * limits.sample_s


def test_the_sample_that_decides_comes_early_also_after_much_ado(watched):
    """Others that come and go a little use up all others."""
    watched.seen = CALM
    watched.calm()
    for other in (50.0, 1.0) * 8:
        watched.seen = Pressure(cpu_other=other, psi_cpu=99.0)
        watched.pass_s(LIMITS.sample_s)
    watched.seen = BUSY
    watched.time.advance(watched.sentry.due_s)
    watched.sentry.look(watched.memory)
    assert watched.sentry.due_s == pytest.approx(sentry.EARLY * LIMITS.sample_s)
