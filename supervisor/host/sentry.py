"""Watches for the guard what others do here, between the looks of the daemon."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from supervisor.core import guard
from supervisor.core.guard import Guard, Pressure, Verdict, Watch


class Sentry:
    """Samples the machine as often as the guard wants, and keeps what follows.

    The daemon is woken only where the answer has become another one: a sample saves nothing.

    Args:
        measure: what others do, since it was asked last.
        monotonic: the clock that counts on, in seconds.
    """

    def __init__(
        self, measure: Callable[[], Pressure], monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._measure = measure
        self._monotonic = monotonic
        self._limits: Guard | None = None
        self._watch: Watch | None = None
        self._due_s = math.inf

    @property
    def due_s(self) -> float:
        """Seconds until the next sample; infinite while the guard is off."""
        return max(0.0, self._due_s - self._monotonic())

    def verdict(self, limits: Guard | None) -> Verdict | None:
        """What the guard wants under these limits; None: it is off."""
        now_s = self._monotonic()
        if limits is None:
            self._watch, self._due_s = None, math.inf
        elif self._watch is None:
            self._measure()  # the processor is measured from here on
            self._watch, self._due_s = guard.begun(now_s), now_s + limits.sample_s
        self._limits = limits
        return None if self._watch is None else self._watch.verdict

    def look(self) -> bool:
        """Sample if it is time; whether the answer is another one now."""
        now_s = self._monotonic()
        if self._watch is None or self._limits is None or now_s < self._due_s:
            return False
        self._due_s = now_s + self._limits.sample_s
        before = self._watch.verdict
        self._watch = guard.step(self._watch, self._measure(), self._limits, now_s)
        return self._watch.verdict != before
