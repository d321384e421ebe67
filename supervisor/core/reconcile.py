"""Want is not is: the actions that make the machine agree with the goal.

Every action may be taken twice without harm, and none follows from having taken
another: after a power cut the next look and the saved goal give the actions that
are still missing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec

from state.records import Run, Timeline
from supervisor.core.cards import Hand
from supervisor.core.events import Event
from supervisor.core.machine import RUN_LIFE
from supervisor.core.readings import GpuReadings, Readings
from supervisor.core.recovery import (
    Note,
    Observation,
    RecoveryLimits,
    ask_to_stop,
    known_gap_s,
    silence_max_s,
    thawed,
)
from trainers.contract import Spec


class Start(msgspec.Struct, frozen=True, kw_only=True):
    """Bring the run's trainer to life, with the load of the goal's mode."""

    spec: Spec
    """what its trainer is asked to do"""
    nice: int
    attempt: int
    """which one of the run this is"""
    boot: int
    """which one of those that are known"""

    @property
    def run(self) -> str:
        """The id of the run."""
        return self.spec.run


class Stop(msgspec.Struct, frozen=True, kw_only=True):
    """Ask the run's trainer to save and leave."""

    run: str
    dump: bool = False
    """have it write the stacks of its threads into its output first"""


class Kill(msgspec.Struct, frozen=True, kw_only=True):
    """End every process of the run at once."""

    run: str


class Freeze(msgspec.Struct, frozen=True, kw_only=True):
    """Have every process of the run stand still where it is."""

    run: str


class Thaw(msgspec.Struct, frozen=True, kw_only=True):
    """Have them go on."""

    run: str


RunAction = Start | Stop | Kill | Freeze | Thaw

KILLED_LOOK_S = 0.1
"""how soon to look again whether a killed process is gone"""
STRAY_LOOK_S = 1.0
"""how soon to look again whether a process of no run in the queue is gone"""
GPU_LOOK_S = 0.5
"""how soon to look again whether the memory of a dead process is free"""
BLOCKED_LOOK_S = 10.0
"""how soon to look again whether a process that cannot be killed is gone"""


def reconcile(
    *,
    runs: tuple[Run, ...],
    assigned: Mapping[str, Hand],
    elsewhere: tuple[str, ...] = (),
    mode: str,
    observations: Mapping[str, Observation],
    start: Callable[[Run], Start],
    why_not: Callable[[Run], str],
    readings: Readings,
    now: Timeline,
    limits: RecoveryLimits,
) -> tuple[tuple[Run, ...], tuple[RunAction, ...], tuple[Note, ...]]:
    """The runs as they are asked to be from now on, and the actions that ask them.

    Args:
        runs: the queue, as judged by `recovery.judge` in this look.
        assigned: the runs that shall train here now, each with its GPUs; empty while paused.
        elsewhere: the runs that shall train elsewhere now. Of such a run a process lives here,
            which takes no slot: no mode ends it, and nothing here waits for it.
        mode: the goal's mode, whose load each of them shall carry.
        observations: what the look showed of each run; one that no look has covered is not started.
        start: what a start of a run is, as things are now.
        why_not: why a run that lives shall not, in words.
        readings: what is known of the GPUs, and whether news of them is under way, which causes
            another look.
        now: the present.
        limits: the patience with stopping and killing.
    """
    now_s = now.now_s
    after: list[Run] = []
    actions: list[RunAction] = []
    notes: list[Note] = []
    for believed in runs:
        observed = observations.get(believed.id, Observation())
        shall = believed.id in assigned or believed.id in elsewhere
        unwanted = None if shall else why_not
        moved = believed.id in assigned and assigned[believed.id] != _hand(believed)
        run, action, note = _end(believed, observed, unwanted, mode, now_s, limits, moved=moved)
        after.append(run)
        actions += [action] if action else []
        notes += [note] if note else []
    known = {run.id for run in runs}
    strays = sorted(
        run_id
        for run_id in observations.keys() - known
        if observations[run_id].process or observations[run_id].leftovers
    )
    for run_id in strays:
        reason = "it is in no queue, and something of it lives: killed"
        actions.append(Kill(run=run_id))
        notes.append(Note(event=Event.RUN_KILLED, run=run_id, rule="stray", reason=reason))
    for place, run in enumerate(after):
        seen = observations.get(run.id)
        if run.id in elsewhere and seen and not seen.leftovers and _startable(run, now_s):
            after[place] = _started(run, seen, None, Hand(), now_s)
            actions.append(start(after[place]))
    here = [run for run in after if run.local]
    if strays or any(
        _in_the_way(run, observations.get(run.id, Observation()), mode) for run in here
    ):
        return tuple(after), tuple(actions), tuple(notes)
    free = len(assigned) - sum(run.status in ("running", "stopping") for run in here)
    ready = [
        at
        for at, run in enumerate(after)
        if run.id in assigned
        and run.id in observations
        and _startable(run, now_s)
        and not _are_held(assigned[run.id], here, assigned)
    ]
    next_ones = ready[: max(0, free)]
    gpus_s = readings.gpu_awaited_s
    awaited = gpus_s is not None and gpus_s < limits.gpu_free_s
    dead = _dead_pids(here, observations, now) if next_ones else {}
    if dead and awaited:
        # What is known of the GPUs is from before this death: it may list the process still, or
        # not yet. A slow helper is not waited for longer than slow memory.
        return tuple(after), tuple(actions), tuple(notes)
    holders = _memory_holders(dead, readings.gpus)
    for place, run in enumerate(after):
        after[place], note = _await_memory(run, holders.get(run.id), now_s, limits)
        notes += [note] if note else []
    if all(run.attempt.memory_awaited_s is None for run in after):
        for place in next_ones:
            run = after[place]
            observed = observations.get(run.id, Observation())
            after[place] = _started(run, observed, mode, assigned[run.id], now_s)
            actions.append(start(after[place]))
    return tuple(after), tuple(actions), tuple(notes)


