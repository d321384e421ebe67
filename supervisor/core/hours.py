"""What the machine was like hour by hour, from its samples."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from state.samples import MEASURED, Sample
from supervisor.core.moments import stamp

HOUR_S = 3600.0
TRAINED_MAX = 8
"""runs that are named of an hour"""
GPU_COLUMNS = (
    "gpu_utilization_percent",
    "gpu_temperature_c",
    "gpu_memory_used_mib",
    "gpu_memory_other_mib",
    "gpu_power_w",
)
CSV_HEAD = ",".join(
    ("time", "boot", "uptime_s", "mode", "running", *MEASURED, *GPU_COLUMNS, "steps_per_s")
)


class Spread(msgspec.Struct, frozen=True, kw_only=True):
    """A value over some time."""

    mean: float
    highest: float


class Hour(msgspec.Struct, frozen=True, kw_only=True):
    """One hour of the clock on the wall. What no sample knows is None."""

    hour: str
    """when it began, in UTC"""
    samples: int
    sampled_min: float
    """minutes of it that samples cover"""
    cpu_percent: Spread | None
    cpu_own_percent: Spread | None
    memory_percent: Spread | None
    gpu_percent: Spread | None
    """of each sample the busiest GPU"""
    gpu_memory_percent: Spread | None
    """of each sample the fullest GPU"""
    trained: tuple[str, ...]
    """the ids of the runs, the most frequent first"""


class _Mean:
    """A mean that is weighted with time, and the highest value."""

    def __init__(self) -> None:
        self._sum = self._weight = 0.0
        self._highest: float | None = None

    def add(self, value: float | None, weight_s: float) -> None:
        if value is None:
            return
        self._sum += value * weight_s
        self._weight += weight_s
        self._highest = value if self._highest is None else max(self._highest, value)

    @property
    def spread(self) -> Spread | None:
        if self._highest is None or not self._weight:
            return None
        mean = min(self._highest, self._sum / self._weight)
        return Spread(mean=round(mean, 2), highest=round(self._highest, 2))


class _Hour:
    """What is gathered of one hour."""

    def __init__(self) -> None:
        self.samples = 0
        self.covered_s = 0.0
        self.cpu, self.own, self.memory = _Mean(), _Mean(), _Mean()
        self.gpu, self.gpu_memory = _Mean(), _Mean()
        self.trained: dict[str, int] = {}

    def add(self, one: Sample) -> None:
        # The first sample of a supervisor covers no time, and its memory is as good as any.
        covers_s = one.covers_s or 1.0
        self.samples += 1
        self.covered_s += one.covers_s or 0.0
        self.cpu.add(one.cpu_percent, covers_s)
        self.own.add(one.cpu_own_percent, covers_s)
        self.memory.add(_memory_percent(one), covers_s)
        self.gpu.add(_most(gpu.utilization_percent for gpu in one.gpus), covers_s)
        full = (_share(gpu.memory_used_mib, gpu.memory_total_mib) for gpu in one.gpus)
        self.gpu_memory.add(_most(full), covers_s)
        for rate in one.rates:
            self.trained[rate.run] = self.trained.get(rate.run, 0) + 1

    def told(self, hour: float) -> Hour:
        often = sorted(self.trained, key=lambda run: (-self.trained[run], run))
        return Hour(
            hour=stamp(hour * HOUR_S),
            samples=self.samples,
            sampled_min=round(min(self.covered_s, HOUR_S) / 60, 1),
            cpu_percent=self.cpu.spread,
            cpu_own_percent=self.own.spread,
            memory_percent=self.memory.spread,
            gpu_percent=self.gpu.spread,
            gpu_memory_percent=self.gpu_memory.spread,
            trained=tuple(often[:TRAINED_MAX]),
        )


def by_hour(samples: Iterable[Sample]) -> tuple[Hour, ...]:
    """The hours of which there are samples, in the order of the clock on the wall."""
    gathered: dict[float, _Hour] = {}
    for one in samples:
        gathered.setdefault(one.at // HOUR_S, _Hour()).add(one)
    return tuple(gathered[hour].told(hour) for hour in sorted(gathered))


def csv_line(one: Sample) -> str:
    """A sample as a line of CSV, in the order of `CSV_HEAD`; what is unknown is empty.

    Of several GPUs the busiest and the hottest count, and memory and power of all together.
    """
    gpus = one.gpus
    values = (
        stamp(one.at),
        one.boot_id,
        round(one.boottime_s, 1),
        one.mode,
        one.running,
        *(getattr(one, name) for name in MEASURED),
        _most(gpu.utilization_percent for gpu in gpus),
        _most(gpu.temperature_c for gpu in gpus),
        _sum(gpu.memory_used_mib for gpu in gpus),
        _sum(gpu.memory_other_mib for gpu in gpus),
        _sum(gpu.power_w for gpu in gpus),
        ";".join(f"{rate.run}={_said(rate.steps_per_s)}" for rate in one.rates),
    )
    return ",".join(map(_said, values))


def _said(value: object) -> str:
    return "" if value is None else f"{value}"


def _memory_percent(one: Sample) -> float | None:
    if one.memory_total_mib is None or one.memory_available_mib is None:
        return None
    return _share(one.memory_total_mib - one.memory_available_mib, one.memory_total_mib)


def _share(part: float | None, whole: float | None) -> float | None:
    return None if part is None or not whole else 100 * part / whole


def _most(values: Iterable[float | None]) -> float | None:
    return max((value for value in values if value is not None), default=None)


def _sum(values: Iterable[float | None]) -> float | None:
    known = tuple(values)
    return None if not known or None in known else sum(value for value in known if value)
