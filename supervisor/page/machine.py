"""What the machine was like lately, from its samples, and how long its disk will last."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping
from itertools import combinations
from pathlib import Path

import msgspec

from state import samples
from state.samples import Sample
from supervisor.core.facts import StabilityLimits
from supervisor.core.guard import Guard
from supervisor.page.trace import Points, Trace

HOUR_S, DAY_S = 3600.0, 86_400.0
SPAN_S = 3 * DAY_S
"""how far back the samples are looked at"""
SILENT_S = 300.0
"""without a sample for longer than this, or than three of them cover, nobody took one"""
SLEPT_S = 60.0
"""a clock that stands still for longer meanwhile shows that the machine was suspended"""
DISK_HOURS_MIN = 6
"""hours of which the free space must be known before anything is told of its end"""
SURE = 0.75
"""share of the pairs of hours between which the disk must have filled"""
DAYS_MAX = 3650.0


class Limit(msgspec.Struct, frozen=True, kw_only=True):
    """A value from which on something follows."""

    value: float
    words: str
    """what follows"""


class Gauge(msgspec.Struct, frozen=True, kw_only=True):
    """One value of the machine over some time."""

    name: str
    """such as `cpu_percent` or `gpu0_power_w`, the unit last"""
    words: str
    """what it is, for a person"""
    unit: str
    points: Points
    """over wall time"""
    last: float | None
    limits: tuple[Limit, ...] = ()


class DiskLeft(msgspec.Struct, frozen=True, kw_only=True):
    """How long the disk lasts if it goes on to fill as it did lately."""

    days: float | None
    """None: it does not fill, or nobody can tell"""
    words: str


class Lived(msgspec.Struct, frozen=True, kw_only=True):
    """A stretch of wall time in which samples show that the machine, and its supervisor, lived."""

    begin: float
    end: float
    slept: bool = False
    """the machine was suspended before it"""


VALUES: dict[str, tuple[str, str]] = {
    "cpu_percent": ("processors", "%"),
    "cpu_own_percent": ("processors, our part", "%"),
    "cpu_other_percent": ("processors, others", "%"),
    "memory_percent": ("memory", "%"),
    "memory_other_percent": ("memory, others", "%"),
    "cpu_temperature_c": ("processor", "°C"),
    "disk_free_mib": ("free disk", "MiB"),
}
"""what is told of every machine: in words, and in which unit"""
GPU_VALUES: dict[str, tuple[str, str]] = {
    "utilization_percent": ("in use", "%"),
    "memory_percent": ("memory", "%"),
    "memory_other_mib": ("memory, others", "MiB"),
    "temperature_c": ("temperature", "°C"),
    "power_w": ("power", "W"),
}
"""what is told of every GPU"""


class Machine:
    """The samples of the last days, read on from where they were read last.

    Args:
        folder: where the samples lie.
        machine: the id of this machine; None: those of any are read.
    """

    def __init__(self, folder: Path, machine: str | None) -> None:
        self._folder = folder
        self._machine = machine
        self._read = -1
        """the number of the newest sample that was read"""
        self._before: Sample | None = None
        self._traces: dict[str, Trace] = {}
        self._lived: list[Lived] = []

    @property
    def lived(self) -> tuple[Lived, ...]:
        """When there were samples, the oldest stretch first."""
        return tuple(self._lived)

    def refresh(self, now: float) -> None:
        """Read the samples that have come since.

        Args:
            now: wall time; what is older than the span is forgotten.

        Raises:
            NewerFile: a newer version has written them.
        """
        since = now - SPAN_S
        for number, one in samples.read_on(self._folder, self._read, since, self._machine):
            self._read = number
            self._take(one)
        for trace in self._traces.values():
            trace.forget(since)
        self._lived = [stretch for stretch in self._lived if stretch.end >= since]

    def gauges(
        self,
        since: float,
        until: float,
        pixels: int,
        limits: Mapping[str, tuple[Limit, ...]] | None = None,
    ) -> tuple[Gauge, ...]:
        """Every value over a span of wall time; what was never known of it is left out.

        Args:
            since: where the span begins.
            until: where it ends.
            pixels: how wide it is drawn; there are at most two points for each.
            limits: as `known_limits` has them.
        """
        found = []
        for name, trace in self._traces.items():
            points = trace.points(pixels, since=since, until=until)
            if not points.known:
                continue
            words, unit = _told(name)
            found.append(
                Gauge(
                    name=name,
                    words=words,
                    unit=unit,
                    points=points,
                    last=points.y[-1],
                    limits=(limits or {}).get(name, ()),
                )
            )
        return tuple(found)

    def disk_left(self) -> DiskLeft:
        """When the disk is full, by the median of the slopes between all hours (Theil and Sen)."""
        trace = self._traces.get("disk_free_mib", Trace())
        hours: dict[float, list[float]] = {}
        points = trace.points(len(trace))
        for at, free_mib in zip(points.x, points.y, strict=True):
            if free_mib is not None:
                hours.setdefault(at // HOUR_S, []).append(free_mib)
        if len(hours) < DISK_HOURS_MIN or trace.last is None:
            words = f"not known: less than {DISK_HOURS_MIN} hours of it were sampled"
            return DiskLeft(days=None, words=words)
        known = [(hour, statistics.median(free)) for hour, free in hours.items()]
        slopes = [(b - a) / (later - hour) for (hour, a), (later, b) in combinations(known, 2)]
        per_day_mib = -24 * statistics.median(slopes)
        if sum(slope < 0 for slope in slopes) < SURE * len(slopes):
            return DiskLeft(days=None, words="it does not fill steadily")
        days = trace.last / per_day_mib
        if days > DAYS_MAX:
            return DiskLeft(days=None, words="it hardly fills")
        return DiskLeft(
            days=days, words=f"full in {days:.3g} days, at {per_day_mib:,.0f} MiB a day"
        )

    def _take(self, one: Sample) -> None:
        before, self._before = self._before, one
        slept = False
        if before is not None:
            silent_s = max(SILENT_S, 3 * (one.covers_s or 0.0))
            if one.at < before.at:  # the clock was set back: what lies behind was told too late
                self._lived = [
                    msgspec.structs.replace(stretch, end=min(stretch.end, one.at))
                    for stretch in self._lived
                    if stretch.begin < one.at
                ]
            elif one.at - before.at > silent_s:
                stood_s = (one.boottime_s - before.boottime_s) - (
                    one.monotonic_s - before.monotonic_s
                )
                slept = one.boot_id == before.boot_id and stood_s > SLEPT_S
                for trace in self._traces.values():
                    trace.add((before.at + one.at) / 2, None)
                before = None
        if before is not None and self._lived and one.boot_id == before.boot_id:
            self._lived[-1] = msgspec.structs.replace(self._lived[-1], end=one.at)
        else:
            begin = one.at - (one.covers_s or 0.0)
            if self._lived:
                begin = max(begin, self._lived[-1].end)
            self._lived.append(Lived(begin=begin, end=one.at, slept=slept))
        for name, value in _values(one):
            if name in self._traces:
                self._traces[name].add(one.at, value)
            elif value is not None:
                self._traces[name] = Trace()
                self._traces[name].add(one.at, value)


def known_limits(policy: StabilityLimits, guard: Guard | None) -> dict[str, tuple[Limit, ...]]:
    """From which values on the settings have something follow, by the name of the gauge.

    Args:
        policy: the settings of the policy.
        guard: those of the guard; None: there is none.
    """
    found: dict[str, tuple[Limit, ...]] = {}
    veto = Limit(value=100 * policy.gpu_memory_max, words="vetoes a climb")
    for gpu in range(samples.GPUS_MAX):
        found[f"gpu{gpu}_memory_percent"] = (veto,)
    if guard is None:
        return found
    others: dict[str, tuple[float, float | None]] = {
        "cpu_other_percent": (guard.start_cpu_percent, guard.pause_cpu_percent),
        "memory_other_percent": (guard.start_memory_percent, guard.pause_memory_percent),
    }
    gpu_mib = (guard.start_gpu_memory_mib, guard.pause_gpu_memory_mib)
    others |= {f"gpu{gpu}_memory_other_mib": gpu_mib for gpu in range(samples.GPUS_MAX)}
    for name, (start, pause) in others.items():
        least = Limit(value=start, words="nothing starts if others use more")
        most = (
            ()
            if pause is None
            else (Limit(value=pause, words="training makes way if others use more"),)
        )
        found[name] = (least, *most)
    return found


def _values(one: Sample) -> Iterator[tuple[str, float | None]]:
    total_mib, own_mib, free_mib = (
        one.memory_total_mib,
        one.memory_own_mib,
        one.memory_available_mib,
    )
    yield "cpu_percent", one.cpu_percent
    yield "cpu_own_percent", one.cpu_own_percent
    yield "cpu_other_percent", _less(one.cpu_percent, one.cpu_own_percent)
    used_mib = _less(total_mib, free_mib)
    yield "memory_percent", _share(used_mib, total_mib)
    yield "memory_other_percent", _share(_less(used_mib, own_mib), _less(total_mib, own_mib))
    yield "cpu_temperature_c", one.cpu_temperature_c
    yield "disk_free_mib", one.disk_free_mib
    for number, gpu in enumerate(one.gpus):
        yield f"gpu{number}_utilization_percent", gpu.utilization_percent
        yield f"gpu{number}_memory_percent", _share(gpu.memory_used_mib, gpu.memory_total_mib)
        yield f"gpu{number}_memory_other_mib", gpu.memory_other_mib
        yield f"gpu{number}_temperature_c", gpu.temperature_c
        yield f"gpu{number}_power_w", gpu.power_w


def _told(name: str) -> tuple[str, str]:
    if name in VALUES:
        return VALUES[name]
    gpu, _, value = name.partition("_")
    words, unit = GPU_VALUES[value]
    return f"GPU {gpu.removeprefix('gpu')}: {words}", unit


def _less(whole: float | None, part: float | None) -> float | None:
    return None if whole is None or part is None else max(0.0, whole - part)


def _share(part: float | None, whole: float | None) -> float | None:
    return None if part is None or not whole else 100 * part / whole
