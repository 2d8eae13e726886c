"""Writes a batch of what devices told into the database, in one transaction.

Rows are written in the order of their keys, and tables always in the same order: several instances
that write at once wait for each other and never in a circle.
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
from plant.watch.rank import alarm_rank, drift_rank, sensor_rank
from plant.watch.reading import (
    Alarm,
    Drift,
    Event,
    Health,
    Refused,
    Response,
    Sensor,
    Status,
    Taken,
)

Row: TypeAlias = dict[str, Any]
Condition: TypeAlias = Callable[[Any], sa.ColumnElement[bool]]
_MOST_REFUSED_BYTES = 16_384


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
            sqlalchemy.exc.SQLAlchemyError: Nothing of it is written.
        """
        taken = [one for one in batch if isinstance(one, Taken)]
        self._machines.introduce(
            {(one.device, one.machine) for one in taken if one.machine},
            {one.device for one in taken if one.topic != "response"},
        )
        now = datetime.now(timezone.utc)
        with self._database.writing() as connection:
            new = self._events(connection, taken, now)
            self._states(connection, taken)
            self._statuses(connection, taken, now)
            self._acknowledged(connection, taken, now)
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

    def _events(self, connection: sa.Connection, taken: Iterable[Taken], now: datetime) -> int:
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
            return 0
        added = self._many.add(connection, EVENTS, list(rows.values()), "device", "sequence")
        numbers = defaultdict(list)
        for device, sequence in added:
            if sequence is not None:
                numbers[device].append(sequence)
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
        return len(added)

    def _counted(self, new: Any) -> dict[str, Any]:
        """Numbers of a device's events: lowest, highest, how many."""
        least, most = _of(self._database, least=True), _of(self._database, least=False)
        return {
            "first_sequence": least(sa.func.coalesce(DEVICES.c.first_sequence, new.low), new.low),
            "last_sequence": most(sa.func.coalesce(DEVICES.c.last_sequence, new.high), new.high),
            "sequences": DEVICES.c.sequences + new.more,
            "changed": new.changed,
        }

    def _states(self, connection: sa.Connection, taken: Iterable[Taken]) -> None:
        forced: dict[tuple[str, ...], Row] = {}
        usual: dict[tuple[str, ...], Row] = {}
        gone: dict[tuple[str, ...], Row] = {}
        for one in taken:
            key = {"device": one.device, "machine": one.machine, "topic": one.topic}
            place = tuple(key.values())
            if one.body is None:
                gone[place] = key
                usual.pop(place, None)
                forced.pop(place, None)
            elif isinstance(one.body, Alarm | Sensor | Drift | Status) or one.topic in {
                "info", "health",
            }:  # fmt: skip
                gone.pop(place, None)
                row = {
                    **key, "time": _time(one), "received": one.received, "payload": one.payload,
                }  # fmt: skip
                into = forced if one.retained else usual
                if place not in into or row["time"] >= into[place]["time"]:
                    into[place] = row
        if gone:
            connection.execute(
                sa.delete(STATES).where(
                    STATES.c.device == sa.bindparam("of"),
                    STATES.c.machine == sa.bindparam("which"),
                    STATES.c.topic == sa.bindparam("what"),
                ),
                [
                    {"of": key["device"], "which": key["machine"], "what": key["topic"]}
                    for _, key in sorted(gone.items())
                ],
            )
        # An older state never covers a newer, but where it is the broker's own and what is stored
        # came before it was asked: then the device's clock was set back.
        if forced:
            self._many.put(connection, STATES, list(forced.values()), lambda new: sa.and_(
                STATES.c.payload != new.payload,
                sa.or_(STATES.c.time <= new.time, STATES.c.received < new.received),
            ))  # fmt: skip
        if usual:
            self._many.put(
                connection, STATES, list(usual.values()), lambda new: STATES.c.time <= new.time
            )

    def _statuses(self, connection: sa.Connection, taken: Iterable[Taken], now: datetime) -> None:
        rows = {
            one.device: {
                "name": one.device, "status": one.body.status, "reason": one.body.reason,
                "version": one.body.version, "status_at": one.received, "changed": now,
            }
            for one in taken
            if isinstance(one.body, Status)
        }  # fmt: skip
        if rows:
            at = DEVICES.c.status_at
            self._many.change(
                connection, DEVICES, list(rows.values()),
                lambda new: sa.or_(at.is_(None), at <= new.status_at),
            )  # fmt: skip

    def _acknowledged(
        self, connection: sa.Connection, taken: Iterable[Taken], now: datetime
    ) -> None:
        """Up to which number a broker had a device's events, and what is counted from."""
        rows = {
            one.device: {
                "name": one.device, "acknowledged": one.body.outbox.acknowledged, "changed": now,
            }
            for one in taken
            if isinstance(one.body, Health)
            and one.body.outbox is not None
            and one.body.outbox.acknowledged is not None
        }  # fmt: skip
        if rows:
            self._many.change(
                connection, DEVICES, list(rows.values()),
                values=lambda new: {
                    "acknowledged": new.acknowledged,
                    "first_sequence": sa.func.coalesce(
                        DEVICES.c.first_sequence, new.acknowledged + 1
                    ),
                    "changed": new.changed,
                },
            )  # fmt: skip

    def _standings(self, connection: sa.Connection, taken: Iterable[Taken], now: datetime) -> None:
        for topic, columns in (("alarm", _alarm), ("sensor", _sensor), ("drift", _drift)):
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
            for rows, where in zip((gone, forced, usual), conditions, strict=True):
                if rows:
                    self._many.change(connection, MACHINES, list(rows.values()), where)

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


