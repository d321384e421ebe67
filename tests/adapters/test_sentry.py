"""The sentry samples while the guard is on, and wakes nobody for nothing."""

import math

import pytest

from supervisor import sentry
from supervisor.core import history
from supervisor.core.guard import Guard, Pressure
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
            self.sentry = Sentry(NoGpus(), ControlGroup("", ""), self.time)
            monkeypatch.setattr(sentry.pressure, "pressure", lambda *_: self.seen)
            monkeypatch.setattr(sentry.pressure, "look", self.look)
            monkeypatch.setattr(sentry.pressure, "busiest", lambda *_: (("java",), ("db",)))

        def look(self, *_):
            self.looks += 1
            return sentry_look()

        def pass_s(self, seconds):
            """How often it would have woken the daemon meanwhile."""
            woken = 0
            for _ in range(round(seconds / LIMITS.sample_s)):
                self.time.advance(LIMITS.sample_s)
                woken += self.sentry.look(self.memory)
            return woken

    sentry_look = sentry.pressure.look
    return Watched()


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
    assert watched.looks == 400


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
