"""What happened to the machine, written into the memory: time, boots, and what they cost.

The timeline
    Within a boot it advances with the clock that counts from the boot, so
    setting the wall clock changes nothing. Between two boots only the wall clock
    can tell how long the machine was away: that gap is taken as at least the
    uptime of the new boot, and at most a day, whatever the wall clock says.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby
from operator import attrgetter

import msgspec

from modes import Ladder
from state.records import (
    Attempt,
    Boot,
    BootNote,
    Goal,
    Ledger,
    Memory,
    Outage,
    Progress,
    Run,
    Stretch,
    Timeline,
    Visit,
)
from supervisor.core import hazard, slots
from supervisor.core import ledger as learnt
from supervisor.core.facts import StabilityLimits, Terms
from supervisor.core.moments import Moment
from supervisor.core.queue import ENDED, lives_perhaps
from supervisor.core.recovery import later

GAP_MAX_S = 24 * 3600.0
"""the longest time between two boots that is booked: more tells nothing about the machine"""
BOOTS_KEPT = 200
CRASHES_KEPT = 100

_BOOT_ID = attrgetter("boot_id")


def first_day(moment: Moment, ladder: Ladder, runs: tuple[Run, ...] = ()) -> Memory:
    """The memory of a supervisor that has just been installed: the safest mode, no history."""
    return Memory(
        began_at=moment.wall,
        timeline=Timeline(
            seen_at=moment.wall,
            boot_id=moment.boot_id,
            monotonic_s=moment.monotonic_s,
            boottime_s=moment.boottime_s,
        ),
        goal=Goal(mode=ladder.safest.name),
        visit=Visit(entered_at=moment.wall, entered_s=0.0),
        boots=(
            Boot(
                seq=1,
                boot_id=moment.boot_id,
                recorded_at=moment.wall,
                recorded_s=0.0,
                crash=False,
                mode=ladder.safest.name,
                lived_s=0.0,
            ),
        ),
        boots_total=1,
        runs=runs,
    )


def forgotten(memory: Memory, moment: Moment, ladder: Ladder, runs: tuple[Run, ...]) -> Memory:
    """The memory of a first day after `memory`.

    The numbers of the log and of the generations go on, for what they have left is there. What was
    submitted stays: the settings know nothing of it.
    """
    submitted = tuple(_anew(run) for run in memory.runs if run.is_job)
    return msgspec.structs.replace(
        first_day(moment, ladder, (*runs, *submitted)),
        left=memory.left,
        home=memory.home,
        epoch=memory.epoch + 1,
        requests_done=memory.requests_done,
        decisions=memory.decisions,
        told=memory.told,
        outbox=memory.outbox,
        answers=memory.answers,
        gpus=memory.gpus,
        generations=memory.generations,
    )


def _anew(run: Run) -> Run:
    """A submitted run as it is on a first day: as far as it was, and with nothing of its past.

    What is counted on the timeline means another moment there, which begins at 0.
    """
    over = run.status in ENDED
    return Run(
        asked=run.asked,
        status=run.status if over else "queued",
        reason=run.reason if over or run.ending else None,
        withdrawn=run.withdrawn,
        ending=run.ending,
        failed_by=run.failed_by,
        attempt=Attempt(number=run.attempt.number, process=run.attempt.process),
        progress=Progress(step=run.progress.step, episodes=run.progress.episodes),
    )


def pass_time(memory: Memory, moment: Moment) -> Memory:
    """Advance the timeline to `moment`, and book the time in which a trainer lived.

    After a move, or a boot, that is no running time until trainers step: see `starting`.
    """
    line = memory.timeline
    if moment.boot_id == line.boot_id:
        gone_s = max(0.0, moment.boottime_s - line.boottime_s)
        ran_s = max(0.0, moment.monotonic_s - line.monotonic_s) if memory.running else 0.0
        slept_s = max(0.0, gone_s - max(0.0, moment.monotonic_s - line.monotonic_s))
    else:
        slept_s = 0.0
        gone_s = max(moment.boottime_s, min(max(0.0, moment.wall - line.seen_at), GAP_MAX_S))
        ran_s = 0.0
    boots = memory.boots
    if boots and boots[-1].boot_id == moment.boot_id:
        trained_s = boots[-1].trained_s + ran_s
        seen = {"lived_s": moment.boottime_s, "trained_s": trained_s}
        boots = (*boots[:-1], msgspec.structs.replace(boots[-1], **seen))
    memory = msgspec.structs.replace(
        memory,
        boots=boots,
        timeline=Timeline(
            now_s=line.now_s + gone_s,
            seen_at=moment.wall,
            boot_id=moment.boot_id,
            monotonic_s=moment.monotonic_s,
            boottime_s=moment.boottime_s,
        ),
        runs=tuple(later(run, slept_s) for run in memory.runs) if slept_s > 1 else memory.runs,
    )
    starting_s = memory.visit.starting_s
    if starting_s is None:
        return _ran(memory, ran_s)
    visit = msgspec.structs.replace(memory.visit, starting_s=starting_s + ran_s)
    return msgspec.structs.replace(memory, visit=visit)


def starting(memory: Memory) -> Memory:
    """The memory after a move, or a boot: it is no running time until trainers step again."""
    visit = msgspec.structs.replace(memory.visit, starting_s=0.0)
    return msgspec.structs.replace(memory, visit=visit)


def stepping(memory: Memory, since_s: float) -> Memory:
    """The memory once it is heard that trainers make steps in the goal's mode, for so long.

    What a move or a start-up took before is no running time: nothing was trained, and what a
    start after a crash takes is a part of the price of that crash.
    """
    starting_s = memory.visit.starting_s
    if starting_s is None:
        return memory
    visit = msgspec.structs.replace(memory.visit, starting_s=None)
    memory = msgspec.structs.replace(memory, visit=visit)
    return _ran(memory, min(max(0.0, since_s), starting_s))


def _ran(memory: Memory, ran_s: float) -> Memory:
    """The memory with so much more running time."""
    if not ran_s:
        return memory
    visit = memory.visit
    return msgspec.structs.replace(
        memory,
        visit=msgspec.structs.replace(
            visit, running_s=visit.running_s + ran_s, stable_s=visit.stable_s + ran_s, away=False
        ),
        stretch=_longer(memory, ran_s),
    )


def _longer(memory: Memory, ran_s: float) -> Stretch:
    """The stretch with so much more running time."""
    stretch, now_s, last_s = memory.stretch, memory.timeline.now_s, _crashed_s(memory)
    longer = msgspec.structs.replace(
        stretch,
        running_s=stretch.running_s + ran_s,
        shaken_s=stretch.shaken_s + _shaken_s(memory.visit, ran_s),
    )
    if last_s is None:
        return longer
    return msgspec.structs.replace(
        longer,
        aged_s=hazard.aged(stretch.aged_s, now_s - last_s, ran_s),
        day_s=hazard.daily(stretch.day_s, now_s, ran_s),
    )


def _crashed_s(memory: Memory) -> float | None:
    """When the machine has crashed last, on the timeline; None: never, as far as is known."""
    return next((boot.recorded_s for boot in reversed(memory.boots) if boot.crash), None)


def _shaken_s(visit: Visit, ran_s: float) -> float:
    """The part of `ran_s` more seconds of running that comes soon after a crash."""
    if not visit.crashes_s:
        return 0.0
    return max(0.0, min(ran_s, learnt.SHAKEN_S - visit.stable_s))


def record_boot(
    memory: Memory, moment: Moment, ladder: Ladder, limits: StabilityLimits
) -> tuple[Memory, Boot | None]:
    """Write down this boot, once. None where it is known already.

    A crash ends the stable time of the visit and counts against its mode, unless
    nothing was to train: an idle machine says nothing about a load.
    """
    seen_s = memory.timeline.now_s
    memory = pass_time(memory, moment)
    if moment.boot_id in map(_BOOT_ID, memory.boots):
        return msgspec.structs.replace(memory, clean_stop=False), None
    crash = not memory.clean_stop
    boot = Boot(
        seq=memory.boots_total + 1,
        boot_id=moment.boot_id,
        recorded_at=moment.wall,
        recorded_s=memory.timeline.now_s,
        crash=crash,
        mode=memory.goal.mode,
        lived_s=0.0,
    )
    visit = memory.visit
    away = boot.recorded_s - seen_s >= GAP_MAX_S - 1  # a sum of seconds is rounded
    if away:
        visit = msgspec.structs.replace(visit, away=True)
    # Before anybody has read the settings nobody knows what there was to train.
    loaded = _is_loaded(memory)
    if crash and loaded and (memory.campaign == 0 or _work_left(memory)):
        visit = msgspec.structs.replace(
            visit,
            stable_s=0.0,
            crashes_s=_listed(visit.crashes_s, boot.recorded_s),
            crashes_total=visit.crashes + 1,
        )
        last_s, outage = _crashed_s(memory), memory.outage
        if last_s is not None:
            stretch = msgspec.structs.replace(
                memory.stretch, crash_age_s=seen_s - last_s, crash_s=seen_s
            )
            memory = msgspec.structs.replace(memory, stretch=stretch)
        cost_s = None if outage is None else seen_s - outage.began_s + outage.lost_s
        memory = book(memory, ladder, limits, crashes=1, cost_s=cost_s)
        outage = Outage(began_s=seen_s, lost_s=0.0 if outage else memory.unsaved_s)
        # Days of absence are no price of a crash: nobody knows how long they were.
        memory = msgspec.structs.replace(memory, outage=None if away else outage)
    memory = msgspec.structs.replace(
        memory,
        boots=(*memory.boots, boot)[-BOOTS_KEPT:],
        boots_total=boot.seq,
        crashes_total=memory.crashes_total + crash,
        clean_stop=False,
        running=False,
        visit=visit,
    )
    return memory, boot


def _is_loaded(memory: Memory) -> bool:
    """Whether it is our load that a machine has crashed under.

    What stands still is none, nor what the guard has kept from starting.
    """
    goal = memory.goal
    held = goal.still == "starts" and not any(
        run.local and lives_perhaps(run) for run in memory.runs
    )
    return goal.trains and not goal.frozen and not held


def _work_left(memory: Memory) -> bool:
    return slots.work_left(memory.runs, memory.timeline.seen_at)


def _listed(crashes_s: tuple[float, ...], newest_s: float) -> tuple[float, ...]:
    """With one more crash; where there are too many, the first and the newest are left."""
    if len(crashes_s) < CRASHES_KEPT:
        return (*crashes_s, newest_s)
    return (crashes_s[0], *crashes_s[2:], newest_s)


def record_missed(
    memory: Memory, notes: Iterable[BootNote], ladder: Ladder, limits: StabilityLimits
) -> tuple[Memory, tuple[Boot, ...]]:
    """Write down the boots that no supervisor lived to see, in the order of their notes.

    Each is a crash of the goal's mode, unless the boot before it went down orderly.

    Args:
        memory: what is known.
        notes: of earlier boots, those of one boot together; of a known one only its end is news.
        ladder: the modes in force.
        limits: those of the policy.
    """
    missed: list[Boot] = []
    for boot_id, group in groupby(_after_the_known(tuple(notes), memory), lambda n: n.boot_id):
        first, *rest = group
        if not any(boot.boot_id == boot_id for boot in memory.boots):
            memory, boot = record_boot(memory, noted(first), ladder, limits)
            missed += [boot] if boot else []
        last = (rest or [first])[-1]
        # One that was stopped and went on training in the same boot is not forgiven its crash.
        went_on = last.boottime_s < memory.timeline.boottime_s
        if last.event == "down" and not (went_on and memory.timeline.boot_id == boot_id):
            memory = msgspec.structs.replace(memory, clean_stop=True)
    return memory, tuple(missed)


def noted(note: BootNote) -> Moment:
    """The clocks when `note` was made, early in its boot."""
    return Moment(
        wall=note.wall,
        monotonic_s=note.boottime_s,
        boottime_s=note.boottime_s,
        boot_id=note.boot_id,
    )


def _after_the_known(notes: tuple[BootNote, ...], memory: Memory) -> tuple[BootNote, ...]:
    """The notes from those of the newest known boot on: what stands before has been counted."""
    known = {boot.boot_id for boot in memory.boots}
    newest = next((note.boot_id for note in reversed(notes) if note.boot_id in known), None)
    first = next((i for i, note in enumerate(notes) if note.boot_id == newest), 0)
    return notes[first:]


def relearn(memory: Memory) -> Memory:
    """The memory with a ledger that is begun anew; all else stays."""
    return msgspec.structs.replace(
        memory, ledger=Ledger(), stretch=Stretch(), outage=None, bookings=()
    )


def record_cost(memory: Memory, ladder: Ladder, limits: StabilityLimits, cost_s: float) -> Memory:
    """The memory once trainers step again after a crash, which has cost that much in all."""
    return msgspec.structs.replace(book(memory, ladder, limits, cost_s=cost_s), outage=None)


def book(
    memory: Memory,
    ladder: Ladder,
    limits: StabilityLimits,
    *,
    crashes: int = 0,
    charge: float = 0.0,
    cost_s: float | None = None,
    fingerprint: dict[str, str] | None = None,
) -> Memory:
    """The memory with its ledger booked up to now; the next line of the log carries the entry.

    Args:
        memory: what is known.
        ladder: the modes in force.
        limits: those of the policy.
        crashes: of the machine, just now.
        charge: what the death of a trainer has cost, in crashes.
        cost_s: what an earlier crash has cost, now that it is known.
        fingerprint: what the machine is from now on, if that has changed.
    """
    repaired = limits.name == "ledger" and bool(
        learnt.changed(memory.ledger.fingerprint, fingerprint or {})
    )
    booking = learnt.entry(
        memory.ledger,
        Terms(ladder.names, ladder.speeds, limits),
        goal=memory.goal,
        at_s=memory.timeline.now_s,
        stretch=memory.stretch,
        visit=memory.visit,
        crashes=crashes,
        charge=charge,
        cost_s=cost_s,
        fingerprint=fingerprint,
    )
    return msgspec.structs.replace(
        memory,
        ledger=learnt.booked(memory.ledger, booking),
        stretch=Stretch(),
        bookings=(*memory.bookings, booking),
        cool_downs={} if repaired else memory.cool_downs,
    )


def crashes_last_hour(memory: Memory) -> int:
    """Crashes of the machine within the last hour, in whatever mode."""
    since_s = memory.timeline.now_s - 3600
    return sum(boot.crash and boot.recorded_s > since_s for boot in memory.boots)
