"""A run of a real supervisor over as many quiet windows as it takes, by a clock of its own.

Windows begin at whole hours and last whole hours. Nobody waits for that: in the night before a
window the clock is put forward to just before it opens, and in the window, as soon as training has
begun, to just before it closes. Opening, leaving and waiting are the supervisor's own doing.
"""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from state import windows as kept
from state.store import Store
from state.windows import Backtest, Promise, QuietWindow, Windows
from supervisor.core.calendar import Window
from supervisor.host.home import Home
from testkit import chained
from testkit.false_clock import FalseClock
from testkit.machine import Machine
from testkit.patience import PATIENCE_S
from testkit.processes import processes

HOUR_S = 3600
LEAD_S = 3
"""seconds before a window opens at which the night is over"""
OUTSIDE_S = 3.0
"""for so long it is looked whether nothing lives outside"""
LOOK_S = 0.05
SETTINGS = """\
trainers_dir = "own"

[logs]
turns = true

[campaign]
trainer = "chain"
runs = ["a"]
target = {{ links = {links} }}
options = {{ pause_s = {pause_s}, family = true }}

[checkpoints]
interval_s = {interval_s}

[policy]
tick_s = 0.5

[recovery]
grace_s = {reserve_s}

[warm]
trainers = []
"""
QUIET_HOURS = """
[quiet_hours]
zone = "UTC"

[guard]
enabled = false
"""


class Lived(NamedTuple):
    """One window as it was lived."""

    opens_at: float
    began_s: float
    """after the opening the first process was there"""
    trained_s: float
    """from then on until the last was gone"""
    left_s: float
    """before the window's end nothing lived any more"""
    links: int
    """how far the newest checkpoint was then"""


class InWindows:
    """A home that waits for windows.

    Args:
        machine: a fresh one.
        clock: its clock.
        links: how long the run is.
        pause_s: what a link takes.
        window_s: for how long training goes on in each window.
        reserve_s: for saving and leaving.
    """

    def __init__(
        self,
        machine: Machine,
        clock: FalseClock,
        *,
        links: int,
        pause_s: float = 0.02,
        window_s: float,
        reserve_s: float = 30.0,
    ) -> None:
        self._machine, self._clock = machine, clock
        self._links, self._window_s, self._reserve_s = links, window_s, reserve_s
        machine.extra |= clock.environment
        chained.install(machine.home / "own")
        told = {"links": links, "pause_s": pause_s, "reserve_s": reserve_s}
        settings = SETTINGS.format(**told, interval_s=min(60.0, window_s / 4))
        machine.configure(settings + QUIET_HOURS)
        self.opens_at = (int(clock.now) // HOUR_S + 1) * HOUR_S
        """when the first window opens; one follows every other hour"""
        kept.write(machine.home / "windows.json", every_other_hour(self.opens_at))

    def live(self, told: Callable[[Lived], None] = lambda _: None) -> list[Lived]:
        """Go on over as many windows as it takes; each as it was lived."""
        self._clock.put_to(self.opens_at - LEAD_S)
        daemon = self._machine.start()
        lived: list[Lived] = []
        opens_at = self.opens_at
        while not self._is_done():
            if lived:
                self._clock.put_to(opens_at - LEAD_S)
            lived.append(self._window(opens_at))
            told(lived[-1])
            self._nothing_lives_until(self._clock.now + OUTSIDE_S)
            opens_at += 2 * HOUR_S
            assert daemon.poll() is None
        daemon.terminate()
        assert daemon.wait(PATIENCE_S) == 0
        return lived

    def _window(self, opens_at: float) -> Lived:
        closes_at = opens_at + HOUR_S
        self._nothing_lives_until(opens_at)
        self._machine.until(self._living, "the window opens")
        began_s = self._clock.now - opens_at
        self._clock.put_to(closes_at - self._reserve_s - self._window_s)
        began_at = self._clock.now
        while self._living():
            assert self._clock.now < closes_at, "something trains outside"
            time.sleep(LOOK_S)
        links, _ = chained.saved(self.run)
        now = self._clock.now
        return Lived(opens_at, began_s, now - began_at, closes_at - now, links)

    @property
    def run(self) -> Path:
        """The folder of the run."""
        return self._machine.home / "runs/chain-a"

    def check(self, lived: list[Lived]) -> None:
        """Nobody can tell the run from one that was never interrupted, and nobody is blamed."""
        assert chained.saved(self.run) == (self._links, chained.undisturbed(self._links))
        memory, _ = Store(Home(self._machine.home).state).peek()
        assert memory is not None
        assert memory.visit.crashes == memory.crashes_total == 0
        assert memory.visit.running_s <= sum(one.trained_s + one.began_s for one in lived)
        events = {line["event"] for line in self._machine.events()}
        assert not events & {"run.died", "run.hung", "run.killed", "mode.changed"}
        links = [one.links for one in lived]
        assert links == sorted(set(links)), "a window brought nothing"

    def _nothing_lives_until(self, at: float) -> None:
        while self._clock.now < at:
            assert not self._living(), "something trains outside"
            time.sleep(LOOK_S)

    def _living(self) -> bool:
        return bool(processes(self._machine.home / "runs"))

    def _is_done(self) -> bool:
        return chained.saved(self.run)[0] == self._links


def found(week: Iterable[Window], made_at: float) -> Windows:
    """An analysis that has found these windows, in UTC, and knows nothing else."""
    promise = Promise(weeks_choosing=3, weeks_judging=4, kept=4, of=4, at_least=0.8)
    windows = tuple(
        QuietWindow(
            start_weekday=one.start_weekday,
            start_hour=one.start_hour,
            hours=one.hours,
            score=0.0,
            players_mean=None,
            players_high=None,
            promise=promise,
        )
        for one in week
    )
    return Windows(
        made_at=made_at,
        zone="UTC",
        sources=(),
        weeks=4,
        metrics_used=("players",),
        formula="robust",
        windows=windows,
        backtest=Backtest(weeks=4, regret_median=None, regret_p95=None, promise_kept=None),
        next=None,
    )


def every_other_hour(first_at: float) -> Windows:
    """An analysis that has found an hour after each busy hour, for a day."""
    moments = [
        dt.datetime.fromtimestamp(first_at + 2 * hour * HOUR_S, dt.UTC) for hour in range(12)
    ]
    week = [
        Window(start_weekday=moment.weekday(), start_hour=moment.hour, hours=1)
        for moment in moments
    ]
    return found(week, first_at - HOUR_S)
