"""Whether the machine is needed for its real work: what presses it beside us, and what follows.

Whoever samples the machine asks `step` after each sample, and wakes the daemon only when the answer
has become another one. Our own load is no pressure: a machine that trains alone is busy, and that
is what it is for.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import chain
from typing import Annotated, Literal, NamedTuple

import msgspec

Percent = Annotated[float, msgspec.Meta(gt=0, le=100)]
Seconds = Annotated[float, msgspec.Meta(gt=0, le=86_400)]
Samples = Annotated[int, msgspec.Meta(ge=1, le=100)]
Words = Annotated[str, msgspec.Meta(min_length=1, max_length=1000)]

FLAP_S = 600.0
"""a pause that comes this soon after the end of one shows that the calm was none"""
HOUR_S = 3600.0
PROBED = re.compile(
    r"(?:tcp(?=://[^/]+:[0-9]+$)|http)://(?:[^/@:?#\[\]\s]+|\[[0-9A-Fa-f:.]+\])"
    r"(?::(?P<port>[0-9]{1,5}))?(?:/\S*)?"
)
"""what can be probed without a command; an address with a password in it is none"""
PORT_MAX = 65535


class Guard(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[guard]: the machine's real work comes first; on where this or [quiet_hours] stands."""

    enabled: bool = True
    """whether training makes way for others"""
    sample_s: Annotated[float, msgspec.Meta(ge=0.5, le=300)] = 2.0
    """time between two looks at what others do here"""
    start_cpu_percent: Percent = 30.0
    """of all processors, used by others: nothing starts above"""
    start_memory_percent: Percent = 70.0
    """of the memory that is not ours, used by others: nothing starts above"""
    start_gpu_memory_mib: Annotated[float, msgspec.Meta(ge=0, le=1e6)] = 1024.0
    """of each GPU, used by others: nothing starts above"""
    pause_cpu_percent: Percent = 80.0
    """from here on training stands still"""
    pause_memory_percent: Percent = 90.0
    """from here on training saves and leaves, for standing still frees no memory"""
    pause_gpu_memory_mib: Annotated[float, msgspec.Meta(gt=0, le=1e6)] | None = None
    """likewise, of any GPU; unset: what is trained there stays"""
    calm_s: Seconds = 60.0
    """below all start limits for so long before anything starts"""
    pause_samples: Samples = 2
    """in a row above a limit before training stands still"""
    resume_samples: Samples = 3
    """in a row below all start limits before it goes on"""
    paused_min_s: Seconds = 60.0
    """the shortest pause"""
    evict_after_s: Seconds = 300.0
    """what has stood still for so long saves and leaves"""
    pauses_max_per_h: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 6
    """after more of them training leaves until an hour has fewer"""
    protect_cgroup: Words | tuple[Words, ...] = ()
    """control groups with what is to be protected, and with none of ours, such as
    `system.slice/game.service`: whatever has to wait in there counts"""
    start_psi_percent: Percent = 10.0
    """of the time something in one of them waited for a processor, or for memory: nothing starts
    above"""
    pause_psi_percent: Percent = 30.0
    """from here on training stands still, or leaves where it is memory"""
    probe: Words | tuple[Words, ...] | None = None
    """what is asked how quickly a service answers: `tcp://host:port`, `http://host:port/path`, or a
    command and its arguments"""
    latency_p95_ms: Annotated[float, msgspec.Meta(gt=0, lt=10_000)] = 100.0
    """above it the service is too slow for its users, and training stands still; what takes ten
    seconds is no answer"""

    @property
    def protected(self) -> tuple[str, ...]:
        """The control groups, as `/proc/PID/cgroup` has them, without the slash they begin with."""
        named = self.protect_cgroup
        return tuple(one.strip("/") for one in ((named,) if isinstance(named, str) else named))

    def __post_init__(self) -> None:
        for group in self.protected:
            if not group or not group.isprintable() or {"", ".", ".."} & set(group.split("/")):
                raise ValueError(
                    f"guard.protect_cgroup: {group!r} names no control group below the root; the "
                    "third field of /proc/PID/cgroup does, such as /system.slice/game.service"
                )
            if group.startswith("sys/fs/cgroup"):
                raise ValueError(f"guard.protect_cgroup: leave /sys/fs/cgroup out of /{group}")
        if isinstance(self.probe, str) and not _is_address(self.probe):
            # An address may hold a password: it is not repeated.
            raise ValueError(
                "guard.probe is neither tcp://host:port nor http://host:port/path, without a name "
                "or a password in it; a command is a list"
            )
        if self.probe == ():
            raise ValueError("guard.probe: the command is empty")
        if self.probe is not None and "\0" in "".join(self.probe):
            raise ValueError("guard.probe: no command can be given a zero byte")
        for start, pause in (
            ("start_psi_percent", "pause_psi_percent"),
            ("start_cpu_percent", "pause_cpu_percent"),
            ("start_memory_percent", "pause_memory_percent"),
            ("start_gpu_memory_mib", "pause_gpu_memory_mib"),
        ):
            least, most = getattr(self, start), getattr(self, pause)
            if most is not None and least > most:
                raise ValueError(f"guard.{start} = {least:g} lies above {pause} = {most:g}")


