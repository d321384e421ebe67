"""What became of each trainer, and what follows from it.

`judge` compares what the memory believes of a run with one look at the machine.
It decides nothing about modes and starts nothing: it moves the run through its
life (`supervisor.core.machine.LIFE`) and says what is worth a line in the log.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Annotated, Any, Literal

import msgspec

from state.records import Process, Retry, Run, Timeline
from supervisor.core.events import Event
from supervisor.core.facts import Evidence
from supervisor.core.goodput import lived
from supervisor.core.machine import RUN_LIFE
from supervisor.core.moments import span, stamp
from supervisor.core.queue import label
from trainers.contract import (
    EXIT_AGAIN,
    EXIT_BAD_SPEC,
    EXIT_DONE,
    FROM_OUTSIDE,
    Heartbeat,
    Stood,
)

Seconds = Annotated[float, msgspec.Meta(gt=0, le=31_536_000)]
"""a duration of at most a year"""


WITHHELD_MAX = 8
"""checkpoints of a run that are kept from it at once, the newest"""

RETRY_MAX_S = 86_400.0
"""the longest wait before a retry, whatever its factor makes of it"""

DEATHS_HALF_LIFE_H = 6.0
"""half of the deaths of a run is forgotten after this"""

OLD_KEYS = {"held_after": "quarantine_after", "held_s": "quarantine_s"}
"""old form of a limit -> its key"""


class RecoveryLimits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How patient the supervisor is with a trainer."""

    grace_s: Seconds = 120.0
    """time to save and leave after SIGTERM, before SIGKILL"""
    kill_s: Seconds = 15.0
    """time for a killed process to vanish, before the run counts as blocked"""
    gpu_free_s: Seconds = 15.0
    """longest wait for a GPU to free the memory of a trainer that is gone"""
    backoff_first_s: Seconds = 1.0
    """wait before the restart after a second death in a row; doubles with each further one.
    The first restart is at once, unless that attempt never moved its step: it waits as long, too"""
    backoff_max_s: Seconds = 300.0
    """the longest such wait"""
    proven_s: Seconds = 600.0
    """an attempt that moved its step for this long starts the backoff afresh"""
    start_s: Seconds = 600.0
    """longest time from a start to the first move of the step"""
    silent_min_s: Seconds = 300.0
    """a trainer whose step stands still for less is never taken for hung"""
    silent_factor: Annotated[float, msgspec.Meta(ge=2, le=1000)] = 10.0
    """hung is a stand-still longer than this many times the run's own longest gap"""
    quarantine_after: Annotated[int, msgspec.Meta(ge=2, le=1000)] = 5
    """deaths at the same step after which others get the slot for a while"""
    quarantine_s: Seconds = 3600.0
    """how long"""
    held_after: Annotated[int, msgspec.Meta(ge=2, le=1000)] | None = None
    """old form of `quarantine_after`"""
    held_s: Seconds | None = None
    """old form of `quarantine_s`"""
    withheld_after: Annotated[int, msgspec.Meta(ge=2, le=1000)] = 3
    """deaths before the first step from the same checkpoint after which the one before is tried"""

    def __post_init__(self) -> None:
        usual = {field.name: field.default for field in msgspec.structs.fields(RecoveryLimits)}
        for old, key in OLD_KEYS.items():
            value = getattr(self, old)
            if value is None:
                continue
            if getattr(self, key) not in (value, usual[key]):
                raise ValueError(
                    f"recovery.{key} stands there in its old form, {old}, too: keep {key}"
                )
            msgspec.structs.force_setattr(self, key, value)

    def dated(self) -> tuple[str, ...]:
        """What is written in an old form: one notice for each key."""
        return tuple(
            f"{old} in [recovery] is the old form of {key}: write {key} = {value:g}"
            for old, key in OLD_KEYS.items()
            if (value := getattr(self, old)) is not None
        )


class Exit(msgspec.Struct, frozen=True, kw_only=True):
    """How a trainer's main process ended. All None: nobody was there to see it."""

    code: int | None = None
    signal: int | None = None
    oom_kill: bool = False
    """the kernel's out-of-memory killer struck in its own control group while it lived"""
    oom_near: bool = False
    """it struck somewhere on the machine, which proves nothing"""
    start_error: str | None = None
    """it never came to life: why not"""


