"""Brings a file to this program's schema. alembic is imported only when there is something to do."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING

from .connect import APPLICATION_ID

if TYPE_CHECKING:
    from sqlalchemy import Connection

#: The schema this program reads and writes: the number of the newest migration, and ``PRAGMA user_version``.
SCHEMA = 2

FOLDER = Path(__file__).parent / "migrations"

_one_at_a_time = threading.Lock()  # alembic's context is a module global


def upgrade(connection: Connection, to: int = SCHEMA) -> None:
    """Run the migrations that *connection*'s file lacks, up to schema *to*, in the transaction it has open."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(FOLDER).replace("%", "%%"))
    config.attributes["connection"] = connection
    with _one_at_a_time:
        command.upgrade(config, f"{to:04d}")
    connection.exec_driver_sql(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.exec_driver_sql(f"PRAGMA user_version = {to}")
