"""Which rows are meant."""

from __future__ import annotations

from typing import Any, get_args

import sqlalchemy as sa

from state.jobs import tables
from state.jobs.records import Which
from state.jobs.tables import now_s
from state.records import Rank

_JOBS = tables.jobs.c


# Every class of each tenant, those in which nobody waits, too.
_RANKS = sa.union_all(
    *(sa.select(sa.literal(rank, tables.Text).label("priority")) for rank in get_args(Rank))
).subquery("ranks")
CLASSES = tables.tenants.join(_RANKS, sa.true())
OF_CLASS = (tables.tenants.c.tenant_id, _RANKS.c.priority)


def claimable(jobs: Any = _JOBS) -> tuple[sa.ColumnElement[bool], ...]:
    """Jobs that wait for a home.

    Args:
        jobs: columns of the table, or of an alias of it.
    """
    return (
        jobs.status == "PENDING",
        jobs.token.is_(None),
        ~jobs.paused,
        ~jobs.cancel_wanted,
        sa.or_(jobs.next_attempt_at.is_(None), jobs.next_attempt_at <= now_s()),
        jobs.job_id.not_in(sa.select(tables.schedules.c.job_id)),
    )


def waiting(name: str, place: int) -> sa.ScalarSelect[Any]:
    """A column of the job at a place of the line of each of `CLASSES`, 0 the first; NULL: none.

    Those behind it are not read, however many there are.
    """
    jobs = tables.jobs.alias()
    return (
        sa.select(jobs.c[name])
        .where(
            *(jobs.c[column.name] == column for column in OF_CLASS),
            *claimable(jobs.c),
        )
        .order_by((-jobs.c.number).desc())
        .offset(place)
        .limit(1)
        .correlate(tables.tenants, _RANKS)
        .scalar_subquery()
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
