"""Brings the database to this version's schema; several instances may try at once."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from plant.store.database import Database, StoreError

_FOLDER = Path(__file__).parent / "migrations"
# Any number, the same in every instance: who holds it migrates, the others wait.
_LOCK = 0x61757363


def migrate(database: Database) -> None:
    """Bring the schema up to date, in one transaction that one instance at a time is in.

    Raises:
        StoreError: A newer auscult has migrated it already.
    """
    config = Config()
    config.set_main_option("script_location", str(_FOLDER).replace("%", "%%"))
    with database.writing() as connection:
        if database.postgresql:
            # It waits for an instance that migrates, however long that takes.
            connection.execute(sa.text("SET LOCAL lock_timeout = 0"))
            connection.execute(sa.text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
        present = MigrationContext.configure(connection).get_current_revision()
        known = {one.revision for one in ScriptDirectory.from_config(config).walk_revisions()}
        if present is not None and present not in known:
            raise StoreError(
                f"a newer auscult has written it (version {present} of its schema)",
                where=str(database),
                remedy="Update auscult here, or restore a backup made before.",
            )
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
