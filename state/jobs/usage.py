"""What tenants have and had, counted."""

from __future__ import annotations

from collections import Counter, defaultdict

import sqlalchemy as sa

from state.jobs import tables
from state.jobs.choosing import CLASSES, waiting
from state.jobs.records import LIVING, Status, TenantUsage
from state.jobs.tables import now_s

KEPT_S = 14 * 24 * 3600
"""how far back usage is told: by then next to nothing of it counts"""

_JOBS = tables.jobs.c


def usage(connection: sa.Connection, tenant: str | None) -> tuple[TenantUsage, ...]:
    """Of all tenants, or of one, by name."""

    def of(table: sa.Table) -> tuple[sa.ColumnElement[bool], ...]:
        return () if tenant is None else (table.c.tenant_id == tenant,)

    # Indexes answer all of it, and no job is read. Schedules, and jobs that homes have, are few,
    # so that those of all tenants are counted: by tenant SQLite would look for them among all jobs.
    by_status = sa.select(_JOBS.tenant_id, _JOBS.status, sa.func.count())
    by_status = by_status.group_by(_JOBS.tenant_id, _JOBS.status)
    all_jobs = by_status.where(*of(tables.jobs))
    schedules = by_status.where(_JOBS.job_id.in_(sa.select(tables.schedules.c.job_id)))
    claimed = (
        sa.select(_JOBS.tenant_id, sa.func.count())
        .where(_JOBS.home.is_not(None), _JOBS.status.in_(LIVING))
        .group_by(_JOBS.tenant_id)
    )
    kept = sa.select(_JOBS.tenant_id, sa.func.sum(_JOBS.kept_bytes)).where(*of(tables.jobs))
    kept = kept.group_by(_JOBS.tenant_id)
    first = sa.select(tables.tenants.c.tenant_id, waiting("created_at", 0)).select_from(CLASSES)
    first = first.where(*of(tables.tenants))
    used = (
        tables.usage.select()
        .where(*of(tables.usage), tables.usage.c.hour_at >= now_s() - KEPT_S)
        .order_by(tables.usage.c.hour_at)
    )
    known = tables.tenants.select().where(*of(tables.tenants))
    jobs: defaultdict[str, Counter[Status]] = defaultdict(Counter)
    for name, status, count in connection.execute(all_jobs):
        jobs[name][status] += count
    for name, status, count in connection.execute(schedules):
        jobs[name][status] -= count
    at_homes = {name: int(count) for name, count in connection.execute(claimed)}
    kept_bytes = {name: int(total) for name, total in connection.execute(kept)}
    since: dict[str, float] = {}
    for name, at in connection.execute(first):
        if at is not None:
            since[name] = min(at, since.get(name, at))
    hours: dict[str, list[tuple[float, float]]] = {}
    for row in connection.execute(used).mappings():
        hours.setdefault(row["tenant_id"], []).append((float(row["hour_at"]), row["used_s"]))
    return tuple(
        TenantUsage(
            tenant_id=name,
            jobs=dict(+jobs[name]),
            claimed=at_homes.get(name, 0),
            kept_bytes=kept_bytes.get(name, 0),
            claimed_at=claimed_at,
            waiting_since_at=since.get(name),
            hours=tuple(hours.get(name, ())),
        )
        for name, claimed_at in connection.execute(known.order_by(tables.tenants.c.tenant_id))
    )
