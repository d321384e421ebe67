"""Which rows are meant."""

from __future__ import annotations

import sqlalchemy as sa

from state.jobs import tables
from state.jobs.records import Which
from state.jobs.tables import now_s

_JOBS = tables.jobs.c


def claimable() -> tuple[sa.ColumnElement[bool], ...]:
    """Jobs that wait for a home."""
    scheduled = sa.exists().where(tables.schedules.c.job_id == _JOBS.job_id)
    due = sa.or_(_JOBS.next_attempt_at.is_(None), _JOBS.next_attempt_at <= now_s())
    return (
        _JOBS.status == "PENDING",
        _JOBS.token.is_(None),
        ~_JOBS.paused,
        ~_JOBS.cancel_wanted,
        due,
        ~scheduled,
    )


def matching(which: Which) -> list[sa.ColumnElement[bool]]:
    """Jobs of a list."""
    found: list[sa.ColumnElement[bool]] = []
    for name in ("tenant_id", "model_type", "parent_id"):
        value = getattr(which, name)
        if value is not None:
            found.append(_JOBS[name] == value)
    if which.status:
        found.append(_JOBS.status.in_(which.status))
    if which.priority:
        found.append(_JOBS.priority.in_(which.priority))
    if which.created_after is not None:
        found.append(_JOBS.created_at > which.created_after)
    if which.created_before is not None:
        found.append(_JOBS.created_at < which.created_before)
    return found
