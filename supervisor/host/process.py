"""One process of this machine, told from every other that had its pid before or will have it."""

from __future__ import annotations

import os
from pathlib import Path

PROC = Path("/proc")


def start_ticks(pid: int) -> int | None:
    """When the process started, in clock ticks since the boot; None where none lives."""
    try:
        status = (PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    # The name, in brackets, may hold anything: what counts comes after the last bracket.
    fields = status[status.rindex(")") + 2 :].split()
    state, threads, ticks = fields[0], int(fields[17]), int(fields[19])
    # A main thread that has ended is a zombie, too, while a driver holds another thread: such a
    # process still has all its memory.
    return None if state in ("Z", "X") and threads <= 1 else ticks


def give_back_protection(pid: int) -> None:
    """Let a child never inherit our protection from the OOM killer."""
    try:
        adjust = PROC / str(pid) / "oom_score_adj"
        if int(adjust.read_text(encoding="ascii")) < 0:
            adjust.write_text("0", encoding="ascii")
    except OSError:
        pass  # it is gone already, or the system does not let us: it does its work all the same


def open_exactly(pid: int, ticks: int) -> int | None:
    """A pidfd of the process that started then; None where it is gone."""
    try:
        handle = os.pidfd_open(pid)
    except OSError:
        return None
    # Looked at after opening: from here on the handle cannot change its meaning.
    if start_ticks(pid) != ticks:
        os.close(handle)
        return None
    return handle


def children(pid: int) -> dict[int, int]:
    """The living children of a process, pid -> start ticks; none where the kernel tells none."""
    told: set[int] = set()
    try:
        for task in os.listdir(f"{PROC}/{pid}/task"):  # noqa: PTH208 - paths take twice as long
            with open(f"{PROC}/{pid}/task/{task}/children", "rb", buffering=0) as file:  # noqa: PTH123 - as above
                told.update(map(int, file.read().split()))
    except OSError:
        pass  # it has ended meanwhile
    found: dict[int, int] = {}
    for child in told:
        try:
            with open(f"{PROC}/{child}/stat", "rb", buffering=0) as file:  # noqa: PTH123 - as above
                content = file.read()
        except OSError:
            continue
        fields = content[content.rindex(b")") + 2 :].split()
        if int(fields[1]) == pid:  # else its pid is a stranger's by now
            found[child] = int(fields[19])
    return found


def make_way(nice: int, pid: int) -> None:
    """Have a process that leads a session yield to others, by as much as its niceness says.

    Where the kernel groups sessions (`sched_autogroup_enabled`), the niceness of a process counts
    within its own session only: beside others it is that of the session which counts.
    """
    try:
        os.setpriority(os.PRIO_PROCESS, pid, nice)
        with open(f"{PROC}/{pid}/autogroup", "w", encoding="ascii") as file:  # noqa: PTH123 - as above
            file.write(str(nice))
    except OSError:
        pass  # it is gone already, or the kernel has no such groups
