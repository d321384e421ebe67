"""How loaded the machine is, as far as it will tell."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol, TypeVar

import psutil

from supervisor.core.readings import GpuAnswer, Readings
from supervisor.host.cgroup import ControlGroup

MIB = 2**20

# The CPU share of a shorter window is made of a few clock ticks, and reads 0 or 100 by luck.
CPU_WINDOW_MIN_S = 0.1

# The processor's own sensors, by kernel driver; others are discs, network cards and the case.
CPU_SENSORS = ("coretemp", "k10temp", "zenpower", "cpu_thermal")

Value = TypeVar("Value")


class GpuSensor(Protocol):
    """Whatever reads the GPUs."""

    def read(self) -> GpuAnswer:
        """Return what is known of the GPUs, without waiting for more."""
        ...


class Sensors:
    """Reads the machine, and never fails: what cannot be read is None.

    Args:
        home: a path on the file system whose free space counts.
        gpus: reads the GPUs; it must not raise either.
        group: what we may use of the machine; None: what the group of this process may.
    """

    def __init__(self, home: Path, gpus: GpuSensor, group: ControlGroup | None = None) -> None:
        self._home = home
        self._gpus = gpus
        self._group = group or ControlGroup.of()
        self._group_used_s: float | None = None
        self._cpu_percent: float | None = None
        self._cpu_read_s: float | None = None

    def read(self) -> Readings:
        """Return the readings of this moment. Waits for nothing."""
        load = _known(os.getloadavg)
        memory = _known(psutil.virtual_memory)
        disk = _known(lambda: psutil.disk_usage(str(self._home)))
        percent = memory.percent if memory else None
        available = memory.available if memory else None
        ours = self._group.memory()
        if ours is not None:  # it dies, or is slowed down, at its own limit long before
            percent = max(percent or 0.0, round(100 * ours.used_share, 1))
            available = min(available or ours.available, ours.available)
        answer = self._gpus.read()
        return Readings(
            cpu_percent=self._read_cpu_percent(),
            load_1m=load[0] if load else None,
            memory_percent=percent,
            memory_available_mib=None if available is None else available // MIB,
            disk_free_mib=disk.free // MIB if disk else None,
            cpu_temperature_c=cpu_temperature_c(),
            gpus=answer.gpus,
            gpu_trouble=answer.trouble,
            gpu_age_s=_rounded(answer.age_s),
            gpu_awaited_s=_rounded(answer.awaited_s),
        )

    def _read_cpu_percent(self) -> float | None:
        """Return the CPU share since the last call, or None at the first, which has no window.

        That of the machine, or of the quota we have of it, whichever is nearer to its end.
        """
        now_s = time.monotonic()
        before_s = self._cpu_read_s
        if before_s is not None and now_s - before_s < CPU_WINDOW_MIN_S:
            return self._cpu_percent
        machine = _known(psutil.cpu_percent)
        ours = self._read_group_percent(now_s - (before_s or now_s))
        if before_s is not None:  # the first call has but opened the window
            known = [share for share in (machine, ours) if share is not None]
            self._cpu_percent = max(known, default=None)
        self._cpu_read_s = now_s
        return self._cpu_percent

    def _read_group_percent(self, window_s: float) -> float | None:
        """Return how much of a quota was used up since the last call, None where there is none."""
        before_s, self._group_used_s = self._group_used_s, self._group.cpu_used_s()
        quota = self._group.cpu_quota
        if before_s is None or self._group_used_s is None or quota is None or window_s <= 0:
            return None
        share = (self._group_used_s - before_s) / (window_s * quota)
        return round(100 * min(1.0, max(0.0, share)), 1)


def cpu_temperature_c() -> float | None:
    """Return the hottest processor sensor in degrees Celsius, or None where there is none."""
    return _known(_read_cpu_temperature_c)


def _read_cpu_temperature_c() -> float | None:
    sensors = psutil.sensors_temperatures()
    return max(
        (sensor.current for driver in CPU_SENSORS for sensor in sensors.get(driver, ())),
        default=None,
    )


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)


def _known(read: Callable[[], Value]) -> Value | None:
    """Return what ``read`` returns, or None where this machine cannot tell.

    psutil parses what the kernel prints, and each of these has been raised by a kernel, a
    container or a broken sensor that printed something else.
    """
    try:
        return read()
    except (OSError, ValueError, LookupError, RuntimeError, psutil.Error):
        return None
