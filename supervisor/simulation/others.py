"""Who else needs a simulated machine, and when: what others use of it, and the guard's answers.

The guard is the real one, sampled as often as it wants to be. Where nothing can change before the
load of others does, the samples in between are left out.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence

import msgspec

from supervisor.core import guard
from supervisor.core.guard import Guard, Pressure, Verdict, Watch

HOUR_S = 3600.0
CALM = Pressure(cpu_other=3.0, memory_other=20.0)


class Spell(msgspec.Struct, frozen=True, kw_only=True):
    """A stretch of time in which others use the machine. Times are hours."""

    from_h: float
    to_h: float
    cpu: float = CALM.cpu_other or 0.0
    """percent of all processors"""
    memory: float = CALM.memory_other or 0.0
    """percent of the memory that training leaves"""


class Sentinel:
    """Watches for the guard over a simulated machine, from one change of its answer to the next.

    Args:
        spells: what others do; where several meet, the most of each counts.
        limits: of the guard.
        began_h: since when somebody looks: who has just begun knows nothing.
    """

    def __init__(self, spells: Sequence[Spell], limits: Guard, began_h: float) -> None:
        self._spells, self._limits = spells, limits
        edges_h = {edge for spell in spells for edge in (spell.from_h, spell.to_h)}
        self._edges_s = [*sorted(edge * HOUR_S for edge in edges_h), math.inf]
        self._edge = 0
        """the first of them that lies ahead"""
        self._sampled_s = began_h * HOUR_S
        self._seen = self._pressure()
        self._watch = guard.begun(self._sampled_s)
        self._verdict = self._watch.verdict
        self._changes_s = -math.inf
        self._find_change()

    @property
    def changes_h(self) -> float:
        """When the answer becomes another one; infinite: never."""
        return self._changes_s / HOUR_S

    def verdict(self, at_h: float) -> Verdict:
        """What the guard wants at that time, which lies no earlier than any before."""
        while self.changes_h <= at_h:  # as it was told, for seconds are no hours to the last bit
            self._verdict = self._watch.verdict
            self._find_change()
        return self._verdict

    def _find_change(self) -> None:
        """Sample on until the answer is another one."""
        was, sample_s, sampled = self._watch.verdict, self._limits.sample_s, False
        while self._watch.verdict == was:
            if sampled and _is_settled(self._watch):
                ahead_s = self._edges_s[self._edge] - self._sampled_s
                if ahead_s == math.inf:
                    self._changes_s = math.inf
                    return
                self._sampled_s += sample_s * max(0, math.ceil(ahead_s / sample_s) - 1)
            self._sampled_s += sample_s
            if self._edges_s[self._edge] <= self._sampled_s:
                self._seen = self._pressure()
            self._watch = guard.step(self._watch, self._seen, self._limits, self._sampled_s)
            sampled = True
        self._changes_s = self._sampled_s

    def _pressure(self) -> Pressure:
        """What others do now, which stays until the next of them comes or goes."""
        while self._edges_s[self._edge] <= self._sampled_s:
            self._edge += 1
        at_h = self._sampled_s / HOUR_S
        there = [spell for spell in self._spells if spell.from_h <= at_h < spell.to_h]
        return Pressure(
            cpu_other=max([CALM.cpu_other or 0.0, *(spell.cpu for spell in there)]),
            memory_other=max([CALM.memory_other or 0.0, *(spell.memory for spell in there)]),
        )


def _is_settled(watch: Watch) -> bool:
    """Whether the answer stays what it is as long as others go on as they do."""
    if watch.verdict.answer == "free":
        return watch.high == 0
    return watch.verdict.answer in ("hold", "evict") and watch.low_s is None


# What others do. Each draws from ranges that a machine which serves people may well have.


def at_random(rng: random.Random, end_h: float) -> tuple[Spell, ...]:
    """Builds, backups, visitors: minutes to hours, of the processor or of the memory."""
    spells: list[Spell] = []
    now_h = 0.0
    while True:
        begin_h = now_h + rng.expovariate(1 / 6.0)
        now_h = begin_h + math.exp(rng.uniform(math.log(1 / 60), math.log(3)))
        if now_h >= end_h:
            return tuple(spells)
        full = rng.random() < 0.3
        what = {"memory" if full else "cpu": rng.uniform(40, 100)}
        spells.append(Spell(from_h=begin_h, to_h=now_h, **what))


def square_wave(rng: random.Random, end_h: float) -> tuple[Spell, ...]:
    """A job that comes and goes every few seconds, for some hours."""
    begin_h, lasts_h = rng.uniform(0, end_h / 2), rng.uniform(0.5, 3)
    busy_s, calm_s = rng.randint(2, 29) * 2.0, rng.randint(2, 29) * 2.0
    every_s = busy_s + calm_s
    return tuple(
        Spell(
            from_h=begin_h + wave * every_s / HOUR_S,
            to_h=begin_h + (wave * every_s + busy_s) / HOUR_S,
            cpu=97.0,
        )
        for wave in range(int(lasts_h * HOUR_S / every_s))
    )


def players(rng: random.Random, end_h: float) -> tuple[Spell, ...]:
    """A game that is full at the same hours of every day."""
    begin_h, lasts_h = rng.uniform(12, 20), rng.uniform(2, 8)
    return tuple(
        Spell(
            from_h=24 * day + begin_h,
            to_h=24 * day + begin_h + lasts_h,
            cpu=rng.uniform(82, 100),
            memory=rng.uniform(20, 60),
        )
        for day in range(int(end_h / 24) - 1)
    )


KINDS: dict[str, Callable[[random.Random, float], tuple[Spell, ...]]] = {
    "at random": at_random,
    "square wave": square_wave,
    "players": players,
}
"""every way in which others need a machine, by its name"""
