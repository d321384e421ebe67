"""The tables of the job store.

A column has one writer: the API what is asked, whoever holds the claim what became of it. The
status of a job that nobody has claimed is changed by one statement that says so in its condition.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

REVISION = "0004"
"""of the tables below: the newest of `state.jobs.migrations`; a greater one is a newer version's"""
REVISION_TABLE = "job_store_revision"
"""and not alembic's usual name: a database may be another program's home, too"""


class Unstorable(ValueError):
    """A text that not every store can hold."""

    exit_code = 2
    http_status = 422

    def __init__(self, why: str) -> None:
        super().__init__(f"a text has {why}, which cannot be stored")


class Text(sa.types.TypeDecorator[str]):
    """Text that both stores hold alike: SQLite would take a NUL, and PostgreSQL does not."""

    impl = sa.Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: sa.Dialect) -> str | None:  # noqa: ARG002
        """The same text.

        Raises:
            Unstorable: it is none that can be written as UTF-8, or has a NUL.
        """
        if value is not None:
            if "\0" in value:
                raise Unstorable("a NUL")
            try:
                value.encode()
            except UnicodeEncodeError:
                raise Unstorable("half of a surrogate pair") from None
        return value


class now_s(FunctionElement[float]):  # noqa: N801 - it is written as a function in statements
    """The clock of the database, in seconds since 1970."""

    type = sa.Double()
    inherit_cache = True


@compiles(now_s, "sqlite")
def _of_sqlite(element: now_s, compiler: Any, **words: Any) -> str:  # noqa: ARG001
    return "((julianday('now') - 2440587.5) * 86400.0)"


@compiles(now_s, "postgresql")
def _of_postgresql(element: now_s, compiler: Any, **words: Any) -> str:  # noqa: ARG001
    return "extract(epoch from clock_timestamp())::double precision"


metadata = sa.MetaData()

store = sa.Table(
    "store",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    # `ORIGIN`, or `ORIGIN-RESTORE` with another end after each restore: then every claim is
    # compared with the homes. The origin goes with the jobs into backups and other databases.
    sa.Column("epoch", Text, nullable=False),
    # Of the newest event. Whoever adds one has this row locked until the end of the transaction.
    sa.Column("sequence", sa.BigInteger, nullable=False),
)

jobs = sa.Table(
    "jobs",
    metadata,
    sa.Column("job_id", Text, primary_key=True),
    sa.Column("number", sa.BigInteger, nullable=False, unique=True),
    sa.Column("parent_id", Text),
    sa.Column("created_at", sa.Double, nullable=False),
    sa.Column("updated_at", sa.Double, nullable=False),
    # What is asked.
    sa.Column("tenant_id", Text, nullable=False),
    sa.Column("model_type", Text),
    sa.Column("trainer", Text),
    sa.Column("model_name", Text),
    sa.Column("config", Text, nullable=False),
    sa.Column("metadata", Text, nullable=False),
    sa.Column("priority", Text, nullable=False),
    sa.Column("max_attempts", sa.Integer, nullable=False),
    sa.Column("paused", sa.Boolean, nullable=False),
    sa.Column("cancel_wanted", sa.Boolean, nullable=False),
    sa.Column("revision", sa.Integer, nullable=False),
    # Who trains it.
    sa.Column("token", Text),
    sa.Column("home", Text),
    sa.Column("claimed_at", sa.Double),
    # What became of it.
    sa.Column("status", Text, nullable=False),
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("next_attempt_at", sa.Double),
    sa.Column("progress", sa.Double, nullable=False),
    sa.Column("current_step", Text),
    sa.Column("metrics", Text),
    sa.Column("error", Text),
    sa.Column("paused_reason", Text),
    sa.Column("used_s", sa.Double, nullable=False),
    sa.Column("kept_bytes", sa.BigInteger, nullable=False),
    sa.Column("started_at", sa.Double),
    sa.Column("finished_at", sa.Double),
    sa.Column("as_of", sa.Double),
    sa.Column("changes", sa.Integer, nullable=False),
    # What tenants have and who waits is asked all the time: neither reads rows to count them.
    sa.Index("jobs_that_count", "tenant_id", "status", "home", "kept_bytes"),
    # By a number that no other index has: PostgreSQL would look for the first of a class among the
    # oldest of all jobs, which have ended or are of others, since it takes them to be mixed.
    sa.Index("jobs_that_wait", "tenant_id", "status", "priority", sa.text("(- number)")),
    sa.Index("jobs_of_tenants", "tenant_id", "number"),
    sa.Index("jobs_of_homes", "status", "home"),
    sa.Index("jobs_by_status", "status", "number"),
    sa.Index("jobs_of_schedules", "parent_id", "number"),
)

