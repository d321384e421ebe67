"""The processes of runs as the kernel tells of them, whatever the product believes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from trainers.contract import MARKER

PROC = Path("/proc")


@dataclass(frozen=True, order=True, slots=True)
class Process:
    """A living process of a run. It is the same whoever has adopted it."""

    pid: int
    start_ticks: int
    run: str
    """the id of the run"""
    parent: int = field(compare=False)
    trains: bool = field(compare=False)
    """its command line is that of a trainer"""


def processes(runs: Path, proc: Path = PROC) -> list[Process]:
    """The living processes of all runs in a folder.

    Args:
        runs: the folder of run folders, as these processes call it.
        proc: where the machine that they live on tells of its processes.
    """
    return sorted(_processes(f"{MARKER}={runs}/".encode(), proc))


def mains(runs: Path, proc: Path = PROC) -> set[Process]:
    """Those of them that are the main process of their run."""
    trainers = [one for one in processes(runs, proc) if one.trains]
    pids = {one.pid for one in trainers}
    # A worker looks like its trainer until it has become a program of its own.
    return {one for one in trainers if one.parent not in pids}


def lives(process: Process) -> bool:
    """Whether it does so still, here, as what it was."""
    place = PROC / str(process.pid)
    fields = stat(place)
    return (
        fields[:1] not in ([], ["Z"], ["X"])
        and int(fields[19]) == process.start_ticks
        and _trains(place) == process.trains
    )


def is_held(pid: int) -> bool:
    """Whether the kernel holds a thread of it so that nothing can end the process (state D)."""
    return any(stat(thread)[:1] == ["D"] for thread in (PROC / str(pid) / "task").glob("*"))


def stat(place: Path) -> list[str]:
    """What the kernel says of a process, or of a thread, after its name, which may be anything."""
    try:
        content = (place / "stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    return content.rpartition(")")[2].split()


def _processes(mark: bytes, proc: Path) -> Iterator[Process]:
    for place in proc.iterdir():
        if not place.name.isdigit():
            continue
        with contextlib.suppress(OSError):
            run = _marked(mark, (place / "environ").read_bytes())
            if run is None:
                continue
            trains, fields = _trains(place), stat(place)
            if fields and fields[0] not in "ZX":
                yield Process(int(place.name), int(fields[19]), run, int(fields[1]), trains)


def _marked(mark: bytes, environment: bytes) -> str | None:
    """The id of the run whose mark stands in there."""
    for variable in environment.split(b"\0"):
        if variable.startswith(mark):
            return variable[len(mark) :].decode()
    return None


def _trains(place: Path) -> bool:
    try:
        words = (place / "cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return b"trainers.__main__" in words and b"--run" in words