class Observation(msgspec.Struct, frozen=True, kw_only=True):
    """What one look at the machine shows of one run."""

    process: Process | None = None
    """its living main process"""
    exit: Exit | None = None
    """how that process ended, told once"""
    frozen: bool = False
    """whether we have had its processes stand still"""
    leftovers: int = 0
    """living processes of the run beside a main process that is gone"""
    elsewhere: bool = False
    """the recorded process lives, and works for another home, of which this one is a copy"""
    heartbeat: Heartbeat | None = None
    """what its trainer last said, whether it lives or not"""
    alive_s: float | None = None
    """how long ago it gave a sign of life: a step, or its word that it works on; None: it has
    given none, or it trains elsewhere, where the clock is another one"""
    last_line: str | None = None
    """with `exit`: the last line that this attempt printed, where that is known"""
    newer: str | None = None
    """why that is nothing: a newer version has started it, whose words this one does not know"""


class Note(msgspec.Struct, frozen=True, kw_only=True):
    """Something that happened to a run, for the decision log."""

    event: Event
    run: str
    rule: str
    reason: str
    evidence: Evidence = {}


def judge(
    run: Run, observed: Observation, now: Timeline, limits: RecoveryLimits
) -> tuple[Run, tuple[Note, ...]]:
    """What `run` is after this look, and what to say about it."""
    run, ending = _to_end(run, observed, now)
    run, notes = _after(run, observed, now, limits)
    if run.rewind is not None and run.attempt.stale and run.status in ("done", "failed"):
        # It came to its end on the way that it is not to go on.
        event = "extend" if run.status == "done" else "mend"
        run = _move(run, event, reason=None, failed_by=None)
    if run.ending is not None and run.status in ("queued", "waiting", "quarantined"):
        run, end = _end(run)
        notes = (*notes, end)
    return run, (*ending, *notes)


def _to_end(run: Run, observed: Observation, now: Timeline) -> tuple[Run, tuple[Note, ...]]:
    """The run, which is to end where the time that it was given is used up."""
    asked, said = run.asked, observed.heartbeat
    rule: Literal["deadline", "max_s"]
    if run.ending is not None or run.status in ("done", "failed", "cancelled"):
        return run, ()
    trained_s = said.reached.trained_s if said is not None and said.reached is not None else 0.0
    if asked.deadline_at is not None and asked.deadline_at <= now.seen_at:
        rule, reason = "deadline", f"its deadline, {stamp(asked.deadline_at)}, has passed"
    elif asked.max_s is not None and asked.max_s <= trained_s:
        rule, reason = "max_s", f"it has trained for {span(trained_s)}, and may for no longer"
    else:
        return run, ()
    note = _note(run, Event.RUN_NOTICED, rule, f"{reason}: it is given up")
    return run.but(ending="give_up", failed_by=rule, reason=reason), (note,)


def _end(run: Run) -> tuple[Run, Note]:
    """The run, of which nothing lives and which is to end, at its end."""
    event = run.ending or "give_up"
    name = Event.RUN_CANCELLED if event == "cancel" else Event.RUN_FAILED
    reason = run.reason or "it was asked to end"
    if event == "give_up":
        reason = f"given up: {reason}"
    note = _note(run, name, event, reason, {"step": run.progress.step})
    return _move(run, event, reason=reason, retry_s=None, ending=None), note


