"""Run by Alembic: upgrade over the connection that `nbops.store.engines` hands in."""

from alembic import context

from nbops.store.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
with context.begin_transaction():
    context.run_migrations()
