"""How loaded the machine is, as far as it will tell."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol, TypeVar

import psutil

from supervisor.core.readings import GpuReadings, Readings

MIB = 2**20

# The CPU share of a shorter window is made of a few clock ticks, and reads 0 or 100 by luck.
CPU_WINDOW_MIN_S = 0.1

# The processor's own sensors, by kernel driver; others are discs, network cards and the case.
CPU_SENSORS = ("coretemp", "k10temp", "zenpower", "cpu_thermal")

Value = TypeVar("Value")


class GpuSensor(Protocol):
    """Whatever reads the GPUs."""

    def read(self) -> tuple[tuple[GpuReadings, ...], str | None]:
        """Return the GPUs, and why some are unknown."""


class Sensors:
    """Reads the machine, and never fails: what cannot be read is None.

    Args:
        home: a path on the file system whose free space counts.
        gpus: reads the GPUs; it must not raise either.
    """

    def __init__(self, home: Path, gpus: GpuSensor) -> None:
        self._home = home
        self._gpus = gpus
        self._cpu_percent: float | None = None
        self._cpu_read_s: float | None = None

    def read(self) -> Readings:
        """Return the readings of this moment. Waits for nothing but the GPUs' deadline."""
        load = _known(os.getloadavg)
        memory = _known(psutil.virtual_memory)
        disk = _known(lambda: psutil.disk_usage(str(self._home)))
        gpus, gpu_trouble = self._gpus.read()
        return Readings(
            cpu_percent=self._read_cpu_percent(),
            load_1m=load[0] if load else None,
            memory_percent=memory.percent if memory else None,
            memory_available_mib=memory.available // MIB if memory else None,
            disk_free_mib=disk.free // MIB if disk else None,
            cpu_temperature_c=_known(_read_cpu_temperature_c),
            gpus=gpus,
            gpu_trouble=gpu_trouble,
        )

    def _read_cpu_percent(self) -> float | None:
        """Return the CPU share since the last call, or None at the first, which has no window."""
        now_s = time.monotonic()
        if self._cpu_read_s is None:
            _known(psutil.cpu_percent)  # opens the window
        elif now_s - self._cpu_read_s < CPU_WINDOW_MIN_S:
            return self._cpu_percent
        else:
            self._cpu_percent = _known(psutil.cpu_percent)
        self._cpu_read_s = now_s
        return self._cpu_percent


def _read_cpu_temperature_c() -> float | None:
    """Return the hottest processor sensor in degrees Celsius, or None where there is none."""
    sensors = psutil.sensors_temperatures()
    return max(
        (sensor.current for driver in CPU_SENSORS for sensor in sensors.get(driver, ())),
        default=None,
    )


def _known(read: Callable[[], Value]) -> Value | None:
    """Return what ``read`` returns, or None where this machine cannot tell.

    psutil parses what the kernel prints, and each of these has been raised by a kernel, a
    container or a broken sensor that printed something else.
    """
    try:
        return read()
    except (OSError, ValueError, LookupError, RuntimeError, psutil.Error):
        return None
