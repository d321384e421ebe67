"""The first that wait of each class are found by one index, and what tenants have by another."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision: str | None = "0003"


def upgrade() -> None:
    """Make the indexes."""
    for name in ("jobs_that_wait", "jobs_of_tenants", "jobs_of_homes"):
        op.drop_index(name, "jobs")
    behind = sa.text("(- number)")
    op.create_index("jobs_that_wait", "jobs", ["tenant_id", "status", "priority", behind])
    op.create_index("jobs_that_count", "jobs", ["tenant_id", "status", "home", "kept_bytes"])
    op.create_index("jobs_of_tenants", "jobs", ["tenant_id", "number"])
    op.create_index("jobs_of_homes", "jobs", ["status", "home"])
