"""What was measured of the machine and its trainers, written into the memory.

Kept work, running time that nobody looked at, the price of crashes and of deaths, what the
machine is, and what its GPUs report.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping

import msgspec

from modes import Ladder
from state.records import Kept, Memory, Run
from supervisor.core import history
from supervisor.core import ledger as learnt
from supervisor.core.facts import StabilityLimits
from supervisor.core.goodput import Lived
from supervisor.core.moments import Moment
from supervisor.core.readings import Readings
from trainers.contract import Heartbeat, Mark

CHECKPOINT_BYTES = 20e6
"""what a checkpoint is taken for at least: the size of one of a game"""
SET_BACK_S = 3600.0
"""a run that is further back than it was, was set back by a person: no checkpoint was lost"""


class Price(msgspec.Struct, frozen=True, kw_only=True):
    """What a crash of the machine has cost."""

    down_s: float
    """from when a trainer was last seen alive to the first step of one after it"""
    lost_s: float
    """training that no checkpoint held, averaged over the slots"""

    @property
    def cost_s(self) -> float:
        """Both together."""
        return self.down_s + self.lost_s


def last_words(memory: Memory, heartbeats: Mapping[str, Heartbeat]) -> Memory:
    """The memory with the time booked that trainers lived on after the last look.

    To be asked by whoever comes back: a trainer that lived at the last look has lived until
    its step moved last, whatever became of it and of the machine since.

    Args:
        memory: as it was saved.
        heartbeats: of the runs that have one, whether their trainers live or not.
    """
    line = memory.timeline
    moved_s = [said.progress_at_s for said in _words(memory, heartbeats)]
    lived_s = min(max(moved_s, default=0.0) - line.monotonic_s, history.GAP_MAX_S)
    if lived_s <= 0:
        return memory
    moment = Moment(
        wall=line.seen_at + lived_s,
        monotonic_s=line.monotonic_s + lived_s,
        boottime_s=line.boottime_s + lived_s,
        boot_id=line.boot_id,
    )
    return history.pass_time(memory, moment)


def kind(run: Run) -> str:
    """What the work of `run` may be compared with: the same trainer at the same with the same
    options. Steps of another kind are other steps.

    What was submitted is of kinds of its own: it comes by the thousand, and must not make the
    ledger forget how fast the campaign was.
    """
    options = msgspec.json.encode(run.asked.options, order="sorted")
    told = f" {zlib.crc32(options):08x}" if run.asked.options else ""
    whose = learnt.JOB_KIND if run.is_job else ""
    return f"{whose}{run.asked.trainer}/{run.name}{told}"


def hear(memory: Memory, heartbeats: Mapping[str, Heartbeat], ladder: Ladder) -> Memory:
    """The memory after what the trainers have said of their work.

    What a durable checkpoint newly holds is work kept, in the mode that the trainer says it
    was made in. It tells how fast the mode is only while every slot of it is wanted, and for
    so many kinds of runs as the ledger can hold. Steps that are made again, since a checkpoint
    was lost, are not kept twice. A run that has gone back as a person wanted begins its work anew
    there, and is known to have done so.

    Args:
        memory: what is known.
        heartbeats: of the runs that have one, whether their trainers live or not.
        ladder: the modes in force.
    """
    memory = _stepping(memory, heartbeats)
    work = {mode: dict(runs) for mode, runs in memory.stretch.work.items()}
    slots = {mode.name: mode.slots for mode in ladder}
    kinds = learnt.kinds((*(one.work for one in memory.ledger.modes.values()), *work.values()))
    runs, lost_s = [], []
    for run in memory.runs:
        said = heartbeats.get(run.id) if run.local else None
        if said is None or said.began is None:
            runs.append(run)
            continue
        durable = said.saved or said.began
        known = _booked(run, said, durable)
        if run.rewind is not None and _has_begun(run, said):
            # What is made from there on is work anew, however far it has been before.
            run, known = msgspec.structs.replace(run, rewind=None), said.began  # noqa: PLW2901
        if durable.step > known.step:
            trained_h = (durable.trained_s - known.trained_s) / 3600
            if memory.full and trained_h > 0 and said.mode in slots:
                made = kind(run)
                if made in kinds or learnt.has_room(kinds, made):
                    kinds.add(made)
                    there = work.setdefault(said.mode, {})
                    before = there.get(made, Kept())
                    there[made] = Kept(
                        steps=before.steps + durable.step - known.step,
                        hours=before.hours + trained_h / slots[said.mode],
                    )
            known = durable
        runs.append(run.but(booked=known))
        if run.status == "running" and said.reached is not None:
            lost_s.append(max(0.0, said.reached.trained_s - durable.trained_s))
    unsaved_s = memory.unsaved_s
    if lost_s or all(run.status != "running" or not run.local for run in runs):
        unsaved_s = min(sum(lost_s) / max(1, len(lost_s)), history.GAP_MAX_S)
    return msgspec.structs.replace(
        memory,
        runs=tuple(runs),
        stretch=msgspec.structs.replace(memory.stretch, work=work),
        unsaved_s=unsaved_s,
    )


def _stepping(memory: Memory, heartbeats: Mapping[str, Heartbeat]) -> Memory:
    """The memory once it is heard since when trainers make steps in the goal's mode."""
    if memory.visit.starting_s is None:
        return memory
    first_s = [
        said.stepping_at_s
        for said in _words(memory, heartbeats)
        if said.mode == memory.goal.mode and said.stepping_at_s is not None
    ]
    if not first_s:
        return memory
    return history.stepping(memory, memory.timeline.monotonic_s - min(first_s))


