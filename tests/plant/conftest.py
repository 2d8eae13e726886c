"""Fixtures of the plant's tests."""

from __future__ import annotations

import pytest


@pytest.fixture
def broker(tmp_path):
    """A real mosquitto that keeps what a client that is away has subscribed to."""
    from support.broker import Broker

    lines = ("allow_anonymous true", "max_queued_messages 0", "max_inflight_messages 0",
             "persistence true", f"persistence_location {tmp_path / 'broker'}/")  # fmt: skip
    with Broker(tmp_path / "broker", lines) as broker:
        yield broker


@pytest.fixture
def database(tmp_path):
    """A migrated SQLite."""
    from plant.store.database import Database
    from plant.store.migrate import migrate

    database = Database(f"sqlite:///{tmp_path / 'plant.db'}")
    migrate(database)
    yield database
    database.close()