def stilled(
    runs: tuple[Run, ...],
    observations: Mapping[str, Observation],
    now_s: float,
    *,
    frozen: bool,
) -> tuple[tuple[Run, ...], tuple[Freeze | Thaw, ...]]:
    """The runs that shall stand still or go on, and what that takes; elsewhere nothing does.

    What stands still is asked again at each look: it may have started a process meanwhile. What is
    asked to leave goes on before.

    Args:
        runs: the queue, as `reconcile` has left it.
        observations: what the look showed of each run.
        now_s: the present, on the timeline.
        frozen: whether what trains here shall stand still.
    """
    after: list[Run] = []
    actions: list[Freeze | Thaw] = []
    for run in runs:
        observed = observations.get(run.id, Observation())
        if frozen and run.local and run.status == "running" and observed.process is not None:
            since_s = run.attempt.frozen_s
            after.append(run.but(frozen_s=now_s if since_s is None else since_s))
            actions.append(Freeze(run=run.id))
            continue
        after.append(thawed(run, now_s))
        if observed.frozen or run.attempt.frozen_s is not None:
            actions.append(Thaw(run=run.id))
    return tuple(after), tuple(actions)


def wake_in_s(
    runs: tuple[Run, ...],
    observations: Mapping[str, Observation],
    now: Timeline,
    limits: RecoveryLimits,
) -> float | None:
    """Seconds until some run needs another look without being heard of; None: never."""
    now_s = now.now_s
    due_s = [_due_s(run, observations.get(run.id, Observation()), now, limits) for run in runs]
    moments = [moment for moment in due_s if moment is not None]
    if observations.keys() - {run.id for run in runs}:
        moments.append(now_s + STRAY_LOOK_S)
    if any(run.attempt.memory_awaited_s is not None for run in runs):
        moments.append(now_s + GPU_LOOK_S)
    return max(0.0, min(moments) - now_s) if moments else None


