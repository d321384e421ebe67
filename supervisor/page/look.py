"""One look at the home for all who watch: what the page is made from.

A look reads the home as `show-state` does, and nothing of it is written. However many watch, there
is one at a time, and all looks together take a small part of one processor.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

import msgspec

from state import samples
from state.samples import Sample
from supervisor import journal
from supervisor.config import Config
from supervisor.core.goodput import Goodput
from supervisor.core.moments import Moment
from supervisor.core.settings import Settings
from supervisor.host.clock import Clock
from supervisor.host.home import Home
from supervisor.page.lately import DAY_S, Lately, Series
from supervisor.page.queue import Jobs, Queue
from supervisor.report import Report, present, report
from trainers.contract import NewerFile

LOOK_S = 1.0
"""a look serves for so long, or longer:"""
SERVES = 100.0
"""so many times as long as it took, so that all looks together take a hundredth of the time"""
MOST = 5.0
"""but at most so many times as long as the least: on a busy machine news are late, and do come"""
SETTINGS_S = 5.0
"""the same of the settings, at least"""
SLOW_S = 15.0
"""the same of what is summed over the whole log"""
LINES = 50
"""of the decision log, the newest"""

ConfigOrWhy = Callable[[], Config | str]
"""reads the settings, or tells in one line why they cannot be read"""


class Look(msgspec.Struct, frozen=True, kw_only=True):
    """What was true at one moment."""

    at: float
    """wall time of that moment"""
    report: Report
    """the content of `show-state --json`"""
    goodput: Goodput
    cost_per_hour: float | None
    lines: tuple[journal.Line, ...]
    """the newest of the decision log, oldest first"""
    looked_at: float | None
    """wall time of the supervisor's newest look that it has saved; None: it has saved none"""
    sample: Sample | None
    """the newest of the machine; None: there is none of the last day"""
    lately: Lately
    """what has been, in pictures"""
    tick_s: float
    """between two looks of the supervisor at its machine: after two without news it is late"""
    queue: Queue | None
    """None: no jobs are taken in here, or their store does not answer"""


T = TypeVar("T")


class _Serving(Generic[T]):
    """Something that is made anew once it has served for long enough.

    Args:
        make: it, of this moment.
        clock: of this machine.
        least_s: it serves for so long at least.
    """

    def __init__(self, make: Callable[[Moment], T], clock: Clock, least_s: float = LOOK_S) -> None:
        self._make, self._clock = make, clock
        self._least_s, self._most_s = least_s, MOST * least_s
        self._made: tuple[T, float, float] | None = None
        """it, when it was begun by CLOCK_MONOTONIC, and until when it serves"""

    def of(self, moment: Moment) -> T:
        if self._made is not None and self._made[1] <= moment.monotonic_s < self._made[2]:
            return self._made[0]
        made = self._make(moment)
        began_s = moment.monotonic_s
        took_s = self._clock.read().monotonic_s - began_s
        self._made = made, began_s, began_s + min(self._most_s, max(self._least_s, SERVES * took_s))
        return made


class Looks:
    """Looks at a home; its methods may block.

    Args:
        home: which.
        read: the settings.
        clock: of this machine.
        jobs: whoever takes jobs in; None: nobody does.
    """

    def __init__(self, home: Home, read: ConfigOrWhy, clock: Clock, jobs: Jobs | None) -> None:
        self._home, self._clock = home, clock
        self._lock = threading.Lock()
        self.series = Series(home)
        """all that is read on as it grows"""
        self._config = _Serving(lambda _: read(), clock, SETTINGS_S)
        self._goodput = _Serving(self._measured, clock, SLOW_S)
        self._sample = _Serving(self._sampled, clock)
        self._lately: Lately | None = None
        self._queue = _Serving(lambda _: None if jobs is None else jobs.queue(), clock)
        self._look = _Serving(self._looked, clock)

    def look(self) -> Look:
        """The present, or what was so a moment ago."""
        with self._lock:
            return self._look.of(self._clock.read())

    def _looked(self, moment: Moment) -> Look:
        config = self._config.of(moment)
        settings = Settings() if isinstance(config, str) else config.settings
        told = report(self._home, config, moment, foretell=True)
        return Look(
            at=moment.wall,
            report=told,
            goodput=self._goodput.of(moment),
            cost_per_hour=settings.cost_per_hour,
            lines=tuple(self._tail()),
            looked_at=None
            if told.home_id is None
            else present(self._home, config, moment).timeline.seen_at,
            sample=self._sample.of(moment),
            lately=self._past(config, moment, told),
            tick_s=settings.policy.tick_s,
            queue=self._queue.of(moment),
        )

    def _past(self, config: Config | str, moment: Moment, told: Report) -> Lately:
        """What has been; anew in each minute, and where the runs are others."""
        known = self._lately
        if known is None or not known.is_of(moment, told):
            up = told.daemon.state == "running"
            self._lately = known = self.series.lately(config, moment, told.runs, up=up)
        return known

    def _tail(self) -> Sequence[journal.Line]:
        try:
            return journal.tail(self._home.decisions, LINES)
        except OSError:  # there is none yet
            return ()

    def _measured(self, moment: Moment) -> Goodput:
        return self.series.goodput(self._config.of(moment), moment)

    def _sampled(self, moment: Moment) -> Sample | None:
        try:
            found = samples.newest(self._home.samples)
        except (OSError, NewerFile):
            return None
        return found if found is not None and moment.wall - found.at < DAY_S else None
