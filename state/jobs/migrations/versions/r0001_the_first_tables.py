"""The first tables."""

from __future__ import annotations

import uuid

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision: str | None = None


def upgrade() -> None:
    """Make them."""
    store = op.create_table(
        "store",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("epoch", sa.Text, nullable=False),
        sa.Column("sequence", sa.BigInteger, nullable=False),
    )
    op.bulk_insert(store, [{"id": 1, "epoch": uuid.uuid4().hex, "sequence": 0}])
    op.create_table(
        "jobs",
        sa.Column("job_id", sa.Text, primary_key=True),
        sa.Column("number", sa.BigInteger, nullable=False, unique=True),
        sa.Column("parent_id", sa.Text),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("updated_at", sa.Double, nullable=False),
        sa.Column("tenant_id", sa.Text, nullable=False),
        sa.Column("model_type", sa.Text),
        sa.Column("trainer", sa.Text),
        sa.Column("model_name", sa.Text),
        sa.Column("config", sa.Text, nullable=False),
        sa.Column("metadata", sa.Text, nullable=False),
        sa.Column("priority", sa.Text, nullable=False),
        sa.Column("max_attempts", sa.Integer, nullable=False),
        sa.Column("paused", sa.Boolean, nullable=False),
        sa.Column("cancel_wanted", sa.Boolean, nullable=False),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.Column("token", sa.Text),
        sa.Column("home", sa.Text),
        sa.Column("claimed_at", sa.Double),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("next_attempt_at", sa.Double),
        sa.Column("progress", sa.Double, nullable=False),
        sa.Column("current_step", sa.Text),
        sa.Column("metrics", sa.Text),
        sa.Column("error", sa.Text),
        sa.Column("paused_reason", sa.Text),
        sa.Column("used_s", sa.Double, nullable=False),
        sa.Column("kept_bytes", sa.BigInteger, nullable=False),
        sa.Column("started_at", sa.Double),
        sa.Column("finished_at", sa.Double),
        sa.Column("as_of", sa.Double),
        sa.Column("changes", sa.Integer, nullable=False),
    )
    op.create_index("jobs_of_tenants", "jobs", ["tenant_id", "number"])
    op.create_index("jobs_by_status", "jobs", ["status", "number"])
    op.create_index("jobs_of_homes", "jobs", ["home", "status"])
    op.create_index("jobs_of_schedules", "jobs", ["parent_id", "number"])
    op.create_table(
        "attempts",
        sa.Column("job_id", sa.Text, primary_key=True),
        sa.Column("token", sa.Text, primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("home", sa.Text, nullable=False),
        sa.Column("started_at", sa.Double, nullable=False),
        sa.Column("ended_at", sa.Double),
        sa.Column("outcome", sa.Text),
        sa.Column("error", sa.Text),
    )
    op.create_table(
        "events",
        sa.Column("sequence", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("job_id", sa.Text, nullable=False),
        sa.Column("tenant_id", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("at", sa.Double, nullable=False),
        sa.Column("content", sa.Text, nullable=False),
    )
    op.create_index("events_of_jobs", "events", ["job_id", "sequence"])
    op.create_table(
        "metrics",
        sa.Column("job_id", sa.Text, primary_key=True),
        sa.Column("attempt", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("step", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("at", sa.Double, nullable=False),
        sa.Column("metrics", sa.Text, nullable=False),
    )
    op.create_table(
        "idempotency",
        sa.Column("key_sha256", sa.Text, primary_key=True),
        sa.Column("body_sha256", sa.Text, nullable=False),
        sa.Column("answer", sa.Text, nullable=False),
        sa.Column("at", sa.Double, nullable=False),
    )
    op.create_index("idempotency_by_age", "idempotency", ["at"])
    op.create_table(
        "schedules",
        sa.Column("job_id", sa.Text, primary_key=True),
        sa.Column("cron", sa.Text, nullable=False),
        sa.Column("timezone", sa.Text, nullable=False),
        sa.Column("overlap", sa.Text, nullable=False),
        sa.Column("catch_up", sa.Text, nullable=False),
        sa.Column("since_at", sa.Double, nullable=False),
    )
    op.create_table(
        "firings",
        sa.Column("schedule_id", sa.Text, primary_key=True),
        sa.Column("instant", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("job_id", sa.Text, nullable=False),
    )
    op.create_table(
        "tenants",
        sa.Column("tenant_id", sa.Text, primary_key=True),
        sa.Column("claimed_at", sa.Double),
    )
    op.create_table(
        "usage",
        sa.Column("tenant_id", sa.Text, primary_key=True),
        sa.Column("hour_at", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("used_s", sa.Double, nullable=False),
    )
    op.create_table(
        "models",
        sa.Column("tenant_id", sa.Text, primary_key=True),
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("version", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("job_id", sa.Text, nullable=False, unique=True),
        sa.Column("sha256", sa.Text, nullable=False),
        sa.Column("size_bytes", sa.BigInteger, nullable=False),
        sa.Column("metrics", sa.Text),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("served_by", sa.Text),
    )
