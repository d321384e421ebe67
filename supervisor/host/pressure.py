"""What others take of this machine, told from what we take ourselves.

Whatever the kernel tells of the whole machine contains our own trainers, which are meant to use all
of it. So two looks at counters are compared, and of what was used between them our own part is
taken away: that of our control group, where a service has one, else that of the trees of our
processes, those that have ended meanwhile included. Waits for nothing, and never raises: what
cannot be read is None.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from state.records import Memory
from supervisor.core.guard import Pressure
from supervisor.core.readings import GpuReadings
from supervisor.host.cgroup import ControlGroup, memberships
from supervisor.host.home import SERVICE

PROC = Path("/proc")
PROTECTED = ("cpu", "memory")
"""what the guard wants to know of a group that is protected"""
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
NAMED_MAX = 3
"""processes that are named as those who press most"""
KIB_PER_MIB = 1024
MIB = 2**20
WINDOW_MIN_S = 0.1
"""a share of a shorter time is made of a few clock ticks, and is 0 or 100 by luck"""

Identity = tuple[int, int]
"""a process: pid, and when it started in clock ticks since the boot"""


class Taken(NamedTuple):
    """One process of ours, as one look saw it."""

    ticks: int
    """processor time of its own, up to now"""
    waited_ticks: int
    """that of its children which have ended and which it has waited for, with theirs"""
    parent: Identity | None
    """its parent, where that is one of ours"""
    memory_kib: int
    """memory that is in no file; what forked processes share counts for each of them"""


class Busy(NamedTuple):
    """What a process of others has used up to now."""

    name: str
    ticks: int
    """of processor time"""
    memory_mib: float
    """that it has in memory, what it shares with others included"""


class Usage(NamedTuple):
    """What counters say at one look; only the difference of two of them means something."""

    at_s: float
    """the monotonic clock"""
    boot_ticks: int
    """time since the boot when the look began, in clock ticks"""
    busy: int | None
    """processor time used by all on this machine, in ticks; not what other machines took of it"""
    total: int | None
    """what there was of it"""
    processes: Mapping[Identity, Taken]
    """ours; not looked for where a control group is known that holds nothing else"""
    group_cpu_s: float | None
    """processor time of that group; None: there is none, or it does not tell"""
    memory_total_mib: float | None
    memory_available_mib: float | None
    memory_own_mib: float | None
    swap_used_mib: float | None
    stalls: Mapping[str, int]
    """such as "memory full" -> microseconds; without what this kernel does not tell"""
    protected: Mapping[str, Mapping[str, int]] = {}
    """the same of control groups that hold none of ours; without those that do not tell"""


class Used(NamedTuple):
    """What was used between two looks, and how things stand at the second one."""

    covers_s: float
    """seconds between the two"""
    cpu_percent: float | None
    """of all cores, 0 to 100"""
    cpu_own_percent: float | None
    """our part of that: trainers, and the supervisor itself"""
    memory_total_mib: float | None
    memory_available_mib: float | None
    memory_own_mib: float | None
    swap_used_mib: float | None
    psi_cpu: float | None
    """share of the time in which some task waited for a processor, 0 to 100"""
    psi_memory: float | None
    psi_memory_full: float | None
    """the same, of the time in which all tasks waited"""
    psi_io: float | None
    psi_io_full: float | None


def look(
    trainers: Iterable[Identity] = (),
    group: ControlGroup | None = None,
    proc: Path = PROC,
    *,
    protected: Mapping[str, Path] = MappingProxyType({}),
) -> Usage:
    """Look at the counters of the machine, and at ours.

    Args:
        trainers: main processes of ours, which need not be children of this one. One that is gone,
            or whose pid another process has by now, is left out.
        group: the control groups of this process; None: they are read.
        proc: where the kernel tells of processes.
        protected: control groups that hold none of ours, by name: where they can be looked at.
    """
    # Before anything is looked at: a process that starts meanwhile is taken for a new one.
    boot_ticks = int(time.clock_gettime(time.CLOCK_BOOTTIME) * TICKS_PER_S)
    trainers = tuple(trainers)
    used = (group or ControlGroup.of()).used(SERVICE)
    if used is not None and not all(_is_in_service(pid) for pid, _ in trainers):
        used = None  # it was handed trainers that somebody has started elsewhere
    grouped = used is not None and used.cpu_s is not None and used.memory is not None
    processes = {} if grouped else _ours(trainers, proc)
    busy, total = _processor(proc)
    memory = _meminfo(proc)
    swap, swap_free = memory.get(b"SwapTotal"), memory.get(b"SwapFree")
    own_mib: float | None = None
    if grouped and used is not None and used.memory is not None:
        own_mib = used.memory / MIB
    elif processes:
        own_mib = sum(one.memory_kib for one in processes.values()) / KIB_PER_MIB
    return Usage(
        at_s=time.monotonic(),
        boot_ticks=boot_ticks,
        busy=busy,
        total=total,
        processes=processes,
        group_cpu_s=used.cpu_s if used is not None and grouped else None,
        memory_total_mib=_mib(memory.get(b"MemTotal")),
        memory_available_mib=_mib(memory.get(b"MemAvailable")),
        memory_own_mib=own_mib,
        swap_used_mib=None if swap is None or swap_free is None else _mib(swap - swap_free),
        stalls=_stalls({what: f"{proc}/pressure/{what}" for what in ("cpu", "memory", "io")}),
        protected={
            name: stalls
            for name, folder in protected.items()
            if (stalls := _stalls({what: f"{folder}/{what}.pressure" for what in PROTECTED}))
        },
    )


def between(before: Usage, after: Usage) -> Used:
    """What was used between two looks."""
    covers_s = after.at_s - before.at_s
    cpu, own = _shares(before, after) if covers_s >= WINDOW_MIN_S else (None, None)

    def stalled(name: str) -> float | None:
        return _stalled(before.stalls.get(name), after.stalls.get(name), covers_s)

    return Used(
        covers_s=covers_s,
        cpu_percent=cpu,
        cpu_own_percent=own,
        memory_total_mib=after.memory_total_mib,
        memory_available_mib=after.memory_available_mib,
        memory_own_mib=after.memory_own_mib,
        swap_used_mib=after.swap_used_mib,
        psi_cpu=stalled("cpu some"),
        psi_memory=stalled("memory some"),
        psi_memory_full=stalled("memory full"),
        psi_io=stalled("io some"),
        psi_io_full=stalled("io full"),
    )


def pressure(before: Usage, after: Usage, gpus: Sequence[GpuReadings] = ()) -> Pressure:
    """How hard others press, by two looks and the GPUs as they were read last."""
    used = between(before, after)
    cpu_other = memory_other = None
    if used.cpu_percent is not None and used.cpu_own_percent is not None:
        cpu_other = max(0.0, used.cpu_percent - used.cpu_own_percent)
    if (
        used.memory_total_mib
        and used.memory_available_mib is not None
        and used.memory_own_mib is not None
    ):
        theirs_mib = used.memory_total_mib - used.memory_own_mib
        memory_other = _percent(theirs_mib - used.memory_available_mib, max(1.0, theirs_mib))
    held = {gpu.uuid or str(gpu.index): gpu_memory_other_mib(gpu, after) for gpu in gpus}
    return Pressure(
        cpu_other=cpu_other,
        memory_other=memory_other,
        gpu_memory_other_mib={gpu: float(mib) for gpu, mib in held.items() if mib is not None},
        psi_cpu=used.psi_cpu,
        psi_memory=used.psi_memory,
        psi_cpu_protected=_protected("cpu some", before, after),
        psi_memory_protected=_protected("memory some", before, after),
    )


def _protected(what: str, before: Usage, after: Usage) -> dict[str, float]:
    """How much of the time was waited in each protected group, as far as that is known."""
    found: dict[str, float] = {}
    for name, stalls in after.protected.items():
        was = before.protected.get(name, {}).get(what)
        percent = _stalled(was, stalls.get(what), after.at_s - before.at_s)
        if percent is not None:
            found[name] = percent
    return found


def _stalled(was: int | None, now: int | None, covers_s: float) -> float | None:
    """Percent of some seconds, by two counts of microseconds; None: it is not known.

    A group that was made anew meanwhile counts anew.
    """
    if was is None or now is None or now < was or covers_s < WINDOW_MIN_S:
        return None
    return _percent((now - was) / 1e6, covers_s)


def trainers(memory: Memory) -> list[Identity]:
    """The main processes of this machine's trainers, as the memory has them."""
    return [
        (process.pid, process.start_ticks)
        for run in memory.runs
        if run.local
        and (process := run.attempt.process) is not None
        and process.boot_id == memory.timeline.boot_id
    ]