def _is_address(text: str) -> bool:
    found = PROBED.fullmatch(text)
    return found is not None and 0 < int(found["port"] or 80) <= PORT_MAX


class Pressure(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What others do on this machine, at one sample; an unknown is None."""

    cpu_other: float | None = None
    """percent of all processors, since the sample before"""
    memory_other: float | None = None
    """percent of the memory that is not held by us"""
    gpu_memory_other_mib: dict[str, float] = {}
    """GPU, by UUID or else by its number: what others hold of it; absent where nobody knows"""
    psi_cpu: float | None = None
    """percent of the time since then in which something waited for a processor, ours included"""
    psi_memory: float | None = None
    """the same for memory"""
    psi_cpu_protected: dict[str, float] = {}
    """the same for a processor, of each protected control group; absent where nobody knows"""
    psi_memory_protected: dict[str, float] = {}
    """the same for memory"""
    service_latency_p95_ms: float | None = None
    """of the last answers of the service that is probed; None: it does not answer, or too new"""
    by: tuple[str, ...] = ()
    """who it is, the busiest first, where that was looked for: a name and a number each"""


Cause = Literal[
    "cpu",
    "memory",
    "gpu_memory",
    "protected_cpu",
    "protected_memory",
    "latency",
    "flapping",
    "calm",
    "start",
]
"""why the answer is as it is: what presses; too many pauses; nothing; not known for long enough"""
FREED_BY_LEAVING = frozenset(("memory", "gpu_memory", "protected_memory"))
"""causes that standing still does not help against"""


class Verdict(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the guard wants."""

    answer: Literal["hold", "free", "freeze", "evict"] = "hold"
    """nothing new starts; no more than what the policy wants; all stands still; all leaves"""
    cause: Cause = "start"
    pressure: Pressure = Pressure()
    """at the sample that made it so"""
    gpu: str | None = None
    """which one is pressed"""
    group: str | None = None
    """which protected control group is"""


class Watch(msgspec.Struct, frozen=True, kw_only=True):
    """What the guard remembers from one sample to the next."""

    verdict: Verdict = Verdict()
    since_s: float = 0.0
    """when the answer became what it is"""
    high: int = 0
    """samples in a row above a pause limit"""
    low: int = 0
    """samples in a row below all start limits"""
    low_s: float | None = None
    """since when; None: it is not"""
    pauses_s: tuple[float, ...] = ()
    """when the pauses of the last hour began"""
    flaps: int = 0
    """pauses that came soon after the end of one, in a row"""
    ended_s: float | None = None
    """when the last pause ended"""


class Pressed(NamedTuple):
    """A limit that is passed."""

    cause: Cause
    gpu: str | None = None
    group: str | None = None


def begun(now_s: float) -> Watch:
    """The watch of who has just begun to look; nothing starts before it has been calm a while."""
    return Watch(since_s=now_s)


def step(watch: Watch, seen: Pressure, limits: Guard, now_s: float) -> Watch:
    """The watch after one more sample.

    Args:
        watch: as the sample before has left it.
        seen: the sample.
        limits: the settings in force.
        now_s: of a clock that counts on, whatever is done to the time of day.
    """
    pressed = next(_over_pause(seen, limits), None)
    low = not any(_over_start(seen, limits))
    watch = msgspec.structs.replace(
        watch,
        high=watch.high + 1 if pressed else 0,
        low=watch.low + 1 if low else 0,
        low_s=(now_s if watch.low_s is None else watch.low_s) if low else None,
        pauses_s=tuple(began for began in watch.pauses_s if now_s - began < HOUR_S),
    )
    answer = watch.verdict.answer
    if pressed is not None and watch.high >= limits.pause_samples:
        frees = pressed.cause in FREED_BY_LEAVING
        if answer in ("hold", "free"):
            return _paused(watch, seen, pressed, limits, now_s)
        if answer == "freeze" and frees:
            return _to(watch, "evict", pressed, seen, now_s)
    if answer == "freeze" and now_s - watch.since_s >= limits.evict_after_s:
        held = Pressed(watch.verdict.cause, watch.verdict.gpu, watch.verdict.group)
        return _to(watch, "evict", held, seen, now_s)
    if answer != "free" and _may_go_on(watch, limits, now_s):
        ended_s = watch.ended_s if answer == "hold" else now_s
        freed = _to(watch, "free", Pressed("calm"), seen, now_s)
        return msgspec.structs.replace(freed, ended_s=ended_s)
    if watch.verdict == Verdict() and seen.by:  # whoever waits is told once for whom
        return msgspec.structs.replace(watch, verdict=Verdict(pressure=seen))
    return watch


def _paused(watch: Watch, seen: Pressure, pressed: Pressed, limits: Guard, now_s: float) -> Watch:
    """The watch at the beginning of a pause."""
    soon = watch.ended_s is not None and now_s - watch.ended_s < FLAP_S
    pauses_s = (*watch.pauses_s, now_s)
    watch = msgspec.structs.replace(watch, pauses_s=pauses_s, flaps=watch.flaps + 1 if soon else 0)
    if len(pauses_s) > limits.pauses_max_per_h:
        return _to(watch, "evict", pressed._replace(cause="flapping"), seen, now_s)
    frees = pressed.cause in FREED_BY_LEAVING
    return _to(watch, "evict" if frees else "freeze", pressed, seen, now_s)


def _to(
    watch: Watch,
    answer: Literal["free", "freeze", "evict"],
    pressed: Pressed,
    seen: Pressure,
    now_s: float,
) -> Watch:
    verdict = Verdict(answer=answer, pressure=seen, **pressed._asdict())
    return msgspec.structs.replace(watch, verdict=verdict, since_s=now_s, high=0)


def patience_s(limits: Guard) -> float:
    """Within how many seconds of full load training stands still, at the latest."""
    # Of a load that began after a sample the next may have too little to count.
    return max(2, limits.pause_samples) * limits.sample_s


def is_urgent(before: Watch, after: Watch, limits: Guard) -> bool:
    """Whether the next sample should not wait: it may be the one that has training stand still.

    So it is where only one is missing, and where others have just begun: of a load that began
    within the time of a sample this has but a part.

    Args:
        before: the watch before a sample.
        after: the same after it.
        limits: the settings in force.
    """
    if after.verdict.answer not in ("hold", "free"):  # trainers may have lived on from before
        return False
    return 0 < after.high == limits.pause_samples - 1 or (before.low > 0 and after.low == 0)


def _may_go_on(watch: Watch, limits: Guard, now_s: float) -> bool:
    """Whether it has been calm for long enough.

    What stands still goes on after a few samples. What has to start anew, or has been thawed too
    soon before, waits until it has really been calm, each time for twice as long.
    """
    if watch.low_s is None:
        return False
    calm_s = now_s - watch.low_s
    if watch.verdict.answer == "hold":
        return calm_s >= limits.calm_s
    if now_s - watch.since_s < limits.paused_min_s:
        return False
    if watch.verdict.cause == "flapping" and len(watch.pauses_s) > limits.pauses_max_per_h:
        return False
    if watch.flaps:
        return calm_s >= limits.calm_s * 2.0 ** min(watch.flaps - 1, 6)
    if watch.verdict.answer == "evict":
        return calm_s >= limits.calm_s
    return watch.low >= limits.resume_samples


def _over_pause(seen: Pressure, limits: Guard) -> Iterator[Pressed]:
    """What passes a limit from which on training pauses, what only leaving helps against first."""
    if seen.memory_other is not None and seen.memory_other >= limits.pause_memory_percent:
        yield Pressed("memory")
    most = limits.pause_gpu_memory_mib
    for gpu, held_mib in seen.gpu_memory_other_mib.items():
        if most is not None and held_mib >= most:
            yield Pressed("gpu_memory", gpu)
    for group, percent in seen.psi_memory_protected.items():
        if percent >= limits.pause_psi_percent:
            yield Pressed("protected_memory", group=group)
    if seen.cpu_other is not None and seen.cpu_other >= limits.pause_cpu_percent:
        yield Pressed("cpu")
    for group, percent in seen.psi_cpu_protected.items():
        if percent >= limits.pause_psi_percent:
            yield Pressed("protected_cpu", group=group)
    if _is_slow(seen, limits):
        yield Pressed("latency")


def _over_start(seen: Pressure, limits: Guard) -> Iterator[Pressed]:
    """What passes a limit above which nothing starts."""
    if seen.memory_other is not None and seen.memory_other >= limits.start_memory_percent:
        yield Pressed("memory")
    for gpu, held_mib in seen.gpu_memory_other_mib.items():
        if held_mib > limits.start_gpu_memory_mib:
            yield Pressed("gpu_memory", gpu)
    if seen.cpu_other is not None and seen.cpu_other >= limits.start_cpu_percent:
        yield Pressed("cpu")
    for group, percent in (*seen.psi_cpu_protected.items(), *seen.psi_memory_protected.items()):
        if percent >= limits.start_psi_percent:
            yield Pressed("protected_cpu", group=group)
    if _is_slow(seen, limits):
        yield Pressed("latency")


def _is_slow(seen: Pressure, limits: Guard) -> bool:
    latency_ms = seen.service_latency_p95_ms
    return latency_ms is not None and latency_ms > limits.latency_p95_ms


def presses(seen: Pressure, limits: Guard) -> bool:
    """Whether it is more than what nothing starts at."""
    return any(_over_start(seen, limits))


def start_words(seen: Pressure, limits: Guard) -> str:
    """What others use beside the limits above which nothing starts, for a person."""

    def share(value: float | None, of: str, limit: float) -> str:
        found = "nobody knows how much" if value is None else f"{value:.0f} %"
        return f"{found} of {of} (starts below {limit:g})"

    told = [
        share(seen.cpu_other, "the processors", limits.start_cpu_percent),
        share(seen.memory_other, "the memory that is left", limits.start_memory_percent),
        *(
            f"{held_mib:,.0f} MiB of GPU {gpu} (at most {limits.start_gpu_memory_mib:g})"
            for gpu, held_mib in seen.gpu_memory_other_mib.items()
        ),
    ]
    told += [
        f"{_waited(seen, group):.0f} % of the time something in {group} waits (starts below "
        f"{limits.start_psi_percent:g})"
        for group in seen.psi_cpu_protected
    ]
    if seen.service_latency_p95_ms is not None:
        limit = f"(at most {limits.latency_p95_ms:g})"
        told.append(f"the service answers within {seen.service_latency_p95_ms:.0f} ms {limit}")
    return f"others use {', '.join(told)}, which must last {limits.calm_s:g} s"


def _waited(seen: Pressure, group: str) -> float:
    """The larger part of the time in which something of that group waited."""
    of_memory = seen.psi_memory_protected.get(group, 0.0)
    return max(seen.psi_cpu_protected.get(group, 0.0), of_memory)


def by(seen: Pressure, limits: Guard, busiest: tuple[tuple[str, ...], tuple[str, ...]]) -> Pressure:
    """The pressure with the names of those behind it.

    Args:
        seen: a sample.
        limits: what it passes says of whom to tell.
        busiest: who uses the processors most, and who the memory.
    """
    cpu, memory = busiest
    pressed = next(chain(_over_pause(seen, limits), _over_start(seen, limits)), None)
    frees = pressed is not None and pressed.cause in FREED_BY_LEAVING
    return msgspec.structs.replace(seen, by=memory if frees else cpu)


def measures(seen: Pressure, limits: Guard) -> Iterator[tuple[str, float, str, str]]:
    """All that is known of others: what it is, how much, in which unit, and what follows when."""

    def note(least: float, most: float | None, unit: str, does: str) -> str:
        pauses = "" if most is None else f"{most:g} {unit} {does} training, "
        return f"{pauses}nothing starts at {least:g} {unit}"

    if seen.cpu_other is not None:
        words = note(limits.start_cpu_percent, limits.pause_cpu_percent, "%", "pause")
        yield "processors", seen.cpu_other, "%", f"used by others; {words}"
    if seen.memory_other is not None:
        words = note(limits.start_memory_percent, limits.pause_memory_percent, "%", "end")
        yield "memory", seen.memory_other, "%", f"that is left is used by others; {words}"
    for gpu, held_mib in seen.gpu_memory_other_mib.items():
        words = note(limits.start_gpu_memory_mib, limits.pause_gpu_memory_mib, "MiB", "end")
        yield f"GPU {gpu}", held_mib, "MiB", f"held by others; {words}"
    for waits, groups, does in (
        ("for a processor", seen.psi_cpu_protected, "pause"),
        ("for memory", seen.psi_memory_protected, "end"),
    ):
        words = note(limits.start_psi_percent, limits.pause_psi_percent, "%", does)
        for group, percent in groups.items():
            yield group, percent, "%", f"of the time it waits {waits}; {words}"
    if seen.service_latency_p95_ms is not None:
        words = (
            f"95 % of its answers are quicker; above {limits.latency_p95_ms:g} ms training pauses"
        )
        yield "service", seen.service_latency_p95_ms, "ms", words


ACTS = {
    "hold": "nothing starts yet",
    "free": "training goes on",
    "freeze": "training stands still",
    "evict": "training saves and leaves",
}
"""what follows from each answer, for a person"""


def in_words(verdict: Verdict, limits: Guard) -> str:
    """What presses the machine and how hard, or that nothing does, for a person."""
    seen, by = verdict.pressure, verdict.pressure.by
    who = f": {', '.join(by)}" if by else ""
    match verdict.cause:
        case "cpu" if seen.cpu_other is not None:
            limit = f"{limits.pause_cpu_percent:g} % pause training"
            return f"others use {seen.cpu_other:.0f} % of the processors, {limit}{who}"
        case "memory" if seen.memory_other is not None:
            limit = f"{limits.pause_memory_percent:g} % end training"
            return f"others use {seen.memory_other:.0f} % of the memory that is left, {limit}{who}"
        case "gpu_memory" if verdict.gpu in seen.gpu_memory_other_mib:
            held = seen.gpu_memory_other_mib[verdict.gpu]
            return f"others hold {held:,.0f} MiB of GPU {verdict.gpu}{who}"
        case "protected_cpu" if verdict.group in seen.psi_cpu_protected:
            waits = f"waits {seen.psi_cpu_protected[verdict.group]:.0f} % of the time for a"
            limit = f"{limits.pause_psi_percent:g} % pause training"
            return f"{verdict.group} {waits} processor, {limit}{who}"
        case "protected_memory" if verdict.group in seen.psi_memory_protected:
            waits = f"waits {seen.psi_memory_protected[verdict.group]:.0f} % of the time for memory"
            return f"{verdict.group} {waits}, {limits.pause_psi_percent:g} % end training{who}"
        case "latency" if seen.service_latency_p95_ms is not None:
            limit = f"above {limits.latency_p95_ms:g} ms training pauses"
            return (
                f"5 % of the answers of the service take {seen.service_latency_p95_ms:,.0f} ms or "
                f"more, {limit}{who}"
            )
        case "flapping":
            return f"more than {limits.pauses_max_per_h} pauses within an hour{who}"
        case "start" if by:
            return f"{start_words(seen, limits)}{who}"
        case "start":
            return f"others have to be calm for {limits.calm_s:g} s first"
        case _:
            return f"others leave the machine to training{_numbers(seen)}"


def _numbers(seen: Pressure) -> str:
    told = []
    if seen.cpu_other is not None:
        told.append(f"{seen.cpu_other:.0f} % of the processors")
    if seen.memory_other is not None:
        told.append(f"{seen.memory_other:.0f} % of the memory")
    found = [f"they use {' and '.join(told)}"] if told else []
    found += [f"{group} waits {_waited(seen, group):.0f} %" for group in seen.psi_cpu_protected]
    if seen.service_latency_p95_ms is not None:
        found.append(f"the service answers within {seen.service_latency_p95_ms:.0f} ms")
    return f": {', '.join(found)}" if found else ""
