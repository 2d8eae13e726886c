"""Writes a batch of what devices told into the database.

Tables are written always in the same order, and of each table all rows are locked at once, in the
order of their keys: several instances that write at once wait for each other and never in a circle.
States of three kinds (as they come, retained, removed) cannot all be had by one statement, as some
are not there yet; each kind that is seldom has a transaction of its own.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timezone
from typing import Any, TypeAlias

import sqlalchemy as sa

from plant.store.database import Database
from plant.store.many import Many
from plant.store.tables import (
    COMMANDS,
    DEVICES,
    EVENTS,
    MACHINES,
    REFUSED,
    STATES,
)
from plant.watch.machines import Machines
from plant.watch.reading import Event, Refused, Response, Taken
from plant.watch.rows import (
    Row,
    States,
    acknowledged_of,
    alarm_columns,
    drift_columns,
    latest_states,
    sensor_columns,
    statuses_of,
)

Condition: TypeAlias = Callable[[Any], sa.ColumnElement[bool]]
_MOST_REFUSED_BYTES = 16_384
# States that a machine's own row shows, and its columns for each.
_STANDINGS = (("alarm", alarm_columns), ("sensor", sensor_columns), ("drift", drift_columns))


class Writer:
    """Writes for one instance. One caller at a time.

    Args:
        database: Migrated.
        machines: Their rows.
    """

    def __init__(self, database: Database, machines: Machines) -> None:
        self._database = database
        self._machines = machines
        self._many = Many(database)

    def write(self, batch: Sequence[Taken | Refused]) -> int:
        """Write messages; on the disk when it returns.

        Returns:
            How many events were new.

        Raises:
            sqlalchemy.exc.SQLAlchemyError: Nothing of it is written, but for states that a broker
                retained or removed; writing it again changes nothing in those.
        """
        taken = [one for one in batch if isinstance(one, Taken)]
        self._machines.introduce(
            {(one.device, one.machine) for one in taken if one.machine},
            {one.device for one in taken if one.topic != "response"},
        )
        now = datetime.now(timezone.utc)
        states = latest_states(taken)
        self._seldom_states(states)
        with self._database.writing() as connection:
            new, numbers = self._events(connection, taken)
            statuses, acknowledged = statuses_of(taken, now), acknowledged_of(taken, now)
            names = sorted({*numbers, *statuses, *acknowledged})
            self._many.lock(connection, DEVICES, [{"name": name} for name in names])
            self._numbers(connection, numbers, now)
            self._statuses(connection, list(statuses.values()))
            self._acknowledged(connection, list(acknowledged.values()))
            if states.usual:
                self._many.put(
                    connection, STATES, list(states.usual.values()),
                    lambda new: STATES.c.time <= new.time,
                )  # fmt: skip
            self._standings(connection, taken, now)
            self._answers(connection, taken)
            refused = [one for one in batch if isinstance(one, Refused)]
            if refused:
                connection.execute(
                    sa.insert(REFUSED),
                    [
                        {
                            "received": one.received,
                            "topic": _shown(one.topic, 1000),
                            "reason": _shown(one.reason, 2000),
                            "payload": one.payload[:_MOST_REFUSED_BYTES],
                        }
                        for one in refused
                    ],
                )
        return new

    def _events(
        self, connection: sa.Connection, taken: Iterable[Taken]
    ) -> tuple[int, dict[str, list[int]]]:
        """Write events; how many were new, and their numbers by device."""
        rows = {}
        for one in taken:
            body = one.body
            # A delivery's probe says nothing but that events arrive.
            if not isinstance(body, Event) or body.area == "delivery":
                continue
            rows[one.device, body.id] = {
                "device": one.device,
                "id": body.id,
                "machine_id": self._machines.number(one.device, one.machine),
                "time": body.data.time,
                "received": one.received,
                "sequence": None if body.sequence is None else int(body.sequence),
                "area": body.area,
                "event": body.data.event or body.type.rpartition(".")[2],
                "level": body.data.level,
                "alarm_id": body.data.alarm_id,
                "operator": body.data.operator,
                "payload": one.payload,
            }
        if not rows:
            return 0, {}
        added = self._many.add(connection, EVENTS, list(rows.values()), "device", "sequence")
        numbers: dict[str, list[int]] = defaultdict(list)
        for device, sequence in added:
            if sequence is not None:
                numbers[device].append(sequence)
        return len(added), numbers

    def _numbers(
        self, connection: sa.Connection, numbers: dict[str, list[int]], now: datetime
    ) -> None:
        """Count the numbers of new events."""
        if numbers:
            self._many.change(
                connection, DEVICES,
                [
                    {"name": name, "low": min(found), "high": max(found), "more": len(found),
                     "changed": now}
                    for name, found in numbers.items()
                ],
                values=self._counted,
                types=dict.fromkeys(("low", "high", "more"), sa.BigInteger()),
            )  # fmt: skip

    def _counted(self, new: Any) -> dict[str, Any]:
        """Numbers of a device's events: lowest, highest, how many."""
        least, most = _of(self._database, least=True), _of(self._database, least=False)
        return {
            "first_sequence": least(sa.func.coalesce(DEVICES.c.first_sequence, new.low), new.low),
            "last_sequence": most(sa.func.coalesce(DEVICES.c.last_sequence, new.high), new.high),
            "sequences": DEVICES.c.sequences + new.more,
            "changed": new.changed,
        }

    def _seldom_states(self, states: States) -> None:
        """Write states that were removed, then those that the broker retained."""
        if states.gone:
            with self._database.writing() as connection:
                self._many.lock(connection, STATES, states.gone.values())
                connection.execute(
                    sa.delete(STATES).where(
                        STATES.c.device == sa.bindparam("of"),
                        STATES.c.machine == sa.bindparam("which"),
                        STATES.c.topic == sa.bindparam("what"),
                    ),
                    [
                        {"of": key["device"], "which": key["machine"], "what": key["topic"]}
                        for _, key in sorted(states.gone.items())
                    ],
                )
        # An older state never covers a newer, but where it is the broker's own and what is stored
        # came before it was asked: then the device's clock was set back.
        if states.forced:
            with self._database.writing() as connection:
                self._many.put(
                    connection, STATES, list(states.forced.values()),
                    lambda new: sa.and_(
                        STATES.c.payload != new.payload,
                        sa.or_(STATES.c.time <= new.time, STATES.c.received < new.received),
                    ),
                )  # fmt: skip

    def _statuses(self, connection: sa.Connection, rows: list[Row]) -> None:
        if rows:
            at = DEVICES.c.status_at
            self._many.change(
                connection, DEVICES, rows, lambda new: sa.or_(at.is_(None), at <= new.status_at)
            )

    def _acknowledged(self, connection: sa.Connection, rows: list[Row]) -> None:
        """Up to which number a broker had a device's events, and what is counted from."""
        if rows:
            self._many.change(
                connection, DEVICES, rows,
                values=lambda new: {
                    "acknowledged": new.acknowledged,
                    "first_sequence": sa.func.coalesce(
                        DEVICES.c.first_sequence, new.acknowledged + 1
                    ),
                    "changed": new.changed,
                },
            )  # fmt: skip

    def _standings(self, connection: sa.Connection, taken: Iterable[Taken], now: datetime) -> None:
        changes: list[tuple[list[Row], Condition | None]] = []
        for topic, columns in _STANDINGS:
            gone: dict[int, Row] = {}
            forced: dict[int, Row] = {}
            usual: dict[int, Row] = {}
            told_at, told_got = f"{topic}_at", f"{topic}_got"
            for one in taken:
                if one.topic != topic:
                    continue
                number = self._machines.number(one.device, one.machine)
                row = {"id": number, "changed": now, told_got: one.received, **columns(one.body)}
                into = gone if one.body is None else forced if one.retained else usual
                known = into.get(number)
                if one.body is None or known is None or row[told_at] >= known[told_at]:
                    into[number] = row
            told = [MACHINES.c[name] for name in columns(None) if name in MACHINES.c]
            conditions = _conditions(MACHINES.c[told_at], MACHINES.c[told_got], told)
            changes += [
                (list(rows.values()), where)
                for rows, where in zip((gone, forced, usual), conditions, strict=True)
                if rows
            ]
        numbers = sorted({row["id"] for rows, _ in changes for row in rows})
        self._many.lock(connection, MACHINES, [{"id": number} for number in numbers])
        for rows, where in changes:
            self._many.change(connection, MACHINES, rows, where)

    def _answers(self, connection: sa.Connection, taken: Iterable[Taken]) -> None:
        rows = [
            {
                "of": one.body.transaction, "which": one.device, "status": one.body.status,
                "error": one.body.error, "answered": one.received, "answer": one.payload,
            }
            for one in taken
            if isinstance(one.body, Response) and one.body.transaction
        ]  # fmt: skip
        if rows:
            connection.execute(
                sa.update(COMMANDS).where(
                    COMMANDS.c.transaction == sa.bindparam("of"),
                    COMMANDS.c.device == sa.bindparam("which"),
                    COMMANDS.c.answered.is_(None),
                ),
                sorted(rows, key=lambda row: str(row["of"])),
            )


def _conditions(
    at: sa.Column[datetime], got: sa.Column[datetime], told: Sequence[sa.Column[Any]]
) -> tuple[Condition | None, ...]:
    """When a removal, a state that the broker retained, and one as it comes take their place.

    Of two states of the same millisecond either may come last where two instances share them: then
    what the broker retained is the truth.
    """

    def newer(new: Any) -> sa.ColumnElement[bool]:
        return sa.or_(at.is_(None), at <= getattr(new, at.name))

    def truer(new: Any) -> sa.ColumnElement[bool]:
        other = sa.or_(*(one.is_distinct_from(getattr(new, one.name)) for one in told))
        return sa.and_(other, sa.or_(newer(new), got < getattr(new, got.name)))

    return None, truer, newer


def _shown(text: str, most: int) -> str:
    """Text that every database takes."""
    return text.replace("\x00", "\\0").encode("utf-8", "backslashreplace").decode()[:most]


def _of(database: Database, *, least: bool) -> Any:
    """The lesser or the greater of two values, as each database calls it."""
    if database.postgresql:
        return sa.func.least if least else sa.func.greatest
    return sa.func.min if least else sa.func.max
