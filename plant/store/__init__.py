"""The plant's database: what devices told, kept in SQLite or PostgreSQL."""