def plan_work(memory: Memory, *, some: bool, full: bool) -> Memory:
    """The memory once it is planned what trains from now on.

    Args:
        memory: what is known.
        some: any run is to train; if none is, the newest crash keeps nothing from it, and how
            long it would have done so stays unknown.
        full: every slot of the mode is to be used.
    """
    runs = memory.runs
    if full and not memory.full:
        # What is saved on leaving a mode that was not full tells nothing of its speed.
        runs = tuple(run.but(booked=None) if run.status == "stopping" else run for run in runs)
    return msgspec.structs.replace(
        memory, full=full, runs=runs, outage=memory.outage if some else None
    )


def price(
    memory: Memory, heartbeats: Mapping[str, Heartbeat], ladder: Ladder, limits: StabilityLimits
) -> tuple[Memory, Price | None]:
    """What the newest crash has cost, booked once a trainer has made a step in this boot.

    Args:
        memory: what is known.
        heartbeats: of the runs that have one, whether their trainers live or not.
        ladder: the modes in force.
        limits: those of the policy.
    """
    outage, line = memory.outage, memory.timeline
    first_s = [
        said.stepping_at_s for said in _words(memory, heartbeats) if said.stepping_at_s is not None
    ]
    if outage is None or not first_s:
        return memory, None
    stepping_s = line.now_s - max(0.0, line.monotonic_s - min(first_s))
    paid = Price(down_s=max(0.0, stepping_s - outage.began_s), lost_s=outage.lost_s)
    return history.record_cost(memory, ladder, limits, paid.cost_s), paid


def record_death(
    memory: Memory,
    run: Run,
    attempt: Lived,
    ladder: Ladder,
    limits: StabilityLimits,
    *,
    out_of_memory: bool,
) -> tuple[Memory, Run]:
    """The memory and `run` once its trainer has died by its own fault, on a machine that stays up.

    The mode pays for the training that is lost and for another start, in crashes of the
    machine at their price, and for one at most. What dies in the lowest mode would die in
    every mode, so no mode pays for it.

    Args:
        memory: what is known.
        run: after its death.
        attempt: what the attempt came to that has ended.
        ladder: the modes in force.
        limits: those of the policy.
        out_of_memory: it wanted more memory than there was.
    """
    mode = memory.goal.mode
    if run.attempt.mode != mode or mode not in ladder.names:
        return memory, run
    if mode == ladder.safest.name:
        return memory, run.but(dies_everywhere=True)
    if run.faults.dies_everywhere:
        return memory, run
    lost_s = 0.0
    if attempt.reached is not None and attempt.began is not None:
        lost_s = max(0.0, attempt.reached.trained_s - (attempt.saved or attempt.began).trained_s)
    slot_h = (lost_s + (attempt.start_s or 0.0)) / 3600
    crashes = slot_h / ladder[mode].slots / learnt.price_h(memory.ledger, limits)
    if out_of_memory and memory.visit.running_s <= limits.out_of_memory_min * 60:
        visit = msgspec.structs.replace(memory.visit, out_of_memory=True)
        memory = msgspec.structs.replace(memory, visit=visit)
    return history.book(memory, ladder, limits, charge=min(1.0, crashes)), run


