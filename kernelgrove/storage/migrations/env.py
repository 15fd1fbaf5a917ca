"""Alembic's entry point. ``kernelgrove.storage.migrate`` calls it with a connection whose transaction is open; that
transaction holds the whole upgrade, so a file is at one schema or the next, never between."""

from alembic import context

from kernelgrove.storage.tables import metadata

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=metadata, transactional_ddl=False)
context.run_migrations()
