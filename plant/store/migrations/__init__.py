"""Versions of the database's schema, one file each (Alembic)."""
