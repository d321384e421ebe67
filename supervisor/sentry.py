"""Watches for the guard what others do here, between the looks of the daemon."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import msgspec

from state.records import Memory
from supervisor.core import guard
from supervisor.core.guard import Guard, Pressure, Verdict, Watch
from supervisor.core.readings import GpuReadings
from supervisor.host import pressure
from supervisor.host.alarm import Alarm
from supervisor.host.cgroup import ControlGroup, holds, memberships
from supervisor.host.pressure import Busy, Identity, Usage

if TYPE_CHECKING:
    from supervisor.host.probe import Probe


class Cards(Protocol):
    """Whatever has read the GPUs."""

    @property
    def newest(self) -> tuple[GpuReadings, ...]:
        """The GPUs as they were read last."""
        ...


GLANCE_S = 1.0
"""over which a share of the processors is a mean where somebody waits for it"""
EARLY = 0.25
"""after which part of `sample_s` a sample comes that should not wait"""
EXTRA_S = 10.0
"""one sample more than usual in so long, on average, whatever the reason"""
EXTRA_MAX = 4.0
"""of them in a short time"""
ALARM_TAKES = 3.0
"""of them: what rang it has only begun, and two more decide"""
QUIET_PERCENT = 10.0
"""where something waits for longer in any case, as by our own trainers, an alarm says nothing"""


def glance(
    trainers: Sequence[Identity], gpus: Sequence[GpuReadings] = (), limits: Guard | None = None
) -> Pressure:
    """What others do here at this moment, for a command that asks once, and waits a second.

    Args:
        trainers: ours, as `pressure.trainers` finds them.
        gpus: as they were read just now.
        limits: the settings, for what they want to have looked at; a service is asked once, which
            may take ten seconds.
    """
    groups = {} if limits is None else protected(limits, ControlGroup.of(), trainers)[0]
    before = pressure.look(trainers, protected=groups)
    time.sleep(GLANCE_S)
    seen = pressure.pressure(before, pressure.look(trainers, protected=groups), gpus)
    if limits is None or limits.probe is None:
        return seen
    from supervisor.helpers.probe import measure  # noqa: PLC0415 - only where it is asked for

    latency_ms = measure(limits.probe).latency_ms
    return msgspec.structs.replace(seen, service_latency_p95_ms=latency_ms)


def protected(
    limits: Guard, group: ControlGroup, trainers: Sequence[Identity]
) -> tuple[dict[str, Path], dict[str, str]]:
    """Where each protected control group can be looked at, and why others cannot.

    Args:
        limits: the settings.
        group: the groups of this process.
        trainers: ours: none of them may be in there.
    """
    found: dict[str, Path] = {}
    lost: dict[str, str] = {}
    for name in limits.protected:
        folder = group.folder(name)
        if holds_ours(name, group, trainers):
            lost[name] = f"{name} holds this supervisor or a trainer, so what waits there is ours"
        elif folder is None:
            lost[name] = f"there is no control group {name}"
        elif not os.path.isfile(folder / "cpu.pressure"):  # noqa: PTH113 - that of Path may raise
            lost[name] = f"the control group {name} tells no stalls"
        else:
            found[name] = folder
    return found, lost


def holds_ours(name: str, group: ControlGroup, trainers: Sequence[Identity]) -> bool:
    """Whether a control group holds the process with these groups, or one of these trainers."""
    told = (group.memberships, *(memberships(pid) or "" for pid, _ in trainers))
    return any(holds(name, one) for one in told)


class Sentry:
    """Samples the machine as often as the guard wants, and keeps what follows.

    The daemon is woken only where the answer has become another one: a sample saves nothing. One
    comes early where the one before has found that others begin, or where an alarm rings; how often
    that may be has a bound.

    Args:
        gpus: have read the GPUs.
        group: the control groups of this process; None: they are read.
        monotonic: the clock that counts on, in seconds.
        alarm: rings where something waits for a processor; None: that of this kernel.
    """

    def __init__(
        self,
        gpus: Cards,
        group: ControlGroup | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        alarm: Alarm | None = None,
    ) -> None:
        self._gpus = gpus
        self._alarm = alarm or Alarm()
        self._probe: Probe | None = None
        self._extra = EXTRA_MAX
        """early samples that may be taken now"""
        self._lost: dict[str, str] = {}
        """what cannot be looked at, and why; by what is asked for"""
        self._told: dict[str, str] = {}
        """what of that the log knows"""
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

    @property
    def alarms(self) -> tuple[int, ...]:
        """Have an urgent event when a sample should be taken at once."""
        return self._alarm.handles

    def troubles(self) -> list[str]:
        """What is to be looked at and cannot be, each told once until it can."""
        fresh = [why for what, why in self._lost.items() if self._told.get(what) != why]
        self._told = dict(self._lost)
        return fresh

    def close(self) -> None:
        """Look no more."""
        self._alarm.clear()
        self._lost = {}
        if self._probe is not None:
            self._probe.close()
            self._probe = None

    def verdict(self, limits: Guard | None) -> Verdict | None:
        """What the guard wants under these limits; None: it is off."""
        now_s = self._monotonic()
        if limits is None:
            self._watch, self._due_s, self._before, self._busy = None, math.inf, None, None
            self.close()
        elif self._watch is None:
            self._watch, self._due_s = guard.begun(now_s), now_s
        else:
            self._due_s = min(self._due_s, now_s + limits.sample_s)  # it may be shorter by now
        self._limits = limits
        return None if self._watch is None else self._watch.verdict

    def look(self, memory: Memory, *, alarmed: bool = False) -> bool:
        """Sample if it is time; whether the answer is another one now.

        Args:
            memory: which trainers are ours.
            alarmed: whether the alarm has rung.
        """
        now_s = self._monotonic()
        if self._watch is None or self._limits is None or (now_s < self._due_s and not alarmed):
            return False
        limits, trainers = self._limits, pressure.trainers(memory)
        early = now_s < self._due_s
        self._due_s = now_s + limits.sample_s
        groups, lost = protected(limits, self._group, trainers)
        after = pressure.look(trainers, self._group, protected=groups)
        before, self._before = self._before, after
        latency_ms = self._probed(limits, lost)
        self._lost = lost
        if before is None:
            return False  # the processor is measured from here on
        seen = pressure.pressure(before, after, self._gpus.newest)
        seen = msgspec.structs.replace(seen, service_latency_p95_ms=latency_ms)
        seen = self._named(seen, before, after)
        was = self._watch
        self._watch = guard.step(was, seen, limits, now_s)
        self._extra = min(EXTRA_MAX, self._extra + (after.at_s - before.at_s) / EXTRA_S)
        self._extra -= 1 if early else 0
        if trainers:
            self._hurry(was, seen, limits, alarmed=alarmed)
        else:
            self._alarm.clear()
        return self._watch.verdict != was.verdict

    def _hurry(self, was: Watch, seen: Pressure, limits: Guard, *, alarmed: bool) -> None:
        """Have the next sample come early where that is of use, and may be."""
        assert self._watch is not None  # noqa: S101 - it has just looked
        # One is kept for the sample that decides.
        least = 1 if self._watch.high else 2
        if (alarmed or guard.is_urgent(was, self._watch, limits)) and self._extra >= least:
            self._extra -= 1
            self._due_s += (EARLY - 1) * limits.sample_s
        quiet = seen.psi_cpu is not None and seen.psi_cpu < QUIET_PERCENT
        worth = self._watch.verdict.answer == "free" and not guard.presses(seen, limits)
        if quiet and worth and not alarmed and self._extra >= ALARM_TAKES:
            if not self._alarm.handles:
                self._alarm.set()
        else:
            self._alarm.clear()

    def _probed(self, limits: Guard, lost: dict[str, str]) -> float | None:
        """How quickly the service answers that is probed, if there is one."""
        if self._probe is not None and self._probe.asked != limits.probe:
            self._probe.close()
            self._probe = None
        if limits.probe is None:
            return None
        if self._probe is None:
            from supervisor.host.probe import Probe  # noqa: PLC0415 - only where it is asked for

            self._probe = Probe(limits.probe)
        self._probe.tend()
        if self._probe.trouble is not None:
            lost["probe"] = f"the service that is probed does not answer: {self._probe.trouble}"
        return self._probe.latency_p95_ms

    def _named(self, seen: Pressure, before: Usage, after: Usage) -> Pressure:
        """The pressure with the names of who it is, which are looked for while there is any."""
        if self._limits is None or not guard.presses(seen, self._limits):
            self._busy = None
            return seen
        known, self._busy = self._busy, pressure.others(after)
        if known is None:
            return seen
        busiest = pressure.busiest(known, self._busy, after.at_s - before.at_s)
        return guard.by(seen, self._limits, busiest)
