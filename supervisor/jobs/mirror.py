"""What became of a run in this home, as its row in the job store tells it; pure.

An attempt is what the API calls one: it ends with a failure that is the job's own. A crash of the
machine, a pause, another mode, or whoever goes before, begins a new process and no new attempt.
"""

from __future__ import annotations

import math
from typing import Any, TypeGuard

import msgspec

from state.jobs.records import Ending, Job, Json, Model, Seen
from state.records import Asked, Progress, Run
from supervisor.core.moments import stamp
from supervisor.core.queue import ENDED
from supervisor.jobs.tenants import TABLE_LABEL
from trainers.contract import Heartbeat, Score

STEPS = ("data_loading", "preprocessing", "training", "evaluation", "registration")
"""of a trainer of tables, which says by number in which one it is"""
STEP, PERCENT = "pipeline_step", "progress_percent"
"""how it says that in its metrics"""
NOT_MEASURED = frozenset({"step", "episodes", "mode", "at", STEP, PERCENT})
"""what a line of metrics says beside what was measured"""
MESSAGES = {
    "DataLoadError": "Failed to load training data",
    "ConfigValidationError": "Invalid training configuration",
    "ResourceError": "Insufficient resources for training",
}
"""what the API says beside the kinds of errors that trainers tell"""
REASON_MAX_CHARS = 2000
"""of what a run has failed of: a program may write whatever it likes in place of its trainer"""
TRAINED_BEFORE = "trained_before_s"
"""label of a run: how long it had trained before its present claim"""
LIVES = ("running", "stopping", "blocked")


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """What is known in a home of a run that was submitted for a job."""

    run: Run
    has_left: bool = False
    """it is in the queue no more"""
    beat: Heartbeat | None = None
    """what its trainer said last"""
    age_s: float = 0.0
    """how long ago all of this was so"""
    retry_in_s: float | None = None
    """when a run that waits may start again"""
    lines: tuple[Json, ...] = ()
    """the newest lines of its metrics"""
    threads: int = 1
    """processor threads that it has"""
    kept_bytes: int = 0
    """what its folder takes"""
    metrics: Json | None = None
    """what a run that is done has written of its model"""
    model: Model | None = None
    """that it has left, durable"""
    spoilt: str | None = None
    """why what it has left is not what it has written"""
    paused: str | None = None
    """who keeps it from going on, in words"""


def seen_of(job: Job, found: Found) -> Seen:
    """A job that has not ended, as it stands."""
    run, was = found.run, job.became
    failed = run.faults.own_failures
    lives = run.status in LIVES
    attempt, next_in_s, error, paused = was.attempt, None, None, found.paused
    if lives:
        attempt = max(was.attempt, failed + 1)
    elif run.status in ("waiting", "quarantined"):
        error = failure_of(job, found)
        if failed >= max(1, was.attempt):
            attempt, next_in_s = failed, found.retry_in_s
        else:  # what has ended it was not its own fault
            paused = paused or run.reason
    return Seen(
        status="RUNNING" if lives else "PENDING",
        attempt=attempt,
        age_s=max(0.0, found.age_s),
        next_attempt_in_s=next_in_s,
        progress=_percent(found),
        current_step=_step(found) if lives else None,
        metrics=_measured(job, found),
        history=_points(found),
        error=error,
        paused_reason=paused,
        used_s=used_s(found),
        kept_bytes=max(found.kept_bytes, was.kept_bytes),
    )


def last_of(job: Job, found: Found) -> Seen | None:
    """A job as it was when it ended by itself, which may have been between two looks at it.

    None: it has not, or not since anybody has looked.
    """
    run, was = found.run, job.became
    done = run.status == "done"
    if run.attempt.number == 0 or not (done or run.status == "failed"):
        return None
    attempt = max(1, run.faults.own_failures + done)
    if not done and attempt <= was.attempt and was.status != "RUNNING":
        return None
    return msgspec.structs.replace(
        seen_of(job, found),
        status="RUNNING",
        attempt=max(was.attempt, attempt),
        current_step=_step(found),
        paused_reason=None,
    )


def ending_of(job: Job, found: Found) -> Ending | None:
    """How a job has ended; None: it has not."""
    run = found.run
    if run.status not in ENDED:
        return None
    used, attempt = used_s(found), _last_attempt(job, run)
    trained_s = used / found.threads
    if run.status == "done" and found.spoilt is None:
        metrics = found.metrics if found.metrics is not None else _summary(found)
        return Ending(
            status="COMPLETED",
            attempt=attempt,
            trained_s=trained_s,
            metrics=metrics,
            model=found.model,
            used_s=used,
            kept_bytes=found.kept_bytes,
        )
    if run.status == "cancelled":
        return Ending(
            status="CANCELLED",
            attempt=attempt,
            trained_s=trained_s,
            used_s=used,
            kept_bytes=found.kept_bytes,
        )
    error = failure_of(job, found)
    if found.spoilt is not None:
        error = refusal("TrainingError", "What was trained is damaged", reason=found.spoilt)
    return Ending(
        status="FAILED",
        attempt=attempt,
        trained_s=trained_s,
        error=error,
        used_s=used,
        kept_bytes=found.kept_bytes,
    )