def _due_s(run: Run, observed: Observation, now: Timeline, limits: RecoveryLimits) -> float | None:
    """When the run needs another look; None: not before it is heard of."""
    now_s = now.now_s
    if run.status == "blocked":
        return now_s + BLOCKED_LOOK_S
    if run.attempt.kill_asked_s is not None:
        return now_s + KILLED_LOOK_S
    if run.status == "stopping" and run.attempt.stop_asked_s is not None:
        return run.attempt.stop_asked_s + grace_s(observed, limits)
    if run.status in ("waiting", "quarantined") and run.retry_s is not None:
        return run.retry_s if run.retry_s > now_s else None  # else it waits for a slot
    if run.attempt.frozen_s is not None:
        return None
    if run.status == "running" and run.local:
        since_s = run.attempt.started_s if run.attempt.started_s is not None else now_s
        if observed.alive_s is not None:
            since_s = max(since_s, now_s - observed.alive_s)
        due_s = since_s + silence_max_s(observed.heartbeat, run, limits)
        if known_gap_s(observed.heartbeat, run) is None and run.asked.silent_max_s is None:
            # Once it steps, a much shorter silence is too long; nobody tells that it does.
            due_s = min(due_s, now_s + limits.silent_min_s)
        return due_s
    return None


def _end(
    run: Run,
    observed: Observation,
    unwanted: Callable[[Run], str] | None,
    mode: str,
    now_s: float,
    limits: RecoveryLimits,
    *,
    moved: bool,
) -> tuple[Run, RunAction | None, Note | None]:
    """What has to be asked of a run that lives, or has left something behind."""
    alive = observed.process is not None
    if (
        run.status == "running"
        and alive
        and (unwanted or moved or run.attempt.stale or not _fits(run, mode))
    ):
        if unwanted:
            why = unwanted(run)
        elif moved and _fits(run, mode) and not run.attempt.stale:
            why = "it shall train on other GPUs"
        elif run.rewind is not None and run.attempt.stale and _fits(run, mode):
            why = f"it shall go on from {run.rewind.place}"
        elif _fits(run, mode):
            why = "what is asked of it, or its mode, has changed"
        else:
            why = f"making room for {mode}"
        run = ask_to_stop(run, now_s, why)
    if run.status == "stopping" and alive:
        asked_s = run.attempt.stop_asked_s if run.attempt.stop_asked_s is not None else now_s
        patience_s = grace_s(observed, limits)
        if now_s - asked_s < patience_s:
            return run, Stop(run=run.id, dump=run.attempt.hung), None
        return _kill(run, now_s, limits, f"did not leave within {patience_s:.0f} s")
    if observed.leftovers or (alive and run.status != "running"):
        return _kill(run, now_s, limits, f"left {observed.leftovers} processes behind")
    if run.attempt.kill_asked_s is not None:
        run = run.but(kill_asked_s=None)
    return run, None, None


def _hand(run: Run) -> Hand:
    """The GPUs that its newest attempt was given."""
    return Hand(run.attempt.gpus, run.attempt.gpus_own)


def _are_held(asked: Hand, here: list[Run], assigned: Mapping[str, Hand]) -> bool:
    """Whether a trainer that is about to leave has some of these GPUs, and one of the two its own.

    Together they might want more memory than there is.
    """
    leaving = (
        _hand(run)
        for run in here
        if run.status in ("running", "stopping") and assigned.get(run.id) != _hand(run)
    )
    return any(
        (has.own or asked.own)
        and (has.cards is None or asked.cards is None or not set(asked.cards).isdisjoint(has.cards))
        for has in leaving
    )


def _fits(run: Run, mode: str) -> bool:
    """Whether its trainer may live on in that mode: elsewhere is under no mode of this machine."""
    return not run.local or run.attempt.mode == mode


def grace_s(observed: Observation, limits: RecoveryLimits) -> float:
    """Time to save and leave, in seconds: never less than saving has been seen to take.

    Twice that, since the stop may come while one checkpoint is being written, after
    which another is due.
    """
    written_s = observed.heartbeat.checkpoint_write_s if observed.heartbeat is not None else None
    return max(limits.grace_s, 2 * (written_s or 0.0))


