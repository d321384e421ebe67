"""What is told, in the log and in answers, and what has been told already.

All of it goes into the memory: the save of that makes a line or an answer last.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import msgspec

from state.records import LOG_VERSION, Answer, Memory, PowerLimit, Run
from state.requests import JobsWait, Pause
from supervisor.core import ledger as learnt
from supervisor.core import policy, queue
from supervisor.core.events import Event
from supervisor.core.facts import Decision, Facts
from supervisor.core.measure import Price
from supervisor.core.moments import span, stamp
from supervisor.core.recovery import Note

REASON_MAX = 2000
OUTBOX_MAX = 1000
"""lines kept while the log cannot be written; the oldest go first"""
ANSWERS_MAX = 1000
"""answers kept while they cannot be written; the oldest go first"""
DISK_LEAST_MIB = 2048
"""free space below which a campaign is likely to meet a full disk"""
DISK_EASED_FACTOR = 1.25
"""of that which has to be free until there is room again"""


def write(memory: Memory, event: Event, *, rule: str, reason: str, **fields: Any) -> Memory:
    """The memory with a numbered line in its outbox; the save of it makes the line last.

    Args:
        memory: the memory that the line was decided with.
        event: what happened.
        rule: what decided it.
        reason: one sentence for a person.
        fields: more of the line; None is left out.
    """
    line = {
        "version": LOG_VERSION,
        "seq": memory.decisions + 1,
        "time": stamp(memory.timeline.seen_at),
        "boot": memory.timeline.boot_id,
        "now_s": round(memory.timeline.now_s, 3),
        "event": str(event),
        "rule": rule,
        "reason": _one_line(reason),
        **{key: value for key, value in fields.items() if value is not None},
    }
    if memory.bookings:
        line["bookings"] = msgspec.to_builtins(memory.bookings)
    return msgspec.structs.replace(
        memory,
        decisions=memory.decisions + 1,
        bookings=(),
        outbox=(*memory.outbox, line)[-OUTBOX_MAX:],
    )


def _one_line(text: str) -> str:
    """`text` as a log can bear it: of bounded length, without anything that moves a cursor."""
    plain = "".join(letter if letter.isprintable() else " " for letter in text)
    return plain if len(plain) <= REASON_MAX else f"{plain[: REASON_MAX - 3]}..."


def remember(memory: Memory, **told: Any) -> Memory:
    """The memory that knows what the log has been told."""
    return msgspec.structs.replace(memory, told=msgspec.structs.replace(memory.told, **told))


def disk(memory: Memory, trouble: str | None) -> Memory:
    """A disk that refuses does not end the supervision: it goes on in memory, and says so."""
    before = memory.told.unsaved
    if trouble is not None and before is None:
        reason = f"the state cannot be saved: {trouble}; going on in memory"
        memory = write(memory, Event.STATE_UNSAVED, rule="disk", reason=reason)
    if trouble is None and before is not None:
        memory = write(
            memory, Event.STATE_SAVED, rule="disk", reason="the state can be saved again"
        )
    if (trouble is None) != (before is None):
        memory = remember(memory, unsaved=trouble)
    return memory


def room(memory: Memory, free_mib: int | None, least_mib: float) -> Memory:
    """Say once that the disk is nearly full, and once that it is no more.

    Args:
        memory: what is known.
        free_mib: what is free where the home is; None: nobody knows, and all stays as it was told.
        least_mib: with less it is nearly full. What comes and goes with each checkpoint is no end
            of that, so it takes a quarter more.
    """
    if free_mib is None:
        return memory
    low = memory.told.disk_low
    if not low and free_mib < least_mib:
        reason = (
            f"{free_mib:,} MiB are free on the disk of the home, less than {least_mib:,.0f}: make "
            "room, or training will go on without being saved"
        )
        memory = write(remember(memory, disk_low=True), Event.DISK_LOW, rule="disk", reason=reason)
    elif low and free_mib >= DISK_EASED_FACTOR * least_mib:
        reason = f"there is room on the disk again: {free_mib:,} MiB are free"
        memory = write(
            remember(memory, disk_low=False), Event.DISK_EASED, rule="disk", reason=reason
        )
    return memory


def waiting(memory: Memory, request: JobsWait, max_wait_s: float) -> Memory:
    """Say once that jobs wait for too long, and once that they do no more; answer who tells it."""
    before = memory.told.jobs_late
    late = are_late(request.waited_s, max_wait_s, before=before)
    if late == before:
        said = Answer(request=request.id, refused=False, reason="that is nothing new")
        return answer(memory, said)
    event, reason = Event.JOBS_EASED, "no job waits for longer than it should any more"
    if late:
        event = Event.JOBS_LATE
        waited, most = span(request.waited_s), span(max_wait_s)
        reason = (
            f"job {request.job} has waited for {waited}, longer than max_wait_h of [jobs] ({most}) "
            f"allows, and no home takes it: `supervisor jobs why {request.job}`"
        )
    memory = remember(memory, jobs_late=late)
    memory = write(memory, event, rule="max_wait_h", reason=reason, request=request.id)
    return reply(memory, request.id, refused=False)


def are_late(waited_s: float, max_wait_s: float, *, before: bool) -> bool:
    """Whether jobs wait for too long; `before`, until the longest has waited half of that.

    Where a machine has as much to do as it can, one after the other is just too late.
    """
    return waited_s > (max_wait_s / 2 if before else max_wait_s)


def start(memory: Memory, run: Run) -> Memory:
    """A run has started, from where it was."""
    attempt = run.attempt
    before = "the checkpoint before " if attempt.started_step in run.faults.withheld else ""
    where = f"in {attempt.mode}" if run.local else f"on {run.asked.place}"
    pid = None if attempt.process is None else attempt.process.pid
    return write(
        memory,
        Event.RUN_STARTED,
        rule="slot",
        reason=f"{where}, from {before}step {attempt.started_step}",
        run=run.id,
        evidence={"pid": pid, "step": attempt.started_step, "mode": attempt.mode},
    )


def power(memory: Memory, limit: PowerLimit) -> Memory:
    """What became of the power limit, once."""
    if limit == memory.told.power:
        return memory
    watts = "its default" if limit.watts is None else f"{limit.watts:g} W"
    event, outcome = Event.POWER_LIMITED, f"the power limit of every GPU is {watts}"
    if limit.refused is not None:
        event, outcome = Event.POWER_REFUSED, f"cannot limit every GPU to {watts}: {limit.refused}"
    return write(remember(memory, power=limit), event, rule="mode", reason=outcome)


def note(memory: Memory, told: Note) -> Memory:
    """Something has happened to a run."""
    return write(
        memory,
        told.event,
        rule=told.rule,
        reason=told.reason,
        run=told.run,
        evidence=told.evidence or None,
    )


def notes(memory: Memory, these: Sequence[Note]) -> Memory:
    """Things have happened to runs; that one trains unasked is told once, as long as it does."""
    strays = tuple(sorted(one.run for one in these if one.rule == "stray"))
    for one in these:
        if not (one.rule == "stray" and one.run in memory.told.strays):
            memory = note(memory, one)
    return memory if strays == memory.told.strays else remember(memory, strays=strays)


def decision(
    memory: Memory, event: Event, facts: Facts, decided: Decision, **fields: Any
) -> Memory:
    """One line from which the decision can be made again."""
    return write(
        memory,
        event,
        rule=decided.rule,
        reason=decided.reason,
        evidence=decided.evidence,
        **fields,
        facts=msgspec.to_builtins(facts),
        decision=msgspec.to_builtins(decided),
    )


def veto(memory: Memory, facts: Facts, decided: Decision) -> Memory:
    """Say once why the next mode is not tried, though it would be its time."""
    known = memory.told.pressures
    if decided.rule == policy.AWAITED:
        return memory  # whether the veto holds is seen in a moment
    if decided.outcome != "vetoed":
        return remember(memory, pressures=()) if known else memory
    kind = str(decided.evidence["pressure"])
    if kind in known:
        return memory
    memory = remember(memory, pressures=(*known, kind))
    return decision(memory, Event.CLIMB_VETOED, facts, decided)


def price(memory: Memory, paid: Price) -> Memory:
    """What the newest crash has cost."""
    cost, down, lost = span(paid.cost_s), span(paid.down_s), span(paid.lost_s)
    most_s = learnt.COST_MAX_H * 3600
    counted = f"; {span(most_s)} of it count" if paid.cost_s > most_s else ""
    return write(
        memory,
        Event.CRASH_PRICED,
        rule="outage",
        reason=f"the crash cost {cost}: {down} down, {lost} of work{counted}",
        evidence={
            "cost_s": round(paid.cost_s, 3),
            "down_s": round(paid.down_s, 3),
            "lost_s": round(paid.lost_s, 3),
        },
    )


def end_of_campaign(memory: Memory) -> Memory:
    """Every run of a whole queue has ended, or of a generation: how, in words."""
    known = memory.generations
    came = queue.ends(memory) if known is None else queue.ends_of(memory, "campaign")
    outcome = f"{came.reached} of {came.total} runs have reached their target"
    outcome += f", {came.short} done before it by the trainer's word" if came.short else ""
    outcome += f", {came.failed} can never work as they are set" if came.failed else ""
    outcome += f", {came.cancelled} cancelled" if came.cancelled else ""
    evidence = {"runs": came.total, "failed": came.failed}
    if known is not None:
        outcome = f"generation {known.number}: {outcome}"
        evidence = {"generation": known.number, **evidence}
        known = msgspec.structs.replace(known, ended=True)
        memory = msgspec.structs.replace(memory, generations=known)
    outcome += "; resting" if queue.all_ended(memory.runs) else "; what was submitted goes on"
    return write(memory, Event.CAMPAIGN_DONE, rule="queue", reason=outcome, evidence=evidence)


def assignment(memory: Memory, demanded: tuple[str, ...], why: str, runs: Sequence[Run]) -> Memory:
    """Whose training is demanded, whenever that changes; goodput is measured against it.

    Args:
        memory: what is known.
        demanded: ids of these runs.
        why: what has decided it.
        runs: the whole queue, from which they have their names.
    """
    if demanded == memory.demanded:
        return memory
    called = queue.called(runs)
    names = ", ".join(called[run.id] for run in memory.runs if run.id in demanded)
    return write(
        msgspec.structs.replace(memory, demanded=demanded),
        Event.SLOTS_ASSIGNED,
        rule="rest" if why == "queue" and not demanded else why,
        reason=f"to train now: {names or 'nothing'}",
        runs=demanded,
    )


def reply(memory: Memory, request: str, *, refused: bool, mode: str | None = None) -> Memory:
    """Answer a request by what the newest line of the log says."""
    line = memory.outbox[-1]
    said = Answer(
        request=request, refused=refused, reason=line["reason"], mode=mode, line=line["seq"]
    )
    return answer(memory, said)


def answer(memory: Memory, said: Answer) -> Memory:
    """Answer a request, once."""
    if any(known.request == said.request for known in memory.answers):
        return memory  # not delivered yet, nor was the request taken away: it is seen at each look
    answers = (*memory.answers, said)[-ANSWERS_MAX:]
    return msgspec.structs.replace(memory, answers=answers)


def rest_elsewhere(memory: Memory, request: Pause, runs: Collection[Run]) -> Memory:
    """Say to who pauses what a pause does not give back.

    Args:
        memory: in which the pause has been answered last.
        request: that pause.
        runs: the whole queue.
    """
    far = [run for run in runs if not run.local and run.attempt.process]
    *others, said = memory.answers
    if not far or said.request != request.id or said.refused:
        return memory
    names = ", ".join(f"{run.name} ({run.asked.place})" for run in far)
    held = f"{names} will rest, too: what is held there may go on to cost"
    said = msgspec.structs.replace(said, reason=f"{said.reason}; {held}")
    return msgspec.structs.replace(memory, answers=(*others, said))
