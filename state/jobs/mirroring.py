"""What was seen of a job, as what changes in its row, and what is told of that: pure functions."""

from __future__ import annotations

import math
from typing import Any

from state.jobs import rows
from state.jobs.records import EventKind, Job, Json, Seen

UNFINISHED_MAX = 99.0
"""percent that a job has at most before it is COMPLETED"""
SAME_MOMENT_S = 2.0
"""a next attempt that is foretold again is the same within this"""
OF_THE_STATE = ("status", "attempt", "next_attempt_at", "paused_reason")
OF_THE_STEP = ("current_step", "progress")
QUIET = {"used_s", "kept_bytes"}
"""what grows all the time, and makes no new version of a job"""


def mirrored(job: Job, seen: Seen, now: float) -> Json:
    """What stands in the row from now on, but for when it was seen."""
    was = job.became
    progress = seen.progress if math.isfinite(seen.progress) else 0.0
    if seen.attempt == was.attempt:
        progress = max(progress, was.progress)
    due_at = None
    if seen.next_attempt_in_s is not None:
        due_at = now - seen.age_s + seen.next_attempt_in_s
        if was.next_attempt_at is not None and abs(due_at - was.next_attempt_at) < SAME_MOMENT_S:
            due_at = was.next_attempt_at
    started_at = was.started_at
    if started_at is None and seen.status == "RUNNING":
        started_at = now - seen.age_s
    values: Json = {
        "status": seen.status,
        "attempt": seen.attempt,
        "next_attempt_at": due_at,
        "progress": min(max(progress, 0.0), UNFINISHED_MAX),
        "current_step": seen.current_step,
        "error": rows.as_said(seen.error),
        "paused_reason": rows.line_said(seen.paused_reason),
        "used_s": max(was.used_s, seen.used_s) if math.isfinite(seen.used_s) else was.used_s,
        "kept_bytes": seen.kept_bytes,
        "started_at": started_at,
    }
    if seen.metrics is not None:
        values["metrics"] = rows.as_said(seen.metrics)
    return values


def stored(job: Job, name: str) -> Any:
    """What stands in a row of that column."""
    value = getattr(job.became, name)
    return rows.as_said(value) if name in ("metrics", "error") else value


def told_of(seen: Seen, values: Json, changed: set[str]) -> list[tuple[EventKind, Json]]:
    """What of these changes is worth an event."""
    told: list[tuple[EventKind, Json]] = []
    if changed & {*OF_THE_STATE, "error"}:
        state = {name: values[name] for name in OF_THE_STATE if values[name] is not None}
        told.append(("state", state if seen.error is None else {**state, "error": seen.error}))
    if changed & {*OF_THE_STEP}:
        told.append(("step", {name: values[name] for name in OF_THE_STEP}))
    if "metrics" in changed and seen.metrics is not None:
        told.append(("metric", seen.metrics))
    return told