def _after(
    run: Run, observed: Observation, now: Timeline, limits: RecoveryLimits
) -> tuple[Run, tuple[Note, ...]]:
    if run.status in ("running", "stopping"):
        if observed.process is not None:
            return _living(run, observed, now, limits)
        if observed.elsewhere and observed.exit is None:
            reason = "this home is a copy: that trainer is another home's, and trains on there"
            lost = _note(run, Event.RUN_LOST, "copy", reason, lived(run, observed.heartbeat, now))
            return _move(run, "lose", reason=None, process=None), (lost,)
        if observed.exit is None and (
            run.attempt.process is None or run.attempt.process.boot_id != now.boot_id
        ):
            # The machine went down with it, or the power failed before the start.
            reason, evidence = "the machine went down with it", lived(run, observed.heartbeat, now)
            lost = _note(run, Event.RUN_LOST, "boot", reason, evidence)
            return _move(run, "lose", reason=None), (
                lost,
            ) if run.attempt.process is not None else ()
        run, notes = _heard(run, observed)
        evidence = lived(run, observed.heartbeat, now)
        run, notes = _ended(run, observed, notes, now_s=now.now_s, limits=limits)
        *said, end = notes
        end = msgspec.structs.replace(end, evidence={**end.evidence, **evidence})
        return run, (*said, end)
    if run.status in ("queued", "waiting") and observed.process is not None:
        # The memory is older than the machine: a trainer lives that it does not know of.
        mode = observed.heartbeat.mode if observed.heartbeat is not None else run.attempt.mode
        note = _note(
            run, Event.RUN_ADOPTED, "alive", "its trainer lives already; taken over as it is"
        )
        run = _move(run, "start", reason=None, mode=mode, process=observed.process, retry_s=None)
        beat = observed.heartbeat
        return run.but(
            number=run.attempt.number + 1,
            gpus=run.attempt.gpus if beat is None else beat.gpus,
            gpus_own=run.attempt.gpus_own if beat is None else beat.gpus_own,
            hung=False,
            started_s=now.now_s,
            started_monotonic_s=None,
            started_step=run.progress.step,
        ), (note,)
    if run.status == "blocked" and observed.process is None and observed.leftovers == 0:
        evidence = (
            lived(run, observed.heartbeat, now) if run.attempt.stop_asked_s is not None else {}
        )
        note = _note(run, Event.RUN_CLEARED, "gone", "its processes have ended at last", evidence)
        return _move(run, "clear", reason=None), (note,)
    if (
        run.status == "waiting"
        and run.attempt.process is not None
        and run.attempt.process.boot_id != now.boot_id
    ):
        # A fresh boot is as good as a backoff: whatever held the last attempt down is gone.
        return _move(run, "lose", reason=None, retry_s=None, process=None), ()
    if run.status == "quarantined" and run.retry_s is not None and now.now_s >= run.retry_s:
        note = _note(
            run,
            Event.RUN_RETRIED,
            "quarantine",
            "has been in quarantine for long enough; tried once more",
        )
        return _move(run, "retry", reason=None, retry_s=None, died_there=0), (note,)
    return run, ()


def blames_the_load(note: Note) -> bool:
    """Whether `note` tells of a death that the load of the mode may have caused."""
    if note.event not in (Event.RUN_DIED, Event.RUN_QUARANTINED):
        return False
    if note.rule == "killed":
        return note.evidence.get("signal") not in FROM_OUTSIDE
    return note.rule in ("crash", "hung", "out_of_memory")


def backoff_s(failures: int, limits: RecoveryLimits, *, moved: bool) -> float:
    """Wait before the start that follows the `failures`-th death in a row, in seconds.

    An attempt that moved its step has shown that starting works: it waits one doubling less, and
    after a first death not at all.
    """
    doublings = failures - 1 - moved
    if doublings < 0:
        return 0.0
    return float(min(limits.backoff_max_s, limits.backoff_first_s * 2 ** min(doublings, 60)))


def silence_max_s(heartbeat: Heartbeat | None, run: Run, limits: RecoveryLimits) -> float:
    """How long this run may be silent, as it is set for it alone, or learnt from the run itself."""
    return _patience(heartbeat, run, limits)[0]


def _patience(heartbeat: Heartbeat | None, run: Run, limits: RecoveryLimits) -> tuple[float, str]:
    """How long this run may be silent, and the setting that says so."""
    if run.asked.silent_max_s is not None:
        return run.asked.silent_max_s, f"silent_max_s in [run.{label(run)}]"
    gap_s = known_gap_s(heartbeat, run)
    rivals = [(limits.silent_min_s, "silent_min_s in [recovery]")]
    if gap_s is None:
        rivals.append((limits.start_s, "start_s in [recovery]"))
    else:
        factor = f"silent_factor in [recovery], times its longest gap of {gap_s:.1f} s"
        rivals.append((limits.silent_factor * gap_s, factor))
    return max(rivals)


