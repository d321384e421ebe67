"""What the control groups of a process let it have of the machine.

A container, a service or a batch job often may use less than the machine has: two processors of
64, 8 GiB of 512. The kernel tells so in files, of which there are two generations (`cpu.max` and
`cpu.cfs_quota_us`), sometimes side by side. A limit holds for everything below the group that has
it, so each group from that of the process up to the root counts, and the tightest decides.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from trainers import durable

PROC = Path("/proc")
FILE_MAX_BYTES = 65536
UNLIMITED_BYTES = 2**60
"""the first generation says "no limit" with a number that no memory has"""
ROUNDING = 1e-6
"""of a quota that is a whole number of processors, written as two others"""


class Mount(NamedTuple):
    """One place where groups can be looked at."""

    point: Path
    root: str
    """the group that is seen there"""
    controllers: frozenset[str]
    """those of a first-generation hierarchy; none: it is the second generation's"""


class Memory(NamedTuple):
    """The memory of the tightest group, in bytes."""

    available: int
    """what can still be had; what the kernel keeps of files, and gives back, is not in use"""
    limit: int
    """what may be used in all"""
    used_share: float
    """of that, 0 to 1"""


class Used(NamedTuple):
    """What a group has used, with all that is below it."""

    cpu_s: float | None
    """processor time since it was made, of processes that have ended, too"""
    memory: int | None
    """in bytes; what the kernel keeps of files, and could take back at once, does not count"""


class ControlGroup:
    """The control groups that one process is in.

    Args:
        memberships: the content of `/proc/PID/cgroup`.
        mounts: that of `/proc/self/mountinfo`.
        root: what the mounted paths are below.
    """

    def __init__(self, memberships: str, mounts: str, root: Path = Path("/")) -> None:
        self.memberships = memberships
        self._root = root
        self._mounted = tuple(mount for mount in _mounts(mounts) if not mount.controllers)
        self._cpu = tuple(_folders("cpu", memberships, mounts, root))
        self._memory = tuple(_folders("memory", memberships, mounts, root))

    @classmethod
    def of(cls, pid: int | None = None) -> ControlGroup:
        """That of a process, or of this one. One that cannot be looked at limits nothing."""
        return cls(memberships(pid) or "", _read(PROC / "self" / "mountinfo") or "")

    @property
    def memory_group(self) -> Path | None:
        """The group whose memory the process takes; None where that is not to be known."""
        return self._memory[0] if self._memory else None

    def folder(self, group: str) -> Path | None:
        """Where a group of the second generation can be looked at; None where it is not seen.

        Args:
            group: as `/proc/PID/cgroup` has it, without the slash it begins with.
        """
        for mount in sorted(self._mounted, key=lambda mount: len(mount.root)):
            inner = _below(f"/{group}", mount.root)
            found = self._root / mount.point.relative_to("/") / (inner or "")
            # That of Path raises where the rights forbid it, or the name is too long.
            if inner and os.path.isdir(found):  # noqa: PTH112
                return found
        return None

    @property
    def cpu_quota(self) -> float | None:
        """How many processors may be kept busy at a time; None: all there are."""
        return min((quota for path in self._cpu if (quota := _quota(path))), default=None)

    def cpu_used_s(self) -> float | None:
        """Processor time that the group with the tightest quota has used; None where unknown."""
        held = [(quota, path) for path in self._cpu if (quota := _quota(path))]
        _, path = min(held, default=(0.0, None))
        if path is None:
            return None
        return _cpu_used_s(path)

    def used(self, name: str) -> Used | None:
        """What the group called `name` has used; None: the process is in none of that name."""
        cpu = next((path for path in self._cpu if path.name == name), None)
        memory = next((path for path in self._memory if path.name == name), None)
        if cpu is None and memory is None:
            return None
        return Used(
            cpu_s=None if cpu is None else _cpu_used_s(cpu),
            memory=None if memory is None else _held(memory),
        )

    def memory(self) -> Memory | None:
        """What of the memory it may use is left; None: no group limits it."""
        held = [found for path in self._memory if (found := _memory(path)) is not None]
        if not held:
            return None
        return Memory(
            available=min(memory.available for memory in held),
            limit=min(memory.limit for memory in held),
            used_share=max(memory.used_share for memory in held),
        )

    def oom_kills(self) -> int | None:
        """How often the kernel has killed one of its processes for want of memory; None: unknown.

        Whether the group or the whole machine had no memory left.
        """
        counts = [
            count
            for path in self._memory[:1]
            for name in ("memory.events", "memory.oom_control")
            if (count := _value(_read(path / name), "oom_kill")) is not None
        ]
        return counts[0] if counts else None


def memberships(pid: int | None = None) -> str | None:
    """The groups that a process is in, as the kernel tells it; None: it is gone."""
    return _read(PROC / str(pid or "self") / "cgroup")


def holds(group: str, told: str) -> bool:
    """Whether a process is in that group of the second generation, or below it.

    Args:
        group: as `/proc/PID/cgroup` has it, without the slash it begins with.
        told: the whole content of that file.
    """
    return any(f"{line}/".startswith(f"0::/{group}/") for line in told.splitlines())


