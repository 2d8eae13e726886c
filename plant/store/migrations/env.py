"""Alembic's way in: it works on the connection that `plant.store.migrate` hands over."""

from alembic import context

from plant.store.tables import METADATA

context.configure(connection=context.config.attributes["connection"], target_metadata=METADATA)
context.run_migrations()