def alive_s(
    heartbeat: Heartbeat | None, monotonic_s: float, stood: Stood | None = None
) -> float | None:
    """How long ago a trainer of this machine gave a sign of life, as in `Life`.

    Args:
        heartbeat: its last one.
        monotonic_s: the present.
        stood: when its processes stood still, which is no silence.
    """
    if heartbeat is None:
        return None
    said_s = max(heartbeat.progress_at_s, heartbeat.alive_at_s or 0.0)
    return (stood or Stood()).lasted_s(said_s, monotonic_s)


def known_gap_s(heartbeat: Heartbeat | None, run: Run) -> float | None:
    """The longest time between two moves of the step of this attempt; None before the second."""
    if heartbeat is None or heartbeat.step <= _began_at(heartbeat, run):
        return None
    return heartbeat.longest_gap_s or None  # until then it is only known how long the start took


def _living(
    run: Run, observed: Observation, now: Timeline, limits: RecoveryLimits
) -> tuple[Run, tuple[Note, ...]]:
    now_s = now.now_s
    run, notes = _heard(run.but(process=observed.process), observed)
    heartbeat, lived_s = observed.heartbeat, _lived_s(run, now_s)
    if run.faults.failures and _proven(run, heartbeat, lived_s, limits):
        run = run.but(failures=0, own_failures=0, died_there=0, dies_everywhere=False)
    if run.status != "running":
        return run, notes
    if observed.newer is not None:
        deaf = _note(run, Event.RUN_NOTICED, "version", f"{observed.newer}; the trainer is stopped")
        return ask_to_stop(run, now_s, observed.newer), (*notes, deaf)
    if not run.local or run.attempt.frozen_s is not None:
        return run, notes  # there its own people judge what is silent; here nothing can speak
    silent_s = lived_s if observed.alive_s is None else min(lived_s, observed.alive_s)
    most_s, setting = _patience(heartbeat, run, limits)
    if silent_s <= most_s:
        return run, notes
    reason = (
        f"no progress for {silent_s:.0f} s, at most {most_s:.0f} s are normal for it ({setting})"
    )
    hung = _note(
        run,
        Event.RUN_HUNG,
        "silence",
        f"{reason}: its stacks are dumped, then it is stopped",
        {
            "step": run.progress.step,
            "silent_s": round(silent_s, 1),
            "silence_max_s": round(most_s, 1),
            "setting": setting,
        },
    )
    return ask_to_stop(run, now_s, reason, hung=True), (*notes, hung)


def thawed(run: Run, now_s: float) -> Run:
    """The run once its processes go on: the time in which they stood still is no time for it.

    What it is asked only now has waited for nothing: its patience has just begun.
    """
    since_s = run.attempt.frozen_s
    if since_s is None:
        return run
    return _moments(run, lambda moment_s: now_s - max(moment_s, since_s)).but(frozen_s=None)


def later(run: Run, lost_s: float) -> Run:
    """The run after a while that it could not use: its patience counts from so much later."""
    return _moments(run, lambda _: lost_s)


def _moments(run: Run, lost_s: Callable[[float], float]) -> Run:
    """The run whose patience counts from as much later as was lost since each of its moments."""
    moments = {
        key: value + lost_s(value)
        for key in ("started_s", "stop_asked_s", "kill_asked_s")
        if (value := getattr(run.attempt, key)) is not None
    }
    return run.but(**moments)


def ask_to_stop(run: Run, now_s: float, reason: str, *, hung: bool = False) -> Run:
    """The running `run`, asked to save and leave."""
    reason = run.reason if run.ending is not None and run.reason else reason
    return _move(run, "stop", reason=reason, hung=hung, stop_asked_s=now_s, kill_asked_s=None)