def others(usage: Usage, proc: Path = PROC) -> dict[Identity, Busy]:
    """What each process that is not ours has used up to now; this looks at all of them."""
    ours = {pid for pid, _ in usage.processes}
    found: dict[Identity, Busy] = {}
    for name in os.listdir(proc):  # noqa: PTH208 - as `_read`
        if not name.isdigit() or int(name) in ours:
            continue
        content = _read(f"{proc}/{name}/stat")
        fields = content[content.rindex(b")") + 2 :].split() if b")" in content else []
        if len(fields) <= 21 or (usage.group_cpu_s is not None and _is_in_service(int(name))):
            continue
        called = content[content.index(b"(") + 1 : content.rindex(b")")].decode(errors="replace")
        plain = "".join(letter if letter.isprintable() else "?" for letter in called)
        found[int(name), int(fields[19])] = Busy(
            name=plain,
            ticks=int(fields[11]) + int(fields[12]),
            memory_mib=int(fields[21]) * PAGE_BYTES / MIB,
        )
    return found


def busiest(
    before: Mapping[Identity, Busy], after: Mapping[Identity, Busy], covers_s: float
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Who uses the processors most, and who the memory, of some processes; a few of each.

    Args:
        before: what each had used at a look.
        after: at a later one.
        covers_s: seconds between the two.
    """
    ticks = {
        one: now.ticks - (before[one].ticks if one in before else 0) for one, now in after.items()
    }
    by_cpu = sorted(ticks, key=lambda one: -ticks[one])[:NAMED_MAX]
    by_memory = sorted(after, key=lambda one: -after[one].memory_mib)[:NAMED_MAX]
    share = 100 / (TICKS_PER_S * max(covers_s, WINDOW_MIN_S))
    return (
        tuple(
            f"{after[one].name} (pid {one[0]}) {ticks[one] * share:.0f} % of one"
            for one in by_cpu
            if ticks[one] > 0
        ),
        tuple(
            f"{after[one].name} (pid {one[0]}) {after[one].memory_mib:,.0f} MiB"
            for one in by_memory
        ),
    )


def gpu_memory_other_mib(gpu: GpuReadings, usage: Usage) -> int | None:
    """Memory of a GPU that no process of ours holds; None: it is not known whose it is."""
    if gpu.memory_used_mib is None or gpu.pids is None or gpu.pids_mib is None:
        return None
    ours = {pid for pid, _ in usage.processes}
    own_mib = 0
    for pid, held_mib in zip(gpu.pids, gpu.pids_mib, strict=True):
        if not _is_there(pid):
            return None  # in a container NVML may speak of pids as the machine outside has them
        if pid in ours or (usage.group_cpu_s is not None and _is_in_service(pid)):
            if held_mib is None:
                return None
            own_mib += held_mib
    return max(0, gpu.memory_used_mib - own_mib)


def own_ticks(
    before: Mapping[Identity, Taken], after: Mapping[Identity, Taken], since_ticks: int
) -> int:
    """Processor time that our processes have used between two looks, never more than they did.

    What a process that has ended used stands with whoever has waited for it, together with what
    was counted of it at earlier looks already, which is taken away again. One that nobody of ours
    has waited for is lost from the last look on.

    Args:
        before: ours at the first look.
        after: ours at the second.
        since_ticks: when the first look began, in clock ticks since the boot.
    """
    counted: Counter[Identity] = Counter()
    for identity, one in before.items():
        if identity in after:
            continue
        heir = one.parent
        while heir is not None and heir not in after:
            heir = before[heir].parent if heir in before else None
        if heir is not None:
            counted[heir] += one.ticks + one.waited_ticks
    used = 0
    for identity, one in after.items():
        was = before.get(identity)
        if was is None and identity[1] < since_ticks:
            continue  # it is older than the first look, which did not know it for ours
        ticks, waited = (was.ticks, was.waited_ticks) if was is not None else (0, 0)
        used += max(0, one.ticks - ticks)
        used += max(0, one.waited_ticks - waited - counted[identity])
    return used


def _shares(before: Usage, after: Usage) -> tuple[float | None, float | None]:
    """Which share of all cores was busy, and which of that was ours."""
    if before.busy is None or before.total is None or after.busy is None or after.total is None:
        return None, None
    total = after.total - before.total
    if total <= 0:
        return None, None
    busy = _percent(after.busy - before.busy, total)
    if before.group_cpu_s is not None and after.group_cpu_s is not None:
        own = (after.group_cpu_s - before.group_cpu_s) * TICKS_PER_S
    elif before.group_cpu_s is None and after.group_cpu_s is None:
        own = float(own_ticks(before.processes, after.processes, before.boot_ticks))
    else:
        return busy, None  # counted in one way, and then in the other
    return busy, min(busy, _percent(own, total))


def _ours(trainers: Sequence[Identity], proc: Path) -> dict[Identity, Taken]:
    """This process, those trainers, and all that descends from any of them."""
    found: dict[Identity, Taken] = {}
    parents = None if _tells_children(proc) else _parents(proc)
    me = os.getpid()
    todo: list[tuple[int, int | None, Identity | None]] = [(me, None, None)]
    todo += [(pid, ticks, None) for pid, ticks in trainers]
    while todo:
        pid, started, parent = todo.pop()
        fields = _stat(proc, pid)
        if fields is None:
            continue
        identity = (pid, int(fields[19]))
        if started not in (None, identity[1]):
            continue  # another process has its pid by now
        if parent is not None and int(fields[1]) != parent[0]:
            continue  # the same, since its parent has told of it
        known = found.get(identity)
        if known is not None:
            if known.parent is None:  # it was named as a trainer, and is a child, too
                found[identity] = known._replace(parent=parent)
            continue
        found[identity] = Taken(
            ticks=int(fields[11]) + int(fields[12]),
            waited_ticks=int(fields[13]) + int(fields[14]),
            parent=parent,
            memory_kib=_memory_kib(proc, pid),
        )
        children = _children(proc, pid) if parents is None else parents.get(pid, ())
        todo += [(child, None, identity) for child in children]
    return found


def _stat(proc: Path, pid: int) -> list[bytes] | None:
    """The fields of a process from its state on; None where it is gone."""
    content = _read(f"{proc}/{pid}/stat")
    # The name, in brackets, may hold anything: what counts comes after the last bracket.
    fields = content[content.rindex(b")") + 2 :].split() if b")" in content else []
    return fields if len(fields) > 19 else None


def _tells_children(proc: Path) -> bool:
    me = os.getpid()
    return os.path.exists(f"{proc}/{me}/task/{me}/children")  # noqa: PTH110 - as `_read`


def _children(proc: Path, pid: int) -> list[int]:
    """The children of a process; each stands with the thread that has made it."""
    try:
        threads = os.listdir(f"{proc}/{pid}/task")  # noqa: PTH208 - as `_read`
    except OSError:
        return []
    return [
        int(child)
        for thread in threads
        for child in _read(f"{proc}/{pid}/task/{thread}/children").split()
    ]


def _parents(proc: Path) -> dict[int, list[int]]:
    """Who has which children, from a look at all processes: for a kernel that does not tell it."""
    children: dict[int, list[int]] = {}
    try:
        names = os.listdir(proc)  # noqa: PTH208 - as `_read`
    except OSError:
        return {}
    for name in names:
        fields = _stat(proc, int(name)) if name.isdigit() else None
        if fields is not None:
            children.setdefault(int(fields[1]), []).append(int(name))
    return children


def _memory_kib(proc: Path, pid: int) -> int:
    """Memory of a process that is in no file; the pages that it really shares take long to count.

    So what trainers share that were forked from one parent counts for each of them. Too much of
    our own is the safe side: what others have is never made up of it.
    """
    status = _read(f"{proc}/{pid}/status")
    return sum(
        int(line.split()[1])
        for line in status.splitlines()
        if line.startswith((b"RssAnon:", b"RssShmem:"))
    )


def _processor(proc: Path) -> tuple[int | None, int | None]:
    """Processor time that was used, and that there was, on all cores, in ticks."""
    words = _read(f"{proc}/stat").partition(b"\n")[0].split()
    if len(words) < 9 or words[0] != b"cpu":
        return None, None
    user, nice, system, idle, waiting, *interrupts, stolen = map(int, words[1:9])
    busy = user + nice + system + sum(interrupts)
    # What the host gave to other machines was there for nobody here.
    return busy, busy + idle + waiting + stolen


def _meminfo(proc: Path) -> dict[bytes, int]:
    """The lines of it that count, in KiB."""
    found: dict[bytes, int] = {}
    for line in _read(f"{proc}/meminfo").splitlines():
        name, _, rest = line.partition(b":")
        if name in (b"MemTotal", b"MemAvailable", b"SwapTotal", b"SwapFree"):
            found[name] = int(rest.split()[0])
    return found


def _stalls(files: Mapping[str, str]) -> dict[str, int]:
    """For how long tasks have waited for what they need, in microseconds."""
    found: dict[str, int] = {}
    for what, file in files.items():
        for line in _read(file).splitlines():
            kind, _, rest = line.partition(b" ")
            _, found_total, total = rest.partition(b"total=")
            if found_total and total.isdigit():
                found[f"{what} {kind.decode()}"] = int(total)
    return found


def _is_there(pid: int) -> bool:
    """Whether there is such a process; the service does not see those of others in `/proc`."""
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except OSError:
        return False
    return True


def _is_in_service(pid: int) -> bool:
    return any(line.endswith(f"/{SERVICE}") or f"/{SERVICE}/" in line for line in _groups(pid))


def _groups(pid: int) -> list[str]:
    return (memberships(pid) or "").splitlines()


def _mib(kib: int | None) -> float | None:
    return None if kib is None else kib / KIB_PER_MIB


def _percent(part: float, whole: float) -> float:
    return min(100.0, max(0.0, 100 * part / whole))


def _read(path: str) -> bytes:
    """What the kernel tells there; nothing where it tells nothing.

    Plain strings and unbuffered files take half the time of paths, and this is read for each
    process of ours, again and again.
    """
    try:
        with open(path, "rb", buffering=0) as file:  # noqa: PTH123 - see above
            return file.read()
    except OSError:
        return b""
