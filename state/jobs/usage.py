"""What tenants have and had, counted."""

from __future__ import annotations

import functools
from collections import Counter, defaultdict
from typing import Any, NamedTuple

import sqlalchemy as sa

from state.jobs import tables
from state.jobs.choosing import CLASSES, waiting
from state.jobs.records import LIVING, Status, TenantUsage
from state.jobs.tables import now_s

KEPT_S = 14 * 24 * 3600
"""how far back usage is told: by then next to nothing of it counts"""

_JOBS = tables.jobs.c


class _Statements(NamedTuple):
    """What is asked."""

    jobs: sa.Select[Any]
    schedules: sa.Select[Any]
    first: sa.Select[Any]
    used: sa.Select[Any]
    tenants: sa.Select[Any]


@functools.cache
def _statements(*, of_one: bool) -> _Statements:
    """Indexes answer all of it, and no job is read but schedules, which are few."""

    def of(table: sa.Table) -> tuple[sa.ColumnElement[bool], ...]:
        return (table.c.tenant_id == sa.bindparam("tenant"),) if of_one else ()

    counted = sa.select(_JOBS.tenant_id, _JOBS.status, sa.func.count())
    counted = counted.group_by(_JOBS.tenant_id, _JOBS.status)
    with_homes = counted.add_columns(
        sa.func.count(_JOBS.home), sa.func.coalesce(sa.func.sum(_JOBS.kept_bytes), 0)
    )
    first = sa.select(tables.tenants.c.tenant_id, waiting("created_at", 0)).select_from(CLASSES)
    kept = tables.usage.c.hour_at >= now_s() - KEPT_S
    used = tables.usage.select().where(*of(tables.usage), kept).order_by(tables.usage.c.hour_at)
    known = tables.tenants.select().where(*of(tables.tenants))
    return _Statements(
        jobs=with_homes.where(*of(tables.jobs)),
        schedules=counted.where(_JOBS.job_id.in_(sa.select(tables.schedules.c.job_id))),
        first=first.where(*of(tables.tenants)),
        used=used,
        tenants=known.order_by(tables.tenants.c.tenant_id),
    )


def usage(connection: sa.Connection, tenant: str | None) -> tuple[TenantUsage, ...]:
    """Of all tenants, or of one, by name."""
    ask = _statements(of_one=tenant is not None)
    whose = {} if tenant is None else {"tenant": tenant}
    jobs: defaultdict[str, Counter[Status]] = defaultdict(Counter)
    at_homes: Counter[str] = Counter()
    kept_bytes: Counter[str] = Counter()
    for name, status, count, with_home, total_bytes in connection.execute(ask.jobs, whose):
        jobs[name][status] += count
        at_homes[name] += with_home if status in LIVING else 0
        kept_bytes[name] += int(total_bytes)
    for name, status, count in connection.execute(ask.schedules):
        jobs[name][status] -= count
    since: dict[str, float] = {}
    for name, at in connection.execute(ask.first, whose):
        if at is not None:
            since[name] = min(at, since.get(name, at))
    hours: dict[str, list[tuple[float, float]]] = {}
    for row in connection.execute(ask.used, whose).mappings():
        hours.setdefault(row["tenant_id"], []).append((float(row["hour_at"]), row["used_s"]))
    return tuple(
        TenantUsage(
            tenant_id=name,
            jobs=dict(+jobs[name]),
            claimed=at_homes[name],
            kept_bytes=kept_bytes[name],
            claimed_at=claimed_at,
            waiting_since_at=since.get(name),
            hours=tuple(hours.get(name, ())),
        )
        for name, claimed_at in connection.execute(ask.tenants, whose)
    )
