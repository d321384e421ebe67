"""Which rows are meant.

What is asked at each look is put together once: that takes SQLAlchemy longer than the answer.
"""

from __future__ import annotations

from typing import Any, get_args

import sqlalchemy as sa

from state.jobs import rows, tables
from state.jobs.records import LIVING, Candidate, Which
from state.jobs.tables import now_s
from state.records import Rank

NUMBER_MAX = 2**62

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


def waiting(name: str, place: int | sa.BindParameter[int]) -> sa.ScalarSelect[Any]:
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


def _candidates() -> sa.Select[Any]:
    last = sa.func.coalesce(
        waiting("number", sa.bindparam("place", type_=sa.Integer)), NUMBER_MAX
    ).label("last")
    # Materialized: it is to be looked up once for each class, and not for each job.
    line = sa.select(*OF_CLASS, last).select_from(CLASSES).cte("line")
    line = line.prefix_with("MATERIALIZED")
    told = sa.exists().where(tables.foretold.c.job_id == _JOBS.job_id).label("foretold")
    columns = (_JOBS[name] for name in rows.names(Candidate, "foretold"))
    return sa.select(*columns, told).join_from(
        line,
        tables.jobs,
        sa.and_(
            *(_JOBS[column.name] == line.c[column.name] for column in OF_CLASS),
            -_JOBS.number >= -line.c.last,
            *claimable(),
        ),
    )


def _schedules() -> sa.Select[Any]:
    columns = tables.firings.c
    newest = (
        sa.select(columns.schedule_id, sa.func.max(columns.instant).label("at"))
        .group_by(columns.schedule_id)
        .subquery()
    )
    return (
        rows.JOBS.add_columns(newest.c.at.label("fired_at"))
        .outerjoin(newest, newest.c.schedule_id == _JOBS.job_id)
        .where(
            tables.schedules.c.job_id.is_not(None),
            _JOBS.status == "PENDING",
            ~_JOBS.paused,
        )
        .order_by(_JOBS.number)
    )


NOW = sa.select(now_s(), tables.store.c.epoch)
"""the time, and which store it is since when"""
CANDIDATES = _candidates()
"""jobs that wait for a home, in no order: those up to a `place` in the line of each class"""
CLAIMED = rows.JOBS.where(_JOBS.home == sa.bindparam("home"), _JOBS.status.in_(LIVING)).order_by(
    _JOBS.number
)
"""jobs that a `home` has and that have not ended, first come first"""
SCHEDULES = _schedules()
"""those that are in force, each with the newest instant at which it has fired"""


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
