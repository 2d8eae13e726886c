"""Rows of devices and machines, made when they are heard of first, and their numbers."""

from __future__ import annotations

from datetime import datetime, timezone

import sqlalchemy as sa

from plant.store.database import Database
from plant.store.tables import DEVICES, MACHINES

# Bound at a time where a query lists keys: SQLite takes 32,766 values.
KEYS = 5_000


class Machines:
    """Knows the rows of the machines heard of. One caller at a time.

    Args:
        database: Migrated.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._ids: dict[tuple[str, str], int] = {}
        self._devices: set[str] = set()

    def number(self, device: str, machine: str) -> int:
        """The number of a machine that was introduced."""
        return self._ids[device, machine]

    def introduce(self, machines: set[tuple[str, str]], devices: set[str]) -> None:
        """Make rows of devices and machines seen for the first time."""
        machines, devices = machines - self._ids.keys(), devices - self._devices
        if not machines and not devices:
            return
        now = datetime.now(timezone.utc)
        with self._database.writing() as connection:
            if devices:
                connection.execute(
                    self._database.insert(DEVICES).on_conflict_do_nothing(),
                    [{"name": name, "first_seen": now, "changed": now} for name in sorted(devices)],
                )
            if machines:
                connection.execute(
                    self._database.insert(MACHINES).on_conflict_do_nothing(
                        index_elements=["device", "name"]
                    ),
                    [
                        {"device": device, "name": name, "first_seen": now, "changed": now}
                        for device, name in sorted(machines)
                    ],
                )
            known = sa.select(MACHINES.c.device, MACHINES.c.name, MACHINES.c.id)
            wanted = sorted({device for device, _ in machines})
            rows = [
                row
                for at in range(0, len(wanted), KEYS)
                for row in connection.execute(
                    known.where(MACHINES.c.device.in_(wanted[at : at + KEYS]))
                )
            ]
        self._ids.update({(device, name): number for device, name, number in rows})
        self._devices.update(devices)
