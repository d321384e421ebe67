"""What a decision is made from, and what the memory is once it is carried out."""

from __future__ import annotations

import msgspec

from modes import Ladder
from state.records import Memory, Stretch, Visit
from state.requests import AboutTheMode, Request
from supervisor.core import ledger as learnt
from supervisor.core import slots
from supervisor.core.facts import Decision, Facts, StabilityLimits, Terms
from supervisor.core.guard import Guard, Verdict
from supervisor.core.quiet_hours import Quiet
from supervisor.core.readings import Readings

REQUESTS_KEPT = 200


def facts(
    memory: Memory,
    ladder: Ladder,
    limits: StabilityLimits,
    *,
    request: AboutTheMode | None = None,
    readings: Readings | None = None,
    guard: Guard | None = None,
    pressure: Verdict | None = None,
    quiet: Quiet | None = None,
) -> Facts:
    """What a decision may know, taken from the memory."""
    visit, now_s = memory.visit, memory.timeline.now_s
    booking = learnt.entry(
        memory.ledger,
        Terms(ladder.names, ladder.speeds, limits),
        goal=memory.goal,
        at_s=now_s,
        stretch=memory.stretch,
        visit=visit,
    )
    return Facts(
        now_s=now_s,
        at=memory.timeline.seen_at,
        boot_id=memory.timeline.boot_id,
        ladder=ladder.names,
        goal=memory.goal,
        stable_s=visit.stable_s,
        crashes_s=visit.crashes_s,
        cool_downs=memory.cool_downs,
        limits=limits,
        work_left=slots.work_left(memory.runs, memory.timeline.seen_at),
        speeds=ladder.speeds,
        booking=booking,
        ledger=learnt.booked(memory.ledger, booking),
        entered_s=visit.entered_s,
        running_s=visit.running_s,
        crashes_total=visit.crashes_total,
        forced=visit.forced,
        out_of_memory=visit.out_of_memory,
        proved=visit.proved,
        away=visit.away,
        breather=visit.breather,
        booted_s=memory.boots[-1].recorded_s if memory.boots else 0.0,
        short_boots=_short_boots(memory, ladder.safest.name, limits),
        request=request,
        readings=readings,
        gpus=None if memory.gpus is None else len(memory.gpus),
        gpus_needed={mode.name: mode.gpus for mode in ladder if mode.gpus},
        guard=guard,
        pressure=pressure,
        quiet=quiet,
        gpu_error=memory.gpu_error if now_s - memory.gpu_error_s < limits.stable_min * 60 else None,
    )


def enact(memory: Memory, decision: Decision) -> Memory:
    """The memory once `decision` is the goal.

    Entering a mode begins a new visit, but after a breather, which has only interrupted one.
    """
    now_s, old = memory.timeline.now_s, memory.goal
    cool_downs = {mode: until for mode, until in memory.cool_downs.items() if until > now_s}
    granted = decision.rule == "request" and not decision.refused
    visit = memory.visit
    if decision.outcome == "proved":
        visit = msgspec.structs.replace(visit, proved=True)
    if decision.goal.mode != old.mode:
        if decision.cool_down_s is not None:
            cool_downs[old.mode] = now_s + decision.cool_down_s
        if not granted:  # a person's try neither ends a cool-down nor begins one
            cool_downs.pop(decision.goal.mode, None)
        interrupted = visit if decision.outcome == "breather" else None
        visit = Visit(
            entered_at=memory.timeline.seen_at,
            entered_s=now_s,
            forced=granted,
            breather=decision.outcome == "breather",
        )
        if decision.outcome == "breather_over" and memory.interrupted is not None:
            # Crashes before it are over: no rule answers them once more.
            visit = msgspec.structs.replace(
                memory.interrupted, crashes_s=(), crashes_total=memory.interrupted.crashes
            )
        memory = msgspec.structs.replace(memory, interrupted=interrupted)
    elif old.pinned and not decision.goal.pinned:  # what came while a person held it is forgiven
        visit = msgspec.structs.replace(visit, crashes_s=(), crashes_total=0, out_of_memory=False)
    learned = decision.ledger is not None
    return msgspec.structs.replace(
        memory,
        goal=decision.goal,
        visit=visit,
        cool_downs=cool_downs,
        asked_s=now_s if granted else memory.asked_s,
        ledger=decision.ledger if decision.ledger is not None else memory.ledger,
        stretch=Stretch() if learned else memory.stretch,
    )


def answered(memory: Memory, request: Request) -> Memory:
    """The memory once `request` has been granted or refused, so that it never is again."""
    return msgspec.structs.replace(
        memory, requests_done=(*memory.requests_done, request.id)[-REQUESTS_KEPT:]
    )


def _short_boots(memory: Memory, lowest: str, limits: StabilityLimits) -> int:
    """How many boots in a row before this one crashed at once, newest first.

    One without any look counts whatever the mode: not even the supervisor came to
    life. One that lived on without training neither counts nor ends the row.
    """
    short_s, row = limits.short_boot_min * 60, 0
    boots = memory.boots
    for place in range(len(boots) - 1, 0, -1):
        boot, after = boots[place - 1], boots[place]
        if not after.crash or boot.recorded_s < memory.asked_s:
            return row
        if boot.lived_s is None:
            return row
        short = boot.lived_s < short_s or 0 < boot.trained_s < short_s
        if boot.lived_s == 0 or (short and after.mode == lowest):
            row += 1
        elif boot.trained_s > 0 or after.mode != lowest:
            return row
    return row
