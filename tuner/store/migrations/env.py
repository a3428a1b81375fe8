"""Alembic's entry: `tuner.store.database.migrate` hands in the connection, already in a write transaction."""

from alembic import context

from tuner.store.database import VERSION_TABLE
from tuner.store.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table=VERSION_TABLE,
    render_as_batch=True,
)
context.run_migrations()
