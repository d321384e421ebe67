"""What alembic runs: the revisions that are missing, on the connection that it was given."""

from __future__ import annotations

from alembic import context

from state.jobs.tables import REVISION_TABLE

context.configure(
    connection=context.config.attributes["connection"],
    version_table=REVISION_TABLE,
    # One transaction for all of it, which SQLite bears, too: cut off, nothing has happened.
    transactional_ddl=True,
)
context.run_migrations()
