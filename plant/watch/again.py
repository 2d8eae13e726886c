"""Asks devices for events that never came: a broker that was killed loses what it acknowledged.

Devices number their events, say up to which number a broker acknowledged them all (`health`), and
keep the latest thousand of these. What is missing is asked for by the command `resend`.
"""

from __future__ import annotations

import json
import logging
import secrets
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from typing import Any, TypeAlias

import sqlalchemy as sa

from agent.core.broker import BrokerConfig
from plant.store.database import Database
from plant.store.read import missing
from plant.store.tables import DEVICES, EVENTS, MACHINES
from plant.watch.link import Link

log = logging.getLogger(__name__)

# What is missing may be on its way: it is asked for when it still is after so long, then more and
# more seldom, as long as nothing of it comes.
_FIRST_WAIT, _LONGEST_WAIT = timedelta(seconds=20), timedelta(hours=1)
_MOST_ASKS = 12
_DEVICES_AT_ONCE = 200
_GAPS_AT_ONCE = 20
_MOST_NUMBERS = 10_000  # of one command
_EXPIRY_SECONDS, _TAKEN_SECONDS = 60, 5.0

Gap: TypeAlias = tuple[int, int]
"""First and last number."""


class Resend:
    """Finds what is missing, and asks for it. One caller at a time; instances share the work.

    Args:
        broker: Where devices hear commands.
        database: Migrated.
    """

    def __init__(self, broker: BrokerConfig, database: Database) -> None:
        self._broker, self._database = broker, database
        self._before: dict[str, int] = {}

    def turn(self) -> int:
        """Ask devices of which events are missing, for a while now; how many were asked.

        Raises:
            DeliveryError: The broker is away.
            sqlalchemy.exc.SQLAlchemyError: The database is.
        """
        query = sa.select(DEVICES).where(
            DEVICES.c.first_sequence.is_not(None),
            sa.or_(DEVICES.c.status.is_(None), DEVICES.c.status != "offline"),
        )
        with self._database.reading() as connection:
            found = {row.name: row for row in connection.execute(query) if missing(row) > 0}
        now = datetime.now(timezone.utc)
        # What is less than a moment ago is coming in.
        lasting = [
            row for name, row in found.items() if missing(row) >= self._before.get(name, 1 << 62)
        ]
        self._before = {name: missing(row) for name, row in found.items()}
        ready = [row for row in lasting if due(row, now)][:_DEVICES_AT_ONCE]
        wanted = {row.name: self._wanted(row, now) for row in ready}
        return self._ask({name: one for name, one in wanted.items() if one is not None})

    def _wanted(self, row: Any, now: datetime) -> tuple[str, list[Gap]] | None:
        """A machine of the device, and the numbers missing; None when another instance asks."""
        same = row.asked_for == missing(row)
        with self._database.writing() as connection:
            mine = connection.execute(
                sa.update(DEVICES)
                .where(
                    DEVICES.c.name == row.name,
                    DEVICES.c.asked.is_(None)
                    if row.asked is None
                    else DEVICES.c.asked == row.asked,
                )
                .values(asked=now, asked_for=missing(row), asks=row.asks + 1 if same else 1)
            )
            if not mine.rowcount:
                return None
            machine = connection.execute(
                sa.select(MACHINES.c.name).where(MACHINES.c.device == row.name).limit(1)
            ).scalar()
            gaps = list(_gaps(connection, row))
        return (machine, gaps) if machine is not None and gaps else None

    def _ask(self, wanted: dict[str, tuple[str, list[Gap]]]) -> int:
        if not wanted:
            return 0
        link = Link(self._broker, f"auscult-plant-resend-{secrets.token_hex(6)}")
        link.open()
        try:
            for device, (machine, gaps) in wanted.items():
                for first, last in gaps:
                    request = {
                        "transaction": f"plant-{secrets.token_hex(12)}", "machine": machine,
                        "operator": "plant", "first": first, "last": last,
                    }  # fmt: skip
                    link.publish(
                        f"{self._broker.prefix}/{device}/request/resend",
                        json.dumps(request).encode(),
                        expiry_seconds=_EXPIRY_SECONDS, seconds=_TAKEN_SECONDS,
                    )  # fmt: skip
        finally:
            link.close()
        log.warning(
            "events of %d devices never came (%s): they are asked for again", len(wanted),
            ", ".join(sorted(wanted)[:5]) + ("..." if len(wanted) > 5 else ""),
        )  # fmt: skip
        return len(wanted)


def due(row: Any, now: datetime) -> bool:
    """Whether a device is to be asked now, by its row of `devices`."""
    if row.asked is None:
        return True
    if row.asked_for != missing(row):
        return bool(now >= row.asked + _FIRST_WAIT)
    wait = min(_FIRST_WAIT * 2 ** min(row.asks, 10), _LONGEST_WAIT)
    return bool(row.asks < _MOST_ASKS and now >= row.asked + wait)


def _gaps(connection: sa.Connection, row: Any) -> Iterator[Gap]:
    """Numbers of which no event is there, the latest first, each as much as one command takes."""
    numbered = (
        sa.select(
            EVENTS.c.sequence,
            sa.func.lag(EVENTS.c.sequence).over(order_by=EVENTS.c.sequence).label("before"),
        )
        .where(EVENTS.c.device == row.name, EVENTS.c.sequence.is_not(None))
        .subquery()
    )
    inner = (
        sa.select(numbered.c.before, numbered.c.sequence)
        .where(numbered.c.sequence - numbered.c.before > 1)
        .order_by(numbered.c.sequence.desc())
        .limit(_GAPS_AT_ONCE)
    )
    least, most = connection.execute(
        sa.select(sa.func.min(EVENTS.c.sequence), sa.func.max(EVENTS.c.sequence)).where(
            EVENTS.c.device == row.name
        )
    ).one()
    if row.acknowledged is not None:
        begin = row.first_sequence if most is None else most + 1
        yield from _parts(begin, row.acknowledged)
    for before, sequence in connection.execute(inner):
        yield from _parts(before + 1, sequence - 1)
    if least is not None:
        yield from _parts(row.first_sequence, least - 1)


def _parts(first: int, last: int) -> Iterator[Gap]:
    for begin in range(first, last + 1, _MOST_NUMBERS):
        yield begin, min(last, begin + _MOST_NUMBERS - 1)