def _ended(
    run: Run,
    observed: Observation,
    notes: tuple[Note, ...],
    *,
    now_s: float,
    limits: RecoveryLimits,
) -> tuple[Run, tuple[Note, ...]]:
    exit_, heartbeat = observed.exit or Exit(), observed.heartbeat
    said = heartbeat.status if heartbeat is not None else None
    in_peace = exit_.code == EXIT_DONE or exit_ == Exit()
    at_target = run.asked.target is not None and not _short_of_target(run)
    if in_peace and (said == "done" or (exit_.code == EXIT_DONE and at_target)):
        rule, reason = "target", f"reached its target at step {run.progress.step}"
        if _short_of_target(run):
            rule, reason = (
                "program",
                f"its program is done at step {run.progress.step}, before its target",
            )
        done = _note(run, Event.RUN_DONE, rule, reason, {"step": run.progress.step})
        return _move(run, "finish", reason=None if rule == "target" else reason), (*notes, done)
    error = heartbeat.error if heartbeat is not None and said == "failed" else None
    if exit_.code == EXIT_BAD_SPEC:
        error = error or observed.last_line or "it cannot work as it is set"
        reason = f"{error}; mend it, then `supervisor retry`"
        failed = _note(run, Event.RUN_FAILED, "bad_spec", reason, {"exit": EXIT_BAD_SPEC})
        return _move(run, "refuse", reason=reason, failed_by="bad_spec"), (*notes, failed)
    if run.ending is not None:
        run, end = _end(run)
        return run, (*notes, end)
    if run.status == "stopping" and not run.attempt.hung:
        stopped = _note(run, Event.RUN_STOPPED, "asked", f"stopped: {run.reason}")
        return _move(run, "leave", reason=None), (*notes, stopped)
    cause = _cause(run, observed)
    run, note = _death(run, cause, exit_, heartbeat, now_s=now_s, limits=limits)
    return run, (*notes, note)


def _short_of_target(run: Run) -> bool:
    """Whether the run is not as far as was asked for."""
    target = run.asked.target
    return target is not None and run.progress.of(target.unit) < target.count


def _cause(run: Run, observed: Observation) -> tuple[str, str]:
    """The kind of a death and the sentence about it."""
    exit_, heartbeat = observed.exit or Exit(), observed.heartbeat
    failed = heartbeat is not None and heartbeat.status == "failed"
    error = heartbeat.error if heartbeat is not None and failed else None
    if exit_.start_error is not None:
        return "start", f"could not be started: {exit_.start_error}"
    if run.attempt.hung:
        return "hung", f"hung: {run.reason}"
    killed = exit_.signal == 9 or (heartbeat is not None and failed and heartbeat.of_the_machine)
    if (heartbeat is not None and failed and heartbeat.out_of_memory) or (
        killed and exit_.oom_kill
    ):
        return "out_of_memory", error or "killed by the kernel: the machine was out of memory"
    if exit_.signal == 9 and exit_.oom_near:
        perhaps = "perhaps for want of memory, which the kernel has killed for on this machine"
        return "killed", f"killed by signal 9 from outside, {perhaps}"
    if exit_.signal is not None:
        return "killed", f"killed by signal {exit_.signal}, not by the supervisor"
    if error is not None:
        return "crash", error
    kind, sentence = _left(run, exit_, heartbeat)
    if kind in ("again", "crash") and observed.last_line:
        sentence += f"; it printed last: {observed.last_line}"
    return kind, sentence


def _left(run: Run, exit_: Exit, heartbeat: Heartbeat | None) -> tuple[str, str]:
    """The kind of an end without a signal and without an error told, and the sentence about it."""
    if heartbeat is not None and heartbeat.returned_at is not None:
        return "returned", f"returned before its target, at step {heartbeat.returned_at}"
    if heartbeat is not None and heartbeat.status == "stopped":
        return "stopped", "asked to stop by somebody other than the supervisor"
    if exit_.code is None:
        return "vanished", "gone while nobody watched"
    if exit_.code == EXIT_AGAIN:
        return "again", "left, asking to be started again"
    if exit_.code == EXIT_DONE:
        return (
            "returned",
            f"left at step {run.progress.step} with exit code 0, not having said it is done",
        )
    return "crash", f"ended with exit code {exit_.code}"


