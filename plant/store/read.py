"""What the page and the exports ask the database: machines, alarms, events, scores, devices."""

from __future__ import annotations

import fnmatch
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TypeAlias

import sqlalchemy as sa

from plant.store.database import Database
from plant.store.tables import (
    COMMANDS,
    DEVICES,
    EVENTS,
    MACHINES,
    REFUSED,
    SCORES,
    STATES,
    Moment,
)
from plant.store.trend import merged, point

Row: TypeAlias = dict[str, Any]
# A machine whose device is offline: nobody says that it is well. Worse than a doubtful microphone.
_OFFLINE_RANK = 26.0
# More points than these no screen shows.
_MOST_POINTS = 2000
_CHUNK = 5000


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which machines are asked for.

    Attributes:
        text: Part of a device's or machine's name; empty for any.
        devices: Their devices; None for all.
        state: `any`, `alarm` (an alarm or alert stands), `unseen` (not acknowledged) and `shelved`
            of these, `sensor`, `drift`, `offline`.
        limit: At most so many.
        offset: After so many.
    """

    text: str = ""
    devices: Sequence[str] | None = None
    state: str = "any"
    limit: int = 100
    offset: int = 0


@dataclass(frozen=True, slots=True)
class EventPlace:
    """Where an event stands in the list: many happen in the same instant.

    Attributes:
        time: When it happened.
        sequence: Its number; -1 for none.
        device: Whose.
        id: Its own.
    """

    time: datetime
    sequence: int
    device: str
    id: str


class Reader:
    """Answers questions. Safe for several threads.

    Args:
        database: Migrated.
        sites: By name, patterns of its devices' names.
    """

    def __init__(self, database: Database, sites: Mapping[str, Sequence[str]]) -> None:
        self._database = database
        self.sites = sites
        worst = sa.func.greatest if database.postgresql else sa.func.max
        offline = sa.case((DEVICES.c.status == "offline", _OFFLINE_RANK), else_=0.0)
        self._worst = worst(
            MACHINES.c.rank, MACHINES.c.sensor_rank, MACHINES.c.drift_rank, offline
        ).label("worst")
        self._machines = sa.select(
            MACHINES, DEVICES.c.status, DEVICES.c.reason.label("status_reason"), self._worst
        ).select_from(MACHINES.join(DEVICES, DEVICES.c.name == MACHINES.c.device))

    def site_of(self, device: str) -> str:
        """The first site that a device is of; empty when it is of none."""
        for site, patterns in self.sites.items():
            if any(fnmatch.fnmatchcase(device, one) for one in patterns):
                return site
        return ""

    def of_site(self, site: str) -> list[str]:
        """The devices of a site."""
        with self._database.reading() as connection:
            names = connection.execute(sa.select(DEVICES.c.name)).scalars().all()
        return [name for name in names if self.site_of(name) == site]

    def machines(self, wanted: Wanted) -> tuple[list[Row], int]:
        """Machines, the worst first, and how many there are in all."""
        order = (
            self._worst.desc(), sa.func.coalesce(MACHINES.c.latest, -1e9).desc(),
            MACHINES.c.device, MACHINES.c.name,
        )  # fmt: skip
        return self._page(wanted, order)

    def _page(
        self, wanted: Wanted, order: Sequence[sa.ColumnElement[Any]]
    ) -> tuple[list[Row], int]:
        conditions = _conditions(wanted)
        query = (
            self._machines.where(*conditions)
            .order_by(*order)
            .limit(wanted.limit)
            .offset(wanted.offset)
        )
        number = (
            sa.select(sa.func.count())
            .select_from(MACHINES.join(DEVICES, DEVICES.c.name == MACHINES.c.device))
            .where(*conditions)
        )
        with self._database.reading() as connection:
            rows = [self._machine(row) for row in connection.execute(query)]
            return rows, int(connection.execute(number).scalar_one())

    def machine(self, device: str, name: str) -> Row | None:
        """One machine, with its states as they were told; None where there is none."""
        of = (MACHINES.c.device == device, MACHINES.c.name == name)
        states = sa.select(STATES).where(
            STATES.c.device == device, STATES.c.machine.in_(["", name])
        )
        with self._database.reading() as connection:
            row = connection.execute(self._machines.where(*of)).first()
            if row is None:
                return None
            found = self._machine(row)
            told = {
                state.topic: {"time": state.time, "message": json.loads(state.payload)}
                for state in connection.execute(states)
            }
        return {**found, "states": told}

    def changed(self, since: datetime, known: Mapping[int, datetime], limit: int) -> list[Row]:
        """Machines written since a moment, the earliest first.

        Args:
            since: The moment.
            known: By machine's number, the writing that is known already.
            limit: At most so many.
        """
        light = (
            sa.select(MACHINES.c.id, MACHINES.c.changed)
            .where(MACHINES.c.changed >= since)
            .order_by(MACHINES.c.changed)
        )
        with self._database.reading() as connection:
            new = [
                number
                for number, changed in connection.execute(light)
                if known.get(number) != changed
            ][:limit]
            if not new:
                return []
            rows = connection.execute(
                self._machines.where(MACHINES.c.id.in_(new)).order_by(MACHINES.c.changed)
            )
            return [self._machine(row) for row in rows]

    def inbox(self, wanted: Wanted) -> tuple[list[Row], int]:
        """Machines with an alarm or alert that is not over, and how many there are in all.

        The worst first, of equals the latest.
        """
        order = (
            MACHINES.c.rank.desc(), MACHINES.c.since.desc(), MACHINES.c.device, MACHINES.c.name,
        )  # fmt: skip
        return self._page(wanted, order)

    def counts(self) -> dict[str, int]:
        """How many machines there are, and how many stand how."""
        standing = sa.and_(MACHINES.c.alarm_id.is_not(None), MACHINES.c.shelving == "unshelved")
        columns = {
            "machines": sa.func.count(),
            "alarms": _number(sa.and_(standing, MACHINES.c.level != "alert")),
            "alerts": _number(sa.and_(standing, MACHINES.c.level == "alert")),
            "unacknowledged": _number(sa.and_(standing, MACHINES.c.acknowledged.is_(False))),
            "shelved": _number(
                sa.and_(MACHINES.c.alarm_id.is_not(None), MACHINES.c.shelving != "unshelved")
            ),
            "sensors": _number(MACHINES.c.sensor_rank > 0),
            "drifting": _number(MACHINES.c.drift.is_(True)),
        }
        query = sa.select(*(column.label(name) for name, column in columns.items()))
        offline = sa.select(sa.func.count()).where(DEVICES.c.status == "offline")
        with self._database.reading() as connection:
            row = connection.execute(query.select_from(MACHINES)).one()
            found = {name: int(getattr(row, name) or 0) for name in columns}
            return {**found, "offline": int(connection.execute(offline).scalar_one())}

    def devices(self) -> list[Row]:
        """Every device, those offline first."""
        query = sa.select(DEVICES).order_by(
            sa.case((DEVICES.c.status == "offline", 0), else_=1), DEVICES.c.name
        )
        with self._database.reading() as connection:
            return [
                {**row._asdict(), "site": self.site_of(row.name), "missing": missing(row)}
                for row in connection.execute(query)
            ]

    def events(
        self,
        *,
        device: str = "",
        machine: str = "",
        before: datetime | None = None,
        after: EventPlace | None = None,
        limit: int = 100,
    ) -> list[Row]:
        """Events, the latest first, with their messages.

        Args:
            device: Of this device's machine; empty for all.
            machine: Its name.
            before: Only those that happened earlier.
            after: Only those that follow this one in the list: the last of the page before.
            limit: At most so many.
        """
        query = sa.select(EVENTS, MACHINES.c.name.label("machine")).select_from(
            EVENTS.join(MACHINES, MACHINES.c.id == EVENTS.c.machine_id)
        )
        if device:
            query = query.where(MACHINES.c.device == device, MACHINES.c.name == machine)
        if before is not None:
            query = query.where(EVENTS.c.time < before)
        number = sa.func.coalesce(EVENTS.c.sequence, -1)
        order = (EVENTS.c.time, number, EVENTS.c.device, EVENTS.c.id)
        if after is not None:
            place = sa.tuple_(
                sa.literal(after.time, Moment), sa.literal(after.sequence),
                sa.literal(after.device), sa.literal(after.id),
            )  # fmt: skip
            query = query.where(EVENTS.c.time <= after.time, sa.tuple_(*order) < place)
        query = query.order_by(*(column.desc() for column in order)).limit(limit)
        with self._database.reading() as connection:
            return [
                {
                    "device": row.device, "machine": row.machine, "id": row.id, "time": row.time,
                    "sequence": row.sequence, "message": json.loads(row.payload),
                }
                for row in connection.execute(query)
            ]  # fmt: skip

    def scores(self, device: str, machine: str, begin: datetime, end: datetime) -> list[Row]:
        """Scores of a stretch of time, as coarse as a screen needs."""
        span = (end - begin).total_seconds()
        step = 300 if span / 300 <= _MOST_POINTS else 3600
        merge = max(1, round(span / step / _MOST_POINTS))
        query = (
            sa.select(SCORES)
            .select_from(SCORES.join(MACHINES, MACHINES.c.id == SCORES.c.machine_id))
            .where(
                MACHINES.c.device == device, MACHINES.c.name == machine, SCORES.c.step == step,
                SCORES.c.start >= begin - timedelta(seconds=step), SCORES.c.start < end,
            )
            .order_by(SCORES.c.start)
        )  # fmt: skip
        with self._database.reading() as connection:
            rows = [point(row) for row in connection.execute(query)]
        return rows if merge == 1 else merged(rows, step * merge)

    def commands(self, *, device: str = "", machine: str = "", limit: int = 50) -> list[Row]:
        """Commands that were given, the latest first, and what the devices answered."""
        query = sa.select(COMMANDS).order_by(COMMANDS.c.asked.desc()).limit(limit)
        if device:
            query = query.where(COMMANDS.c.device == device, COMMANDS.c.machine == machine)
        with self._database.reading() as connection:
            return [
                {**row._asdict(), "fields": json.loads(row.fields)}
                for row in connection.execute(query)
            ]

    def refused(self, limit: int = 100) -> list[Row]:
        """Messages that could not be read, the latest first."""
        query = sa.select(REFUSED).order_by(REFUSED.c.id.desc()).limit(limit)
        with self._database.reading() as connection:
            return [
                {**row._asdict(), "payload": bytes(row.payload).decode("utf-8", "replace")}
                for row in connection.execute(query)
            ]

    def all_rows(
        self, what: str, begin: datetime, end: datetime, devices: Sequence[str] | None
    ) -> Iterator[list[Row]]:
        """Every event, or score by five minutes or hour, of a stretch of time, in chunks.

        Args:
            what: `events`, `minutes` or `hours`.
            begin: From.
            end: Up to.
            devices: Of these; None for all.
        """
        if what == "events":
            query = (
                sa.select(
                    EVENTS.c.time, EVENTS.c.received, EVENTS.c.device,
                    MACHINES.c.name.label("machine"), EVENTS.c.id, EVENTS.c.sequence,
                    EVENTS.c.area, EVENTS.c.event, EVENTS.c.level, EVENTS.c.alarm_id,
                    EVENTS.c.operator, EVENTS.c.payload,
                )
                .select_from(EVENTS.join(MACHINES, MACHINES.c.id == EVENTS.c.machine_id))
                .where(EVENTS.c.time >= begin, EVENTS.c.time < end)
                .order_by(EVENTS.c.time)
            )  # fmt: skip
        else:
            query = (
                sa.select(
                    SCORES.c.start, SCORES.c.step.label("seconds"), MACHINES.c.device,
                    MACHINES.c.name.label("machine"), SCORES.c.windows, SCORES.c.judged,
                    SCORES.c.exceeded, SCORES.c.median, SCORES.c.maximum,
                    SCORES.c.threshold.label("raw_threshold"),
                )
                .select_from(SCORES.join(MACHINES, MACHINES.c.id == SCORES.c.machine_id))
                .where(
                    SCORES.c.step == (300 if what == "minutes" else 3600),
                    SCORES.c.start >= begin, SCORES.c.start < end,
                )
                .order_by(SCORES.c.start)
            )  # fmt: skip
        if devices is not None:
            query = query.where(MACHINES.c.device.in_(devices))
        with self._database.reading() as connection:
            found = connection.execution_options(yield_per=_CHUNK).execute(query)
            for rows in found.partitions():
                yield [row._asdict() for row in rows]

    def _machine(self, row: Any) -> Row:
        found = row._asdict()
        return {**found, "site": self.site_of(row.device)}


def missing(device: Any) -> int:
    """How many numbered events of a device never came.

    From the first that did, or that was given after the device was heard of first, to the last that
    did, or that a broker acknowledged by the device's word.
    """
    if device.first_sequence is None:
        return 0
    last = max(device.last_sequence or 0, device.acknowledged or 0, device.first_sequence - 1)
    return max(0, int(last - device.first_sequence + 1 - device.sequences))


def _conditions(wanted: Wanted) -> list[sa.ColumnElement[bool]]:
    found: list[sa.ColumnElement[bool]] = []
    if wanted.text:
        place = MACHINES.c.device + "/" + MACHINES.c.name
        found.append(sa.func.lower(place).contains(wanted.text.lower(), autoescape=True))
    if wanted.devices is not None:
        found.append(MACHINES.c.device.in_(wanted.devices))
    match wanted.state:
        case "alarm":
            found.append(MACHINES.c.alarm_id.is_not(None))
        case "unseen":
            found += [
                MACHINES.c.alarm_id.is_not(None), MACHINES.c.acknowledged.is_(False),
                MACHINES.c.shelving == "unshelved",
            ]  # fmt: skip
        case "shelved":
            found += [MACHINES.c.alarm_id.is_not(None), MACHINES.c.shelving != "unshelved"]
        case "sensor":
            found.append(MACHINES.c.sensor_rank > 0)
        case "drift":
            found.append(MACHINES.c.drift.is_(True))
        case "offline":
            found.append(DEVICES.c.status == "offline")
    return found


def _number(condition: sa.ColumnElement[bool]) -> sa.ColumnElement[Any]:
    return sa.func.sum(sa.case((condition, 1), else_=0))
