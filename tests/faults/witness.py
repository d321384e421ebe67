"""Looks at the machine's processes as fast as it can, while something happens to them."""

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple


class Main(NamedTuple):
    """The main process of a trainer."""

    run: str
    pid: int
    start_ticks: int


class Witness:
    """Remembers every main process that it sees, and whether two of one run ever lived at once.

    Args:
        runs: the folder of run folders.
    """

    def __init__(self, runs: Path) -> None:
        self._runs = runs
        self._enough = threading.Event()
        self.seen: set[Main] = set()
        self.twins: set[tuple[Main, ...]] = set()

    @contextlib.contextmanager
    def watching(self) -> Iterator["Witness"]:
        """Look until the end of the block."""
        eyes = threading.Thread(target=self._watch)
        eyes.start()
        try:
            yield self
        finally:
            self._enough.set()
            eyes.join()

    def _watch(self) -> None:
        while not self._enough.wait(0.001):
            found = mains(self._runs)
            self.seen |= found
            # One may have died before the next was born. Those that still live, now that all
            # have been found, have lived at the same moment.
            living = [one for one in found if _read(one.pid) == one]
            for run in {one.run for one in living}:
                these = tuple(sorted(one for one in living if one.run == run))
                if len(these) > 1:
                    self.twins.add(these)


def mains(runs: Path) -> set[Main]:
    """The living main processes of the runs in this folder."""
    pids = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    found = {main for pid in pids if (main := _read(pid)) and Path(main.run).parent == runs}
    # A worker looks like its trainer until it has become a program of its own.
    return {one for one in found if _parent(one.pid) not in {other.pid for other in found}}


def is_held(pid: int) -> bool:
    """Whether the kernel holds a thread of it so that nothing can end the process (state D)."""
    threads = Path(f"/proc/{pid}/task").glob("*/stat")
    return any(_fields(pid, thread.parent.name)[:1] == ["D"] for thread in threads)


def _read(pid: int) -> Main | None:
    words = _words(pid)
    if "trainers.__main__" not in words or "--run" not in words:
        return None
    fields = _fields(pid)
    if not fields or fields[0] in "ZX":
        return None
    return Main(run=words[words.index("--run") + 1], pid=pid, start_ticks=int(fields[19]))


def _parent(pid: int) -> int | None:
    fields = _fields(pid)
    return int(fields[1]) if fields else None


def _words(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
    except OSError:
        return []


def _fields(pid: int, thread: str = "") -> list[str]:
    """What the kernel says of a process, or of a thread, after its name, which may be anything."""
    place = Path(f"/proc/{pid}", *(("task", thread) if thread else ()))
    try:
        return (place / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []
