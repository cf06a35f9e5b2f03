"""What Alembic runs for each command: it migrates over the connection that it is handed."""

from __future__ import annotations

from alembic import context

from windrow.scheduler.store.schema import METADATA

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=METADATA,
    # SQLite can alter little of a table: Alembic then makes a new one and copies.
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
