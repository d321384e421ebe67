"""Asks each source of the settings, one after the other; none that fails keeps the others back."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from zoneinfo import ZoneInfo

import msgspec

from supervisor.core.quiet_hours import DAY_S, Metric, QuietHours, UsageSource
from supervisor.usage import sources
from supervisor.usage.analysis import BIASED
from supervisor.usage.grid import Point, Series
from supervisor.usage.ring import Ring
from supervisor.usage.sources import Asking, SourceTrouble, Told
from trainers.contract import NewerFile


class MachineSample(msgspec.Struct, frozen=True, kw_only=True):
    """How loaded this machine was at a moment, by others if that is known; an unknown is None."""

    at: float
    cpu_percent: float | None
    memory_percent: float | None


MachineSamples = Callable[[float], Iterable[MachineSample]]
"""what this machine has sampled of itself since a moment"""


def gather(
    asked: QuietHours,
    zone: str,
    ring: Ring,
    here: Path,
    now: float,
    machine: MachineSamples | None = None,
) -> dict[str, Told | str]:
    """What each source tells, by its name, or in a line why it tells nothing.

    Args:
        asked: the settings.
        zone: of the clock on the wall.
        ring: our own samples of players.
        here: the folder that relative paths of password files begin at.
        now: wall time.
        machine: our own samples of this machine; None: there are none.
    """
    since = now - asked.history_days * DAY_S
    asking = Asking(here=here, zone=ZoneInfo(zone), since=since, until=now)
    told: dict[str, Told | str] = {}
    for name, source in asked.sources.items():
        try:
            told[name] = _of(name, source, ring, asking, machine)
        except SourceTrouble as error:
            told[name] = str(error)
        except OSError as error:
            told[name] = error.strerror or str(error)
    return told


def sample(asked: QuietHours, ring: Ring, here: Path, now: float) -> dict[str, float | str]:
    """Ask each source of kind `online` once, and keep what it says; or in a line why not.

    Raises:
        OSError: nothing can be kept.
    """
    found: dict[str, float | str] = {}
    for name, source in asked.sources.items():
        if source.kind == "online":
            try:
                (point,) = sources.look(source, here, os.environ, now).series[0].points
            except SourceTrouble as error:
                found[name] = str(error)
                continue
            ring.add(name, point)
            found[name] = point.value
    return found


def _of(
    name: str, source: UsageSource, ring: Ring, asking: Asking, machine: MachineSamples | None
) -> Told:
    if source.kind == "online":
        points = ring.read(name, asking.since)
        if not points:
            raise SourceTrouble("nothing has been sampled yet: `supervisor sample-usage`")
        return _told({"players": points})
    if source.kind == "machine":
        if machine is None:
            raise SourceTrouble("this machine keeps no samples of itself")
        try:
            return _told(_columns(machine(asking.since)))
        except NewerFile as error:
            raise SourceTrouble(str(error)) from None
    if source.kind == "last_login" and not source.allow_last_login:
        raise SourceTrouble(f"not asked, for it is {BIASED}; allow_last_login = true")
    return sources.ask(source, asking, os.environ)


def _columns(samples: Iterable[MachineSample]) -> dict[Metric, tuple[Point, ...]]:
    there = list(samples)
    cpu = (Point(one.at, one.cpu_percent) for one in there if one.cpu_percent is not None)
    memory = (Point(one.at, one.memory_percent) for one in there if one.memory_percent is not None)
    return {"cpu": tuple(cpu), "memory": tuple(memory)}


def _told(columns: dict[Metric, tuple[Point, ...]]) -> Told:
    moments = list(_moments(columns))
    return Told(
        series=tuple(
            Series(metric=metric, counted=False, points=points)
            for metric, points in columns.items()
        ),
        rows=max(map(len, columns.values()), default=0),
        begin=min(moments, default=None),
        end=max(moments, default=None),
    )


def _moments(columns: dict[Metric, tuple[Point, ...]]) -> Iterator[float]:
    for points in columns.values():
        yield from (point.at for point in points)