def cores() -> int:
    """Processors that this process and its children may use, one at least.

    Those that it may run on, and no more than the quota keeps busy: of 1.5 processors one, since
    a second thread would have both stand still for half of the time.
    """
    allowed = len(os.sched_getaffinity(0))
    quota = ControlGroup.of().cpu_quota
    return allowed if quota is None else max(1, min(allowed, int(quota + ROUNDING)))


def _folders(controller: str, memberships: str, mounts: str, root: Path) -> Iterator[Path]:
    """The folders of the groups in which `controller` may limit the process, innermost first."""
    mounted = list(_mounts(mounts))
    for line in memberships.splitlines():
        number, _, rest = line.partition(":")
        names, _, group = rest.partition(":")
        first = controller in names.split(",")
        if not first and (number, names) != ("0", ""):
            continue
        places = [
            mount
            for mount in mounted
            if (controller in mount.controllers if first else not mount.controllers)
        ]
        if not places:
            continue
        # What shows the most groups above it; a container may see its own as the root.
        showing = [mount for mount in places if _below(group, mount.root) is not None]
        mount = min(showing or places, key=lambda mount: len(mount.root))
        inner = Path(_below(group, mount.root) or ".")
        for path in (inner, *inner.parents):
            yield root / mount.point.relative_to("/") / path


def _below(group: str, root: str) -> str | None:
    """The path of `group` as seen from the group `root`; None where it is not below it."""
    if ".." in group.split("/"):
        return None
    if root == "/":
        return group.lstrip("/")
    return group[len(root) :].lstrip("/") if f"{group}/".startswith(f"{root}/") else None


def _mounts(text: str) -> Iterator[Mount]:
    for line in text.splitlines():
        before, _, after = line.partition(" - ")
        fields, kind = before.split(), after.split()
        if len(fields) < 5 or not kind or kind[0] not in ("cgroup", "cgroup2"):
            continue
        point = Path(_unescaped(fields[4]))
        controllers = frozenset(kind[-1].split(",")) if kind[0] == "cgroup" else frozenset[str]()
        if point.is_absolute():
            yield Mount(point, _unescaped(fields[3]), controllers)


def _unescaped(field: str) -> str:
    r"""A path as the kernel means it: it writes a space as \040."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), field)


def _quota(group: Path) -> float | None:
    """Processors that the group may keep busy; None where it says nothing of that."""
    words = (_read(group / "cpu.max") or "").split()
    if not words:
        words = [
            (_read(group / name) or "").strip()
            for name in ("cpu.cfs_quota_us", "cpu.cfs_period_us")
        ]
    if len(words) != 2:
        return None
    quota, period = _number(words[0]), _number(words[1])
    return quota / period if quota and period else None  # "max" and -1: no limit


def _cpu_used_s(group: Path) -> float | None:
    microseconds = _value(_read(group / "cpu.stat"), "usage_usec")
    if microseconds is not None:
        return microseconds / 1e6
    nanoseconds = _number(_read(group / "cpuacct.usage"))  # where both are mounted together
    return None if nanoseconds is None else nanoseconds / 1e9


def _held(group: Path) -> int | None:
    """Bytes that the group holds and that are not just kept of files."""
    stat, used = _read(group / "memory.stat"), _number(_read(group / "memory.current"))
    kept: tuple[str, ...] = ("inactive_file", "active_file", "slab_reclaimable")
    if used is None:
        used = _number(_read(group / "memory.usage_in_bytes"))
        kept = ("total_inactive_file", "total_active_file")
    if used is None or stat is None:
        return None
    return max(0, used - sum(_value(stat, name) or 0 for name in kept))


def _memory(group: Path) -> Memory | None:
    stat = _read(group / "memory.stat")
    limits = [_number(_read(group / name)) for name in ("memory.max", "memory.high")]
    used, idle = _number(_read(group / "memory.current")), _value(stat, "inactive_file")
    if used is None:
        limits = [
            _number(_read(group / "memory.limit_in_bytes")),
            _value(stat, "hierarchical_memory_limit"),
        ]
        used = _number(_read(group / "memory.usage_in_bytes"))
        idle = _value(stat, "total_inactive_file")
    limit = min((it for it in limits if it is not None and it < UNLIMITED_BYTES), default=None)
    if limit is None or used is None:
        return None
    used = max(0, used - (idle or 0))
    share = min(1.0, used / limit) if limit else 1.0
    return Memory(available=max(0, limit - used), limit=limit, used_share=share)


def _value(text: str | None, name: str) -> int | None:
    """The number behind `name` in lines such as `oom_kill 0`."""
    for line in (text or "").splitlines():
        key, _, value = line.partition(" ")
        if key == name:
            return _number(value)
    return None


def _number(text: str | None) -> int | None:
    """A whole number that is not negative; None for every other word."""
    word = (text or "").strip()
    return int(word) if word.isascii() and word.isdigit() else None


def _read(path: Path) -> str | None:
    try:
        with durable.open_regular(path) as file:
            return file.read(FILE_MAX_BYTES).decode(errors="replace")
    except OSError:
        return None