attempts = sa.Table(
    "attempts",
    metadata,
    sa.Column("job_id", Text, primary_key=True),
    sa.Column("token", Text, primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("home", Text, nullable=False),
    sa.Column("started_at", sa.Double, nullable=False),
    sa.Column("ended_at", sa.Double),
    sa.Column("outcome", Text),
    sa.Column("error", Text),
)

events = sa.Table(
    "events",
    metadata,
    sa.Column("sequence", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("job_id", Text, nullable=False),
    sa.Column("tenant_id", Text, nullable=False),
    sa.Column("kind", Text, nullable=False),
    sa.Column("at", sa.Double, nullable=False),
    sa.Column("content", Text, nullable=False),
    sa.Index("events_of_jobs", "job_id", "sequence"),
)

metrics = sa.Table(
    "metrics",
    metadata,
    sa.Column("job_id", Text, primary_key=True),
    sa.Column("attempt", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("step", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("at", sa.Double, nullable=False),
    sa.Column("metrics", Text, nullable=False),
)

idempotency = sa.Table(
    "idempotency",
    metadata,
    # A hash of tenant, route and key: a key may be any text, of any length.
    sa.Column("key_sha256", Text, primary_key=True),
    sa.Column("body_sha256", Text, nullable=False),
    sa.Column("answer", Text, nullable=False),
    sa.Column("at", sa.Double, nullable=False),
    sa.Index("idempotency_by_age", "at"),
)

foretold = sa.Table(
    "foretold",
    metadata,
    sa.Column("job_id", Text, primary_key=True),
    sa.Column("tenant_id", Text, nullable=False),
    sa.Column("at", sa.Double, nullable=False),
    sa.Column("eta_s", sa.Double, nullable=False),
    sa.Column("eta_p90_s", sa.Double, nullable=False),
    sa.Column("plain_p90_s", sa.Double, nullable=False),
    # Written by whoever has the claim, once.
    sa.Column("started_at", sa.Double),
    sa.Index("foretold_by_start", "started_at"),
    sa.Index("foretold_of_tenants", "tenant_id", "started_at"),
)

schedules = sa.Table(
    "schedules",
    metadata,
    sa.Column("job_id", Text, primary_key=True),
    sa.Column("cron", Text, nullable=False),
    sa.Column("timezone", Text, nullable=False),
    sa.Column("overlap", Text, nullable=False),
    sa.Column("catch_up", Text, nullable=False),
    sa.Column("since_at", sa.Double, nullable=False),
)

firings = sa.Table(
    "firings",
    metadata,
    sa.Column("schedule_id", Text, primary_key=True),
    sa.Column("instant", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("job_id", Text, nullable=False),
)

tenants = sa.Table(
    "tenants",
    metadata,
    sa.Column("tenant_id", Text, primary_key=True),
    sa.Column("claimed_at", sa.Double),
)

usage = sa.Table(
    "usage",
    metadata,
    sa.Column("tenant_id", Text, primary_key=True),
    sa.Column("hour_at", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("used_s", sa.Double, nullable=False),
)

models = sa.Table(
    "models",
    metadata,
    sa.Column("tenant_id", Text, primary_key=True),
    sa.Column("name", Text, primary_key=True),
    sa.Column("version", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("job_id", Text, nullable=False, unique=True),
    sa.Column("sha256", Text, nullable=False),
    sa.Column("size_bytes", sa.BigInteger, nullable=False),
    sa.Column("metrics", Text),
    sa.Column("created_at", sa.Double, nullable=False),
    sa.Column("served_by", Text),
)
