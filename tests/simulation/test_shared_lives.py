"""Lives of the real daemon, under the real guard, on machines that others need by day."""

import random
from collections import Counter

import pytest

from state import windows as kept
from supervisor.core.calendar import Window, opening
from supervisor.simulation.life import UTC
from supervisor.simulation.others import KINDS, Sentinel
from testkit.builders import MIDNIGHT
from testkit.fakes import Plan
from testkit.in_windows import found
from testkit.place import Place
from testkit.series import sample_of_a_series

LIVES, SEED = sample_of_a_series(6)
HOUR_S, DAYS = 3600.0, 3
NIGHTS = tuple(Window(start_weekday=day, start_hour=22, hours=9) for day in range(7))
SETTINGS = """\
[campaign]
trainer = "drill"
runs = ["a", "b"]
target.steps = 200_000
[guard]
"""


class Watchman:
    """The real guard over a clock and others that are made up; it begins anew with each daemon."""

    def __init__(self, clock, others):
        self._clock, self._others = clock, others
        self.begin()

    def begin(self):
        self._sentinel = None

    def verdict(self, limits):
        if self._sentinel is None:
            self._sentinel = Sentinel(self._others, limits, self._hour())
        return self._sentinel.verdict(self._hour())

    @property
    def due_s(self):
        return max(0.0, (self._sentinel.changes_h - self._hour()) * HOUR_S) + 1e-3

    def _hour(self):
        return (self._clock.read().wall - MIDNIGHT) / HOUR_S


class SharedLife:
    """A home on a machine that crashes under our load, now and then under that of others, too."""

    def __init__(self, seed, folder):
        self.chance = random.Random(seed)  # noqa: S311 - a life that can be lived again
        self.others = KINDS[self.chance.choice(list(KINDS))](self.chance, 24.0 * DAYS)
        self.nights = NIGHTS if self.chance.random() < 0.5 else ()
        folder.mkdir()
        if self.nights:
            kept.write(folder / "windows.json", found(self.nights, MIDNIGHT))
        asked = '[quiet_hours]\nzone = "UTC"\n' if self.nights else ""
        self.place = Place(folder, SETTINGS + asked)
        for name in ("a", "b"):
            self.place.plans[name] = Plan(steps_per_s=5.0)
        self.watchman = Watchman(self.place.clock, self.others)
        self.place.sentry = self.watchman
        self.crashes = Counter()
        self.begin()

    def begin(self):
        self.watchman.begin()
        self.place.begin()

    def live(self):
        """Let it go on until all is trained, or for far too long."""
        crash_s = self.chance.expovariate(1 / (4 * HOUR_S))
        while not self.place.daemon.memory.resting and self.hour < 24 * 40:
            due_s = self.place.daemon.tick("time")
            self.check()
            wait_s = min(due_s, self.place.host.next_end_s() + 1e-3, self.watchman.due_s, 600.0)
            works = self.place.daemon.memory.running
            self.place.clock.advance(wait_s)
            crash_s -= wait_s if works else wait_s / 8
            if crash_s <= 0:
                crash_s = self.chance.expovariate(1 / (4 * HOUR_S))
                self.crash()
            elif self.chance.random() < 0.02:
                self.begin()  # the daemon was killed

    def crash(self):
        """The machine goes down; whoever trains then is blamed, and nobody else."""
        before = self.place.daemon.memory
        self.place.daemon.tick("time")
        goal, living = self.place.daemon.memory.goal, self.place.host.mains()
        loaded = goal.trains and (goal.still is None or any(not one.stood.still for one in living))
        self.crashes[loaded] += 1
        self.place.host.power_off()
        self.place.clock.reboot(off_s=self.chance.uniform(20, 900))
        self.begin()
        after = self.place.daemon.memory
        if not loaded and after.goal.mode == before.goal.mode:
            assert after.visit.crashes == before.visit.crashes, "a pause is blamed"
            assert blamed(after) <= blamed(before), "a pause is blamed"

    def check(self):
        """What holds at every look."""
        memory, living = self.place.daemon.memory, self.place.host.mains()
        if memory.goal.frozen:
            assert all(main.stood.still for main in living), "somebody trains on"
            assert not memory.running
        if memory.goal.still is None and memory.goal.trains:
            assert not any(main.stood.still for main in living), "somebody stands still for nothing"
        at = self.place.clock.read().wall
        inside = opening(self.nights, UTC, at)
        if inside is not None and living:
            assert inside.opens_at <= at, "it trains outside a window"

    @property
    def hour(self):
        return (self.place.clock.read().wall - MIDNIGHT) / HOUR_S


def blamed(memory):
    """The crashes that the modes have in the ledger, which fade."""
    return sum(mode.crashes for mode in memory.ledger.modes.values())


@pytest.mark.parametrize("seed", range(SEED, SEED + LIVES))
def test_a_life_beside_others(seed, tmp_path):
    """Whatever others do and whoever dies, nobody is blamed for a pause, and all is trained."""
    life = SharedLife(seed, tmp_path / "home")
    life.live()
    place = life.place
    assert place.daemon.memory.resting, f"never done: {place.daemon.memory.goal}"
    assert not place.lines("run.hung")
    assert not place.lines("run.killed")
    assert {line["rule"] for line in place.lines("mode.changed")} <= {"stable", "absence"} | {
        line["rule"] for line in place.lines("mode.changed") if life.crashes[True]
    }
    paused = [line for line in place.lines("goal.changed") if line["rule"] == "guard"]
    assert paused
    assert all(line["old"] == line["new"] for line in paused)
