"""What jobs were told of when they start is kept beside when they have started."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision: str | None = "0002"


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "foretold",
        sa.Column("job_id", sa.Text, primary_key=True),
        sa.Column("tenant_id", sa.Text, nullable=False),
        sa.Column("at", sa.Double, nullable=False),
        sa.Column("eta_s", sa.Double, nullable=False),
        sa.Column("eta_p90_s", sa.Double, nullable=False),
        sa.Column("plain_p90_s", sa.Double, nullable=False),
        sa.Column("started_at", sa.Double),
    )
    op.create_index("foretold_by_start", "foretold", ["started_at"])
    op.create_index("foretold_of_tenants", "foretold", ["tenant_id", "started_at"])