def deaths_per_h(run: Run, now_s: float) -> float:
    """How often the trainers of `run` die of late: a rate that forgets half in six hours.

    A death counts for ln 2 / half-life at once, so deaths that come evenly make their rate.
    """
    gone_h = max(0.0, now_s - run.faults.deaths_s) / 3600
    return run.faults.deaths_per_h * math.pow(0.5, gone_h / DEATHS_HALF_LIFE_H)


def _death(
    run: Run,
    cause: tuple[str, str],
    exit_: Exit,
    heartbeat: Heartbeat | None,
    *,
    now_s: float,
    limits: RecoveryLimits,
) -> tuple[Run, Note]:
    kind, sentence = cause
    moved = _moved(run, heartbeat)
    further = run.faults.died_step is None or run.progress.step > run.faults.died_step
    # Somebody's kill or a full disk says nothing about the trainer, however often it comes.
    killed = kind == "killed" and exit_.signal in FROM_OUTSIDE
    blameless = kind == "crash" and heartbeat is not None and heartbeat.of_the_machine
    own_fault = not (killed or blameless) and kind not in ("stopped", "start")
    # What ended while nobody watched has failed at nothing that anybody knows of.
    failed = own_fault and kind != "vanished"
    lasting = _proven(run, heartbeat, _lived_s(run, now_s), limits)
    failures = 1 if lasting else run.faults.failures + 1
    own_failures = failed + (0 if lasting else run.faults.own_failures)
    died_there = own_fault + (0 if further else run.faults.died_there)
    evidence: Evidence = {
        "step": run.progress.step,
        "exit": exit_.code,
        "signal": exit_.signal,
        "failures": failures,
    }
    run = run.but(
        failures=failures,
        own_failures=own_failures,
        restarts=run.faults.restarts + 1,
        deaths_per_h=deaths_per_h(run, now_s) + math.log(2) / DEATHS_HALF_LIFE_H,
        deaths_s=now_s,
        died_step=max(run.progress.step, run.faults.died_step or 0),
        died_there=died_there,
        dies_everywhere=run.faults.dies_everywhere and not lasting,
        stop_asked_s=None,
        kill_asked_s=None,
    )
    unwilling = False
    if not killed and kind in ("crash", "killed", "hung") and not moved:
        run, unwilling, withheld = _failed_load(run, heartbeat, limits)
        sentence += withheld
    if run.asked.retry is not None and failed:
        return _retried(run, cause, sentence, evidence, run.asked.retry, now_s)
    if unwilling or run.faults.died_there >= limits.quarantine_after:
        wait_s = limits.quarantine_s
        often = (
            "" if unwilling else f"; died {run.faults.died_there} times at step {run.progress.step}"
        )
        reason = f"{sentence}{often}: others get its slot, tried again in {wait_s:.0f} s"
        run = _move(run, "quarantine", reason=reason, retry_s=now_s + wait_s)
        return run, _note(run, Event.RUN_QUARANTINED, kind, reason, evidence)
    wait_s = backoff_s(failures, limits, moved=moved)
    reason = f"{sentence}; starts again {f'in {wait_s:.0f} s' if wait_s else 'at once'}"
    run = _move(run, "die", reason=reason, retry_s=now_s + wait_s)
    return run, _note(run, Event.RUN_DIED, kind, reason, evidence)


def _retried(
    run: Run, cause: tuple[str, str], sentence: str, evidence: Evidence, retry: Retry, now_s: float
) -> tuple[Run, Note]:
    """The run after a death by its own fault that counts against its retries."""
    failed = run.faults.own_failures
    if failed > retry.retries:
        often = "once" if failed == 1 else f"{failed} times in a row"
        reason = f"{sentence}; it has failed {often}"
        run, end = _end(run.but(ending="give_up", failed_by="retries", reason=reason))
        return run, msgspec.structs.replace(end, evidence={**evidence, **end.evidence})
    wait_s = min(retry.first_s * retry.factor ** min(failed - 1, 60), RETRY_MAX_S)
    reason = f"{sentence}; retry {failed} of {retry.retries} in {span(wait_s)}"
    run = _move(run, "die", reason=reason, retry_s=now_s + wait_s)
    return run, _note(run, Event.RUN_DIED, cause[0], reason, evidence)


