"""What a table costs in memory, estimated before it is read, and what the machine has."""

from __future__ import annotations

import resource
from pathlib import Path

from trainers.tables.errors import ResourceError

VALUE_BYTES = 8
READ_FACTOR = 2
"""as columns are read, those of Arrow and ours are there at once"""
CALL_FACTOR = 3
"""as a function of the user's is called, so many of what it makes are there at once"""
ROW_VALUES = 10
"""of each row beside its columns: times, positions, targets, and what is thought with"""
MARGIN = 0.9
"""of what is free; the rest is for what nobody has counted"""
OWN = 128 * 2**20
"""of pieces that are calculated with, whatever the rows"""
RESERVED_FACTOR = 2
"""times as much of a limited address space as they use is reserved by Arrow and by threads"""
CGROUP = Path("/sys/fs/cgroup")
PROC = Path("/proc")
_MIB = 2**20


def needed(
    rows: int,
    *,
    columns: int,
    features: int,
    value: int,
    factor: float,
    share: float,
    function: bool = False,
) -> int:
    """About how many bytes the most demanding moment takes: in reading, in training, in between.

    Args:
        rows: of the table.
        columns: that are read, without that of the times.
        features: that are made of them.
        value: bytes of one number in the matrices.
        factor: how many times the matrices the training needs beside them.
        share: of the rows that are used.
        function: whether a function of the user's is called with the columns.
    """
    reading = rows * (READ_FACTOR * columns + ROW_VALUES) * VALUE_BYTES
    matrices = int(rows * share * features * value * (1 + factor))
    # It gets copies, and makes features of them, of which what it made before is kept.
    called = rows * (2 * columns + CALL_FACTOR * features + ROW_VALUES) * VALUE_BYTES
    kept = features if function else columns
    training = rows * (kept + ROW_VALUES) * VALUE_BYTES + matrices
    return OWN + max(reading, training, called if function else 0)


def available() -> int | None:
    """How many bytes this process may still take, by all that limits it; None: nothing tells."""
    limits = [_free(), *_cgroups()]
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    if soft != resource.RLIM_INFINITY:
        pages = int((PROC / "self/statm").read_text().split()[0])
        limits.append((soft - pages * resource.getpagesize()) // RESERVED_FACTOR)
    known = [limit for limit in limits if limit is not None]
    return max(0, min(known)) if known else None


def require(
    wanted: int,
    rows: int,
    features: int,
    *,
    what: str = "rows",
    less: str = "fewer features need less, so does a part of the rows, by "
    "training_options.use_sample",
) -> None:
    """See that there is so much memory.

    Args:
        wanted: bytes.
        rows: for which.
        features: of each.
        what: the rows are.
        less: what to do where there is not.

    Raises:
        ResourceError: there is not; the message says how much would do.
    """
    there = available()
    if there is None or wanted <= there * MARGIN:
        return
    line = (
        f"{rows:,} {what} with {features} features need about {wanted // _MIB:,} MiB of memory, "
        f"and {there // _MIB:,} MiB are free: {less}"
    )
    raise ResourceError(
        line, needed_bytes=wanted, available_bytes=there, rows=rows, features=features
    )


def _free() -> int | None:
    try:
        for line in (PROC / "meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError):
        pass
    return None


def _cgroups() -> list[int]:
    """What each group that this process is in may still take."""
    try:
        line = (PROC / "self/cgroup").read_text().splitlines()[-1]
    except (OSError, IndexError):
        return []
    group, found = CGROUP / line.rpartition(":")[2].lstrip("/"), []
    while group == CGROUP or CGROUP in group.parents:
        for limit, used in (
            ("memory.max", "memory.current"),
            ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
        ):
            try:
                free = int((group / limit).read_text()) - int((group / used).read_text())
                found.append(free + _given_back(group))
            except (OSError, ValueError):
                continue  # without a limit, or of the other kind
        group = group.parent
    return found


def _given_back(group: Path) -> int:
    """What of the used memory the kernel takes back when it is wanted: files that were read."""
    for stat in ("memory.stat", "memory/memory.stat"):
        try:
            lines = (group / stat).read_text().splitlines()
            return sum(int(line.split()[1]) for line in lines if line.startswith("inactive_file "))
        except (OSError, ValueError, IndexError):
            continue
    return 0