def savings(runs: Iterable[Run], heartbeats: Mapping[str, Heartbeat]) -> dict[str, learnt.Saving]:
    """What a checkpoint of each trainer costs: the most that any of its runs has told.

    Args:
        runs: all of them; a trainer of which nothing is known yet costs nothing that is known.
        heartbeats: of the runs that have one.
    """
    found: dict[str, learnt.Saving] = {}
    for run in runs:
        if not run.local:
            continue  # its checkpoints are written elsewhere
        known = found.get(run.asked.trainer, learnt.Saving(0.0, 0.0, CHECKPOINT_BYTES))
        said = heartbeats.get(run.id)
        write_s = (said.checkpoint_write_s if said else None) or 0.0
        stall_s = write_s
        if said and said.checkpoints and said.checkpoint_stall_s is not None:
            stall_s = said.checkpoint_stall_s / said.checkpoints
        size_bytes = (said.checkpoint_bytes if said else None) or 0
        found[run.asked.trainer] = learnt.Saving(
            max(known.stall_s, stall_s),
            max(known.write_s, write_s),
            max(known.size_bytes, size_bytes),
        )
    return found


def unsaved_s(heartbeats: Mapping[str, Heartbeat]) -> dict[str, float]:
    """Training that no checkpoint holds, run by run, in seconds."""
    found: dict[str, float] = {}
    for run_id, said in heartbeats.items():
        durable = said.saved or said.began
        if said.reached is not None and durable is not None:
            found[run_id] = max(0.0, said.reached.trained_s - durable.trained_s)
    return found


def recognise(
    memory: Memory, parts: Mapping[str, str | None], ladder: Ladder, limits: StabilityLimits
) -> tuple[Memory, dict[str, str]]:
    """The memory once it is known what the machine is, and what of it has changed, in words.

    Runs that carry the load of a mode that is another now shall start again, with the new one.

    Args:
        memory: what is known.
        parts: what the machine is; a part that is None is unknown at this moment, and stays
            what it was.
        ladder: the modes in force.
        limits: those of the policy.
    """
    known = memory.ledger.fingerprint
    seen = known | {part: value for part, value in parts.items() if value is not None}
    if seen == known:
        return memory, {}
    changed = {part: f"{known[part]} -> {seen[part]}" for part in learnt.changed(known, seen)}
    runs = tuple(
        run.but(stale=True)
        if run.status == "running"
        and run.local
        and f"{learnt.MODE_PART}{run.attempt.mode}" in changed
        else run
        for run in memory.runs
    )
    memory = msgspec.structs.replace(memory, runs=runs)
    return history.book(memory, ladder, limits, fingerprint=seen), changed


def heed(memory: Memory, readings: Readings) -> Memory:
    """The memory after a look at the GPUs: the driver tells an error once, and it holds longer."""
    troubles = [trouble for gpu in readings.gpus if (trouble := gpu.trouble)]
    if not troubles:
        return memory
    now_s = memory.timeline.now_s
    return msgspec.structs.replace(memory, gpu_error=troubles[0], gpu_error_s=now_s)


def _booked(run: Run, said: Heartbeat, durable: Mark) -> Mark:
    """Up to where the work of `run` is known; what lies beyond has been kept since."""
    if run.progress.booked is None:
        # What an unknown life made before it was heard of belongs to no time that was booked.
        ours = run.status == "running" and run.attempt.started_monotonic_s is not None
        return said.began if ours and said.began is not None else durable
    set_back = run.progress.booked.trained_s - durable.trained_s > SET_BACK_S
    return said.began if set_back and said.began is not None else run.progress.booked


def _has_begun(run: Run, said: Heartbeat) -> bool:
    """Whether these are words of the attempt that was asked to begin elsewhere."""
    process = run.attempt.process
    return not run.attempt.stale and process is not None and process.pid == said.pid


def _words(memory: Memory, heartbeats: Mapping[str, Heartbeat]) -> list[Heartbeat]:
    """What the trainers of this boot have said that are known to have lived in it.

    Not those elsewhere: they load another machine, whose clock they read.
    """
    return [
        said
        for run in memory.runs
        if run.local
        and run.attempt.process is not None
        and run.attempt.process.boot_id == memory.timeline.boot_id
        and (said := heartbeats.get(run.id)) is not None
        and said.pid == run.attempt.process.pid
    ]