def _last_attempt(job: Job, run: Run) -> int:
    """The attempt in which a run has ended; it may have begun since the last look."""
    if run.attempt.number == 0:
        return job.became.attempt  # no process of it was ever started
    return max(1, job.became.attempt, run.faults.own_failures + (run.status == "done"))


def failure_of(job: Job, found: Found) -> Json:
    """Why a run has failed, or its last attempt, as the body of an error."""
    run, asked = found.run, found.run.asked
    if run.status == "failed" and run.failed_by == "max_s":
        message = "The job has trained for as long as it may"
        return refusal("DeadlineExceeded", message, max_seconds=asked.max_s)
    if run.status == "failed" and run.failed_by == "deadline" and asked.deadline_at is not None:
        message = "The deadline of the job has passed"
        return refusal("DeadlineExceeded", message, deadline=stamp(asked.deadline_at))
    last = found.beat if found.beat is not None and found.beat.status == "failed" else None
    kind = None if last is None else last.failure
    if kind is not None and kind.kind in MESSAGES:
        reason = in_words_of_the_tenant(kind.reason, asked)[:REASON_MAX_CHARS]
        message = MESSAGES[kind.kind]
        if kind.field is not None:
            field = kind.field[:REASON_MAX_CHARS]
            return refusal(kind.kind, message, field=field, error=reason)
        return refusal(kind.kind, message, reason=reason, tenant_id=job.asked.tenant_id)
    reason = (last.error if last is not None else None) or run.reason or "it has not said why"
    reason = in_words_of_the_tenant(reason, asked)[:REASON_MAX_CHARS]
    if run.status == "failed" and run.failed_by == "bad_spec":
        message = MESSAGES["ConfigValidationError"]
        return refusal("ConfigValidationError", message, reason=reason)
    if last is not None and last.out_of_memory:
        return refusal("ResourceError", "Insufficient memory for training", reason=reason)
    failed = {"attempts": run.faults.own_failures, "step": run.progress.step}
    return refusal("TrainingError", "Training failed", reason=reason, **failed)


def in_words_of_the_tenant(line: str, asked: Asked) -> str:
    """A line that names a table as its tenant does, and not where it lies on this machine."""
    place, named = asked.options.get("data"), asked.labels.get(TABLE_LABEL)
    return line.replace(place, named) if isinstance(place, str) and place and named else line


def refusal(name: str, message: str, /, **details: Any) -> Json:
    """The body of an error."""
    return {"error": name, "message": message, "details": details}


def used_s(found: Found) -> float:
    """Processor seconds that were used under the present claim: training, times its threads."""
    try:
        before_s = float(found.run.asked.labels.get(TRAINED_BEFORE, "0"))
    except ValueError:
        before_s = 0.0
    return max(0.0, _trained_s(found.beat) - before_s) * found.threads


def _trained_s(beat: Heartbeat | None) -> float:
    reached = None if beat is None else beat.reached
    return 0.0 if reached is None else reached.trained_s


def _percent(found: Found) -> float:
    """How far it is, from what it says of that, or from its target."""
    for line in reversed(found.lines):
        percent = line.get(PERCENT)
        if _is_number(percent):
            return percent
    target, beat = found.run.asked.target, found.beat
    if target is None:
        return 0.0
    progress = found.run.progress
    if beat is not None:  # the memory is saved where it has to be alone, and so may be older
        progress = Progress(step=beat.step, episodes=beat.episodes)
    return min(100.0, 100.0 * progress.of(target.unit) / target.count)


def _step(found: Found) -> str | None:
    for line in reversed(found.lines):
        number = line.get(STEP)
        if isinstance(number, int) and 1 <= number <= len(STEPS):
            return STEPS[number - 1]
    beat = found.beat
    return "training" if beat is not None and beat.step > 0 else None


def _points(found: Found) -> tuple[tuple[int, Json], ...]:
    """The newest line in which something was measured."""
    for line in reversed(found.lines):
        step = line.get("step")
        values = {
            name: value
            for name, value in line.items()
            if name not in NOT_MEASURED and _is_number(value)
        }
        if values and isinstance(step, int) and step >= 0:
            return ((step, values),)
    return ()


def _measured(job: Job, found: Found) -> Json | None:
    """How good a run is that has not ended; a model of tables is judged at its end alone."""
    return None if job.asked.model_type is not None else _scores(found.beat)


def _scores(beat: Heartbeat | None) -> Json | None:
    score: Score | None = None if beat is None else beat.score
    if beat is None or score is None or score.value is None:
        return None
    return {score.name: score.value} | ({} if beat.loss is None else {"loss": beat.loss})


def _summary(found: Found) -> Json:
    """What is known of a run that is done and has written nothing of its model itself."""
    progress = found.run.progress
    return {
        "step": progress.step,
        "episodes": progress.episodes,
        "training_duration_seconds": round(_trained_s(found.beat), 3),
        **(_scores(found.beat) or {}),
    }


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
