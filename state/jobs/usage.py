"""What tenants have and had, counted."""

from __future__ import annotations

import sqlalchemy as sa

from state.jobs import tables
from state.jobs.choosing import claimable
from state.jobs.records import LIVING, TenantUsage
from state.jobs.tables import now_s

KEPT_S = 14 * 24 * 3600
"""how far back usage is told: by then next to nothing of it counts"""

_JOBS = tables.jobs.c


def usage(connection: sa.Connection, tenant: str | None) -> tuple[TenantUsage, ...]:
    """Of all tenants, or of one, by name."""

    def of(table: sa.Table) -> tuple[sa.ColumnElement[bool], ...]:
        return () if tenant is None else (table.c.tenant_id == tenant,)

    scheduled = sa.exists().where(tables.schedules.c.job_id == _JOBS.job_id)
    mine = (*of(tables.jobs), ~scheduled)
    living = _JOBS.status.in_(LIVING)
    claimed = sa.and_(living, _JOBS.token.is_not(None))
    counted = (
        sa.select(
            _JOBS.tenant_id,
            _JOBS.status,
            sa.func.count().label("jobs"),
            sa.func.sum(sa.case((claimed, 1), else_=0)).label("claimed"),
            sa.func.sum(_JOBS.kept_bytes).label("kept_bytes"),
        )
        .where(*mine)
        .group_by(_JOBS.tenant_id, _JOBS.status)
    )
    waiting = (
        sa.select(_JOBS.tenant_id, sa.func.min(_JOBS.created_at))
        .where(*of(tables.jobs), *claimable())
        .group_by(_JOBS.tenant_id)
    )
    used = (
        tables.usage.select()
        .where(*of(tables.usage), tables.usage.c.hour_at >= now_s() - KEPT_S)
        .order_by(tables.usage.c.hour_at)
    )
    known = tables.tenants.select().where(*of(tables.tenants))
    counts: dict[str, list[sa.RowMapping]] = {}
    for row in connection.execute(counted).mappings():
        counts.setdefault(row["tenant_id"], []).append(row)
    since = {name: float(at) for name, at in connection.execute(waiting)}
    hours: dict[str, list[tuple[float, float]]] = {}
    for row in connection.execute(used).mappings():
        hours.setdefault(row["tenant_id"], []).append((float(row["hour_at"]), row["used_s"]))
    return tuple(
        TenantUsage(
            tenant_id=name,
            jobs={row["status"]: row["jobs"] for row in counts.get(name, ())},
            claimed=sum(int(row["claimed"]) for row in counts.get(name, ())),
            kept_bytes=sum(int(row["kept_bytes"]) for row in counts.get(name, ())),
            claimed_at=claimed_at,
            waiting_since_at=since.get(name),
            hours=tuple(hours.get(name, ())),
        )
        for name, claimed_at in connection.execute(known.order_by(tables.tenants.c.tenant_id))
    )