def _time(one: Taken) -> datetime:
    # A last will has no time, and no two clocks are the same: of the status this server's counts.
    found = one.received if isinstance(one.body, Status) else one.body.time
    assert isinstance(found, datetime)
    return found


def _alarm(body: Alarm | None) -> dict[str, Any]:
    if body is None:
        body_: dict[str, Any] = dict.fromkeys(
            ("alarm_at", "level", "since", "alarm_id", "acknowledged", "latched", "shelving",
             "shelved_until", "muted_until", "reason", "score", "zone")
        )  # fmt: skip
        return {**body_, "rank": 0.0}
    return {
        "alarm_at": body.time,
        "level": body.level,
        "since": body.since,
        "alarm_id": body.alarm_id,
        "acknowledged": body.acknowledged,
        "latched": body.latched,
        "shelving": body.shelving,
        "shelved_until": body.shelved_until,
        "muted_until": body.muted_until,
        "reason": None if body.reason is None else body.reason.text,
        "score": body.score,
        "zone": body.zone,
        "rank": alarm_rank(body),
    }


def _sensor(body: Sensor | None) -> dict[str, Any]:
    if body is None:
        return {"sensor_at": None, "sensor": None, "sensor_reason": None, "sensor_rank": 0.0}
    return {
        "sensor_at": body.time,
        "sensor": body.status,
        "sensor_reason": body.reason,
        "sensor_rank": sensor_rank(body),
    }


def _drift(body: Drift | None) -> dict[str, Any]:
    if body is None:
        return {"drift_at": None, "drift": None, "drift_rank": 0.0}
    return {"drift_at": body.time, "drift": body.active, "drift_rank": drift_rank(body)}


def _shown(text: str, most: int) -> str:
    """Text that every database takes."""
    return text.replace("\x00", "\\0").encode("utf-8", "backslashreplace").decode()[:most]


def _of(database: Database, *, least: bool) -> Any:
    """The lesser or the greater of two values, as each database calls it."""
    if database.postgresql:
        return sa.func.least if least else sa.func.greatest
    return sa.func.min if least else sa.func.max
