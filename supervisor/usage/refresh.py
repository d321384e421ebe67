"""A refresh: the sources are asked, the past is looked up, and what is found is written down."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import msgspec

from state import windows
from supervisor.core.quiet_hours import QuietHours
from supervisor.usage import machine
from supervisor.usage.analysis import Analysis, History, analyse
from supervisor.usage.gathering import gather, sample
from supervisor.usage.grid import Span
from supervisor.usage.ring import Ring
from supervisor.usage.trained import trained
from trainers import durable


class Where(msgspec.Struct, frozen=True, kw_only=True):
    """The files that it reads and writes."""

    windows: Path
    samples: Path
    """the folder of our own samples of players"""
    machine: Path
    """that of our own samples of this machine"""
    machine_id: str | None
    """which machine this is"""
    decisions: Path
    here: Path
    """the folder that relative paths of password files begin at"""


@contextlib.contextmanager
def alone(where: Where) -> Iterator[None]:
    """Be the only one who analyses: a timer, a person and the supervisor may all be about to.

    Raises:
        BlockingIOError: somebody else does at this moment.
        OSError: nothing can be kept.
    """
    place = where.samples / "analysis"
    for folder in (where.samples, place):
        durable.make_folder(folder)
    lock = durable.hold(place)
    try:
        yield
    finally:
        lock.release()


def examine(asked: QuietHours, zone: str, where: Where, now: float) -> Analysis:
    """Analyse, and change nothing.

    Raises:
        NewerFile: a newer version has written the windows that are there.
    """
    load = machine.history(where.machine, where.machine_id)
    told = gather(asked, zone, Ring(where.samples), where.here, now, load)
    spans: tuple[Span, ...] = ()
    with contextlib.suppress(FileNotFoundError):
        spans = trained(durable.all_lines(where.decisions), now)
    before = None
    with contextlib.suppress(windows.DamagedWindows):  # it is replaced
        before = windows.read(where.windows)
    return analyse(asked, History(told=told, now=now, zone=zone, trained=spans, before=before))


def keep(where: Where, analysis: Analysis) -> bool:
    """Write down what was found, if anything; what was found before stays otherwise.

    Raises:
        OSError: the disk is full or read-only.
    """
    if analysis.windows is None:
        return False
    windows.write(where.windows, analysis.windows)
    return True


def sample_once(asked: QuietHours, where: Where, now: float) -> dict[str, float | str]:
    """Ask once how many are online; a number or why there is none, by the name of the source.

    Raises:
        BlockingIOError: somebody else does the same at this moment.
        OSError: nothing can be kept.
    """
    durable.make_folder(where.samples)
    lock = durable.hold(where.samples)
    try:
        return sample(asked, Ring(where.samples), where.here, now)
    finally:
        lock.release()