def _kill(
    run: Run, now_s: float, limits: RecoveryLimits, why: str
) -> tuple[Run, RunAction | None, Note | None]:
    if run.attempt.kill_asked_s is None:
        note = Note(event=Event.RUN_KILLED, run=run.id, rule="grace", reason=f"{why}: killed")
        return run.but(kill_asked_s=now_s), Kill(run=run.id), note
    if now_s - run.attempt.kill_asked_s < limits.kill_s or run.status == "blocked":
        return run, Kill(run=run.id), None
    reason = (
        f"{why}, and cannot be killed: a driver or a disk does not let go; "
        "nothing starts beside it, a reboot may be needed"
    )
    run = run.but(status=RUN_LIFE.after(run.status, "jam"), reason=reason)
    note = Note(event=Event.RUN_BLOCKED, run=run.id, rule="unkillable", reason=reason)
    return run, Kill(run=run.id), note


def _in_the_way(run: Run, observed: Observation, mode: str) -> bool:
    """Something of this run lives that nothing may start beside.

    Two modes never train together, and what was left behind may hold the memory
    that the next trainer needs.
    """
    of_another_mode = observed.process is not None and run.attempt.mode != mode
    return run.status == "blocked" or observed.leftovers > 0 or of_another_mode


def _dead_pids(
    runs: list[Run], observations: Mapping[str, Observation], now: Timeline
) -> dict[str, int]:
    """Runs whose main process of this boot is dead: run id -> the pid that it had."""
    living = {
        observed.process.pid for observed in observations.values() if observed.process is not None
    }
    return {
        run.id: run.attempt.process.pid
        for run in runs
        if run.attempt.process is not None
        and run.attempt.process.boot_id == now.boot_id
        and run.attempt.process.pid not in living
    }


def _memory_holders(dead: Mapping[str, int], gpus: tuple[GpuReadings, ...]) -> dict[str, int]:
    """Runs whose dead process yet holds memory of a GPU: run id -> that GPU."""
    holders = {pid: gpu.index for gpu in gpus for pid in gpu.pids or ()}
    return {run: holders[pid] for run, pid in dead.items() if pid in holders}


def _await_memory(
    run: Run, gpu: int | None, now_s: float, limits: RecoveryLimits
) -> tuple[Run, Note | None]:
    """The run while its dead process holds memory of `gpu`, for which starts wait a while.

    A driver may take seconds to free what a killed process held, and the next trainer
    would fail for want of it. It may also never do so: then starting is worth a try.
    """
    if gpu is None or run.attempt.process is None:
        return run.but(memory_awaited_s=None), None
    what = f"the memory of process {run.attempt.process.pid}, which is dead"
    if run.attempt.memory_awaited_s is None:
        reason = f"GPU {gpu} holds {what}: nothing starts for at most {limits.gpu_free_s:.0f} s"
        note = Note(event=Event.GPU_AWAITED, run=run.id, rule="gpu_memory", reason=reason)
        return run.but(memory_awaited_s=now_s), note
    if now_s - run.attempt.memory_awaited_s < limits.gpu_free_s:
        return run, None
    reason = f"GPU {gpu} still holds {what}, after {limits.gpu_free_s:.0f} s: starting all the same"
    note = Note(event=Event.GPU_LEAKED, run=run.id, rule="gpu_memory", reason=reason)
    return run.but(process=None, memory_awaited_s=None), note


def _startable(run: Run, now_s: float) -> bool:
    if run.status == "waiting":
        return run.retry_s is None or now_s >= run.retry_s
    return run.status == "queued"


def _started(run: Run, observed: Observation, mode: str | None, hand: Hand, now_s: float) -> Run:
    """The run as it is believed to be from the moment that its start is asked for."""
    from_step = run.progress.step
    if run.rewind is not None:
        # A death there is one on another way.
        from_step, run = run.rewind.step, run.but(died_step=None, died_there=0)
    elif observed.heartbeat is not None:  # it resumes from what was saved, not from where it died
        from_step = observed.heartbeat.checkpoint_step or 0
    return run.but(
        status=RUN_LIFE.after(run.status, "start"),
        number=run.attempt.number + 1,
        mode=mode,
        gpus=hand.cards,
        gpus_own=hand.own,
        process=None,
        hung=False,
        stale=False,
        step=from_step,
        started_s=now_s,
        started_step=from_step,
        frozen_s=None,
        retry_s=None,
        reason=None,
        notices_seen=0,
    )
