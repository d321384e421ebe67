"""What alembic runs: the revisions that are missing, on the connection that it was given."""

from __future__ import annotations

from alembic import context

from state.jobs.tables import REVISION_TABLE

# In the transaction that has begun there, which SQLite bears, too: cut off, nothing has happened.
context.configure(connection=context.config.attributes["connection"], version_table=REVISION_TABLE)
context.run_migrations()
