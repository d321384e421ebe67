"""Watches for the guard what others do here, between the looks of the daemon."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from state.records import Memory
from supervisor.core import guard
from supervisor.core.guard import Guard, Pressure, Verdict, Watch
from supervisor.core.readings import GpuReadings
from supervisor.host import pressure
from supervisor.host.cgroup import ControlGroup
from supervisor.host.pressure import Busy, Identity, Usage


class Cards(Protocol):
    """Whatever has read the GPUs."""

    @property
    def newest(self) -> tuple[GpuReadings, ...]:
        """The GPUs as they were read last."""
        ...


GLANCE_S = 1.0
"""over which a share of the processors is a mean where somebody waits for it"""


def glance(trainers: Sequence[Identity], gpus: Sequence[GpuReadings] = ()) -> Pressure:
    """What others do here at this moment, for a command that asks once, and waits a second.

    Args:
        trainers: ours, as `pressure.trainers` finds them.
        gpus: as they were read just now.
    """
    before = pressure.look(trainers)
    time.sleep(GLANCE_S)
    return pressure.pressure(before, pressure.look(trainers), gpus)


class Sentry:
    """Samples the machine as often as the guard wants, and keeps what follows.

    The daemon is woken only where the answer has become another one: a sample saves nothing.

    Args:
        gpus: have read the GPUs.
        group: the control groups of this process; None: they are read.
        monotonic: the clock that counts on, in seconds.
    """

    def __init__(
        self,
        gpus: Cards,
        group: ControlGroup | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._gpus = gpus
        self._group = group or ControlGroup.of()
        self._monotonic = monotonic
        self._limits: Guard | None = None
        self._watch: Watch | None = None
        self._due_s = math.inf
        self._before: Usage | None = None
        """what the counters said at the sample before"""
        self._busy: dict[Identity, Busy] | None = None
        """what others had used at the sample before; None: nobody pressed then"""

    @property
    def due_s(self) -> float:
        """Seconds until the next sample; infinite while the guard is off."""
        return max(0.0, self._due_s - self._monotonic())

    def verdict(self, limits: Guard | None) -> Verdict | None:
        """What the guard wants under these limits; None: it is off."""
        now_s = self._monotonic()
        if limits is None:
            self._watch, self._due_s, self._before, self._busy = None, math.inf, None, None
        elif self._watch is None:
            self._watch, self._due_s = guard.begun(now_s), now_s
        self._limits = limits
        return None if self._watch is None else self._watch.verdict

    def look(self, memory: Memory) -> bool:
        """Sample if it is time; whether the answer is another one now.

        Args:
            memory: which trainers are ours.
        """
        now_s = self._monotonic()
        if self._watch is None or self._limits is None or now_s < self._due_s:
            return False
        self._due_s = now_s + self._limits.sample_s
        trainers = pressure.trainers(memory)
        after, before = pressure.look(trainers, self._group), self._before
        self._before = after
        if before is None:
            return False  # the processor is measured from here on
        seen = pressure.pressure(before, after, self._gpus.newest)
        seen = self._named(seen, before, after)
        was = self._watch.verdict
        self._watch = guard.step(self._watch, seen, self._limits, now_s)
        return self._watch.verdict != was

    def _named(self, seen: Pressure, before: Usage, after: Usage) -> Pressure:
        """The pressure with the names of who it is, which are looked for while there is any."""
        if self._limits is None or not guard.presses(seen, self._limits):
            self._busy = None
            return seen
        known, self._busy = self._busy, pressure.others(after)
        if known is None:
            return seen
        return guard.by(seen, pressure.busiest(known, self._busy, after.at_s - before.at_s))