def _failed_load(
    run: Run, heartbeat: Heartbeat | None, limits: RecoveryLimits
) -> tuple[Run, bool, str]:
    """The run after one more death, by its own fault, before its first step.

    Where it dies of one checkpoint again and again, the one before is tried. Where it dies of
    that, too, the reason is no checkpoint: it comes back to the newest, and others get its slot.

    Returns:
        The run, whether it is to be quarantined, and what that comes of.
    """
    if heartbeat is None or not _is_of(heartbeat, run) or heartbeat.began is None:
        return run, False, ""  # it did not come to its checkpoint
    at_step = heartbeat.checkpoint_step
    if heartbeat.of_the_machine or at_step is None:
        return run, False, ""
    failed_loads = run.faults.failed_loads + 1
    if failed_loads < limits.withheld_after:
        return run.but(failed_loads=failed_loads), False, ""
    how = f"; {failed_loads} attempts have died before their first step from checkpoint {at_step}"
    if run.faults.withheld and at_step <= run.faults.withheld[-1]:
        run = run.but(failed_loads=0, died_there=0, withheld=run.faults.withheld[:-1])
        return run, True, f"{how}, as from the one after it, to which it comes back"
    withheld = (*run.faults.withheld, at_step)[-WITHHELD_MAX:]
    run = run.but(failed_loads=0, died_there=0, withheld=withheld)
    return run, False, f"{how}: the one before is tried"


def _proven(run: Run, heartbeat: Heartbeat | None, lived_s: float, limits: RecoveryLimits) -> bool:
    """Whether this attempt has lasted, and left something: deaths before it tell nothing then.

    A trainer that makes steps and saves none would be tried for ever otherwise.
    """
    if heartbeat is None or lived_s < limits.proven_s or not _moved(run, heartbeat):
        return False
    return heartbeat.saved is not None and heartbeat.saved.step > _began_at(heartbeat, run)


def _moved(run: Run, heartbeat: Heartbeat | None) -> bool:
    """Whether this attempt has moved the step; the words of an earlier one say nothing of it."""
    if heartbeat is None or not _is_of(heartbeat, run):
        return False
    return heartbeat.step > _began_at(heartbeat, run)


def _began_at(heartbeat: Heartbeat, run: Run) -> int:
    """The step that this attempt has gone on from: before what was expected, perhaps."""
    return heartbeat.began.step if heartbeat.began is not None else run.attempt.started_step


def _is_of(heartbeat: Heartbeat, run: Run) -> bool:
    """Whether these are words of this attempt."""
    return run.attempt.process is not None and heartbeat.pid == run.attempt.process.pid


def _lived_s(run: Run, now_s: float) -> float:
    return now_s - (now_s if run.attempt.started_s is None else run.attempt.started_s)


def _heard(run: Run, observed: Observation) -> tuple[Run, tuple[Note, ...]]:
    """The run with what its trainer said since the last look."""
    heartbeat = observed.heartbeat
    if heartbeat is None:
        return run, ()
    before = heartbeat.notices_before
    fresh = heartbeat.notices[max(0, run.attempt.notices_seen - before) :]
    notes = tuple(_note(run, Event.RUN_NOTICED, "notice", text) for text in fresh)
    run = run.but(
        mode=heartbeat.mode,  # a memory older than the machine may believe another
        step=heartbeat.step,
        episodes=heartbeat.episodes,
        failed_loads=0 if _moved(run, heartbeat) else run.faults.failed_loads,
        notices_seen=max(run.attempt.notices_seen, before + len(heartbeat.notices)),
    )
    return run, notes


def _move(run: Run, event: str, **fields: Any) -> Run:
    """`run` after `event`, with `fields` replaced."""
    status = RUN_LIFE.after(run.status, event)
    if status not in ("running", "stopping", "blocked"):
        fields.setdefault("stop_asked_s", None)
        fields.setdefault("kill_asked_s", None)
    return run.but(status=status, **fields)


def _note(run: Run, event: Event, rule: str, reason: str, evidence: Evidence | None = None) -> Note:
    return Note(event=event, run=run.id, rule=rule, reason=reason, evidence=evidence or {})
