"""Writes down what the machine is like, between the looks of the daemon, without a turn.

A sample is taken in the daemon's nap. It reads some counters of the kernel, takes what the GPUs'
helper says, and changes one slot of a file whose room is there already. Nothing of it reaches the
memory, so nothing is saved for it, and no decision can depend on it.
"""

from __future__ import annotations

import math
import os
from typing import Protocol

from state.records import Memory, Run
from state.samples import (
    DAY_S,
    GPUS_MAX,
    RUNS_LEAST,
    RUNS_MAX,
    GpuSample,
    Rate,
    Ring,
    Sample,
    slot_bytes,
)
from supervisor.core.readings import GpuReadings
from supervisor.core.settings import Samples
from supervisor.host import pressure
from supervisor.host.cgroup import ControlGroup
from supervisor.host.clock import Clock
from supervisor.host.home import Home, machine_id
from supervisor.host.sensors import cpu_temperature_c
from supervisor.runners.local import read_heartbeat
from trainers.contract import NewerFile

SYNC_S = 30.0
"""no sample is older when it reaches the disk"""
DAY_BYTES = 2_000_000
"""what a day takes at most: where many GPUs make a sample large, it is taken more rarely"""
GPUS_S = 5.0
"""how long the answer of the GPUs is waited for"""
REST_S = 600.0
"""after a sample that could not be written"""
MIB = 2**20


class Cards(Protocol):
    """Whatever reads the GPUs."""

    @property
    def is_reading(self) -> bool:
        """Whether a reading is under way."""
        ...

    @property
    def newest(self) -> tuple[GpuReadings, ...]:
        """The GPUs as they were read last."""
        ...

    def freshen(self) -> None:
        """Have a reading under way."""
        ...


