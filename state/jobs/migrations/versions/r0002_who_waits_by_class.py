"""Who waits is found by tenant and class, and what tenants have is counted, by indexes alone."""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision: str | None = "0001"


def upgrade() -> None:
    """Make the indexes."""
    op.create_index("jobs_that_wait", "jobs", ["tenant_id", "status", "priority", "number"])
    for name, columns in (
        ("jobs_of_tenants", ["tenant_id", "number", "kept_bytes"]),
        ("jobs_of_homes", ["status", "home", "tenant_id"]),
    ):
        op.drop_index(name, "jobs")
        op.create_index(name, "jobs", columns)