class Sampler:
    """Samples one machine, for one home.

    Args:
        home: where the ring lies.
        clock: tells the time.
        gpus: reads the GPUs.
        group: the control groups of this process; None: they are read.
    """

    def __init__(
        self, home: Home, clock: Clock, gpus: Cards, group: ControlGroup | None = None
    ) -> None:
        self._home = home
        self._place = home.path.stat()
        self._clock = clock
        self._gpus = gpus
        self._group = group or ControlGroup.of()
        self._ring = Ring(home.samples, machine=machine_id(), max_bytes=0)
        self._before: pressure.Usage | None = None
        """what the counters said at the sample before"""
        self._at_s = -math.inf
        """when the next sample is to be taken"""
        self._until_s: float | None = None
        """how long the GPUs are waited for; None: they are not"""
        self._unsynced_s: float | None = None
        """of when the oldest sample is that may not have reached the disk; None: all have"""
        self._least_s = 0.0
        """how long a sample as large as the last one has for itself, as a day's room has it"""
        self._cards = 0
        """how many GPUs there were at last"""
        self._trouble: str | None = None
        self._told = False

    @property
    def due_s(self) -> float:
        """Seconds until `tend` has something to do; infinite where it never has."""
        at_s = self._at_s if self._until_s is None else self._until_s
        return max(0.0, at_s - self._clock.read().monotonic_s)

    @property
    def trouble(self) -> str | None:
        """Why nothing is written; told once, until it can be written again."""
        if self._trouble is None or self._told:
            return None
        self._told = True
        return self._trouble

    def tend(self, wanted: Samples, memory: Memory) -> None:
        """Take the sample that is due, once the GPUs have answered. Waits for nothing but the disk.

        Args:
            wanted: how often, and how much of it is kept.
            memory: which runs train, and in which mode.
        """
        now_s = self._clock.read().monotonic_s
        if not wanted.enabled:
            self.close()
            self._at_s, self._until_s, self._before = math.inf, None, None
            return
        if self._at_s == math.inf:
            self._at_s = now_s  # it was switched on again
        running = [run for run in memory.runs if run.status == "running"]
        step_s = max(self._least_s, wanted.training_s if running else wanted.idle_s)
        # What trains since a moment ago is not to wait for the end of a quiet minute.
        self._at_s = self._at_s if self._trouble else min(self._at_s, now_s + step_s)
        if now_s < self._at_s:
            return
        if not self._is_home():
            self._at_s = now_s + step_s
            return
        if self._until_s is None:
            self._gpus.freshen()
            self._until_s = now_s + GPUS_S
        if self._gpus.is_reading and now_s < self._until_s:
            return  # its answer ends the nap
        self._until_s = None
        taken = self._sample(running, memory)
        size = slot_bytes(len(taken.gpus[:GPUS_MAX]), max(RUNS_LEAST, len(taken.rates)))
        self._least_s = size * DAY_S / DAY_BYTES
        step_s = max(self._least_s, step_s)
        self._at_s = now_s + step_s
        self._ring.max_bytes = wanted.max_bytes
        try:
            self._write(taken, now_s, step_s)
        except (OSError, NewerFile) as error:
            self._lose(str(error) if isinstance(error, NewerFile) else _why(error), now_s)
        else:
            if self._unsynced_s is None:  # the disk has really taken it
                self._trouble, self._told = None, False

    def close(self) -> None:
        """Have all samples reach the disk, and let go of the ring."""
        try:
            self._ring.sync()
        except OSError:
            pass  # they are lost if the power is, too
        self._unsynced_s = None
        self._ring.close()

    def _is_home(self) -> bool:
        """Whether the home is where it was; what lies at its path else may be another's."""
        try:
            return os.path.samestat(self._home.path.stat(), self._place)
        except OSError:
            return False

    def _write(self, taken: Sample, now_s: float, step_s: float) -> None:
        self._ring.write(taken)
        if self._unsynced_s is None:
            self._unsynced_s = now_s
        if now_s + step_s - self._unsynced_s >= SYNC_S:
            self._ring.sync()
            self._unsynced_s = None

    def _lose(self, why: str, now_s: float) -> None:
        """Rest, since what cannot be written now can hardly be in a moment."""
        self._ring.close()
        self._unsynced_s = None
        self._at_s = now_s + REST_S
        self._told = self._told and self._trouble == why
        self._trouble = why

    def _sample(self, running: list[Run], memory: Memory) -> Sample:
        moment = self._clock.read()
        usage = pressure.look(pressure.trainers(memory), self._group)
        # Without a sample before there is no time over which a share could be a mean.
        used = pressure.between(self._before or usage, usage)
        self._before = usage
        cards = self._gpus.newest
        self._cards = len(cards) or self._cards
        gpus = [_card(card, usage) for card in cards] or [GpuSample()] * self._cards
        return Sample(
            at=moment.wall,
            monotonic_s=moment.monotonic_s,
            boottime_s=moment.boottime_s,
            boot_id=moment.boot_id,
            mode=memory.goal.mode,
            running=len(running),
            load_1m=_load_1m(),
            disk_free_mib=self._disk_free_mib(),
            cpu_temperature_c=cpu_temperature_c(),
            gpus=tuple(gpus),
            rates=tuple(self._rate(run) for run in running[:RUNS_MAX]),
            **(used._asdict() | {"covers_s": used.covers_s or None}),
        )

    def _rate(self, run: Run) -> Rate:
        if run.attempt.frozen_s is not None:  # what it said last is what it was before
            return Rate(run=run.id, steps_per_s=0.0)
        said = read_heartbeat(self._home.run(run.id))
        return Rate(run=run.id, steps_per_s=None if said is None else said.steps_per_s)

    def _disk_free_mib(self) -> float | None:
        try:
            disk = os.statvfs(self._home.path)
        except OSError:
            return None
        return disk.f_bavail * disk.f_frsize / MIB


def _card(card: GpuReadings, usage: pressure.Usage) -> GpuSample:
    return GpuSample(
        utilization_percent=card.utilization_percent,
        temperature_c=card.temperature_c,
        power_w=card.power_w,
        xid=None if card.xids is None else float(next(iter(reversed(card.xids)), 0)),
        memory_used_mib=card.memory_used_mib,
        memory_total_mib=card.memory_total_mib,
        memory_other_mib=pressure.gpu_memory_other_mib(card, usage),
        ecc_uncorrected=card.ecc_uncorrected,
    )


def _load_1m() -> float | None:
    try:
        return os.getloadavg()[0]
    except OSError:
        return None


def _why(error: OSError) -> str:
    return error.strerror or str(error)
