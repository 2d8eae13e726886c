"""Tables of the plant's database, the same in SQLite and PostgreSQL.

A change here needs a version in `migrations/versions`; a test compares the two.
"""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Dialect

METADATA = sa.MetaData()


class Moment(sa.TypeDecorator[datetime]):
    """A time in UTC: `timestamptz` in PostgreSQL, ISO 8601 text in SQLite."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:
        """Make it UTC; SQLite's own text has no zone."""
        if value is None:
            return None
        moment = value.astimezone(timezone.utc)
        return moment if dialect.name == "postgresql" else moment.replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        """Give the zone back."""
        if value is None:
            return None
        return value.replace(tzinfo=timezone.utc) if value.tzinfo is None else value


# SQLite numbers rows by itself only where the key is INTEGER.
_KEY = sa.BigInteger().with_variant(sa.Integer, "sqlite")
_NEVER = sa.text("0")

DEVICES = sa.Table(
    "devices",
    METADATA,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("status", sa.Text, comment="online or offline, as told last; null before"),
    sa.Column("reason", sa.Text, comment="why it is offline"),
    sa.Column("status_at", Moment, comment="when this server got that"),
    sa.Column("version", sa.Text, comment="of auscult on the device"),
    sa.Column("first_seen", Moment, nullable=False),
    sa.Column("first_sequence", sa.BigInteger, comment="lowest number of an event kept"),
    sa.Column("last_sequence", sa.BigInteger, comment="highest number of an event kept"),
    sa.Column(
        "sequences", sa.BigInteger, nullable=False, server_default=_NEVER,
        comment="events kept that have a number: fewer than between first and last means a gap",
    ),
    sa.Column(
        "acknowledged", sa.BigInteger,
        comment="up to this number the broker had every event, by the device's word",
    ),
    sa.Column("asked", Moment, comment="when it was asked last for events that never came"),
    sa.Column("asked_for", sa.BigInteger, comment="how many these were"),
    sa.Column(
        "asks", sa.Integer, nullable=False, server_default=_NEVER,
        comment="how often it was asked for as many",
    ),
    sa.Column("changed", Moment, nullable=False),
)  # fmt: skip

MACHINES = sa.Table(
    "machines",
    METADATA,
    sa.Column("id", _KEY, primary_key=True, autoincrement=True),
    sa.Column("device", sa.Text, nullable=False),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("first_seen", Moment, nullable=False),
    sa.Column("alarm_at", Moment, comment="the device's time of what follows"),
    sa.Column("alarm_got", Moment, comment="when this server got it"),
    sa.Column("level", sa.Text, comment="normal, alert or alarm"),
    sa.Column("since", Moment),
    sa.Column("alarm_id", sa.Text),
    sa.Column("acknowledged", sa.Boolean),
    sa.Column("latched", sa.Boolean),
    sa.Column("shelving", sa.Text),
    sa.Column("shelved_until", Moment),
    sa.Column("muted_until", Moment),
    sa.Column("reason", sa.Text),
    sa.Column("score", sa.Float, comment="at the last change of the alarm; 1.0 is the threshold"),
    sa.Column("zone", sa.Text),
    sa.Column("sensor_at", Moment),
    sa.Column("sensor_got", Moment),
    sa.Column("sensor", sa.Text, comment="condition of the microphone (NAMUR NE 107)"),
    sa.Column("sensor_reason", sa.Text),
    sa.Column("drift_at", Moment),
    sa.Column("drift_got", Moment),
    sa.Column("drift", sa.Boolean, comment="whether a drift warning stands"),
    sa.Column("heard", Moment, comment="end of the latest window told of"),
    sa.Column("latest", sa.Float, comment="its score; null when it could not be judged"),
    sa.Column("rank", sa.Float, nullable=False, server_default=_NEVER, comment="of its alarm"),
    sa.Column("sensor_rank", sa.Float, nullable=False, server_default=_NEVER),
    sa.Column("drift_rank", sa.Float, nullable=False, server_default=_NEVER),
    sa.Column("changed", Moment, nullable=False, comment="when this server wrote it last"),
    sa.UniqueConstraint("device", "name", name="machines_device_name"),
    sa.Index("machines_worst", "rank", "sensor_rank", "drift_rank"),
    sa.Index("machines_changed", "changed"),
    sqlite_autoincrement=True,
)

EVENTS = sa.Table(
    "events",
    METADATA,
    sa.Column("device", sa.Text, primary_key=True),
    sa.Column("id", sa.Text, primary_key=True, comment="the CloudEvent's: one row however often"),
    sa.Column("machine_id", sa.BigInteger, nullable=False),
    sa.Column("time", Moment, nullable=False, comment="by the device's clock"),
    sa.Column("received", Moment, nullable=False),
    sa.Column("sequence", sa.BigInteger, comment="counts the device's events up"),
    sa.Column("area", sa.Text, nullable=False, comment="alarm, drift, bundle"),
    sa.Column("event", sa.Text, nullable=False, comment="raised, cleared, ..."),
    sa.Column("level", sa.Text),
    sa.Column("alarm_id", sa.Text),
    sa.Column("operator", sa.Text, nullable=False),
    sa.Column("payload", sa.Text, nullable=False, comment="JSON as it came"),
    sa.Index("events_machine", "machine_id", "time"),
    sa.Index("events_time", "time"),
)

STATES = sa.Table(
    "states",
    METADATA,
    sa.Column("device", sa.Text, primary_key=True),
    sa.Column("machine", sa.Text, primary_key=True, comment="empty for the device's own"),
    sa.Column("topic", sa.Text, primary_key=True, comment="last level: alarm, sensor, info, ..."),
    sa.Column("time", Moment, nullable=False, comment="the device's; of `status` this server's"),
    sa.Column("received", Moment, nullable=False),
    sa.Column("payload", sa.Text, nullable=False, comment="JSON as it came"),
)

SCORES = sa.Table(
    "scores",
    METADATA,
    sa.Column("machine_id", sa.BigInteger, primary_key=True),
    sa.Column("step", sa.Integer, primary_key=True, comment="seconds: 300 or 3600"),
    sa.Column("start", Moment, primary_key=True),
    sa.Column("windows", sa.Integer, nullable=False, comment="windows told of"),
    sa.Column("judged", sa.Integer, nullable=False, comment="of them, with a score"),
    sa.Column("exceeded", sa.Integer, nullable=False, comment="of them, above the threshold"),
    sa.Column("median", sa.Float, comment="of the scores, to 0.01; 1.0 is the threshold"),
    sa.Column("maximum", sa.Float),
    sa.Column("threshold", sa.Float, comment="raw, as it was last in force"),
    sa.Index("scores_start", "step", "start"),
)

OPEN_SCORES = sa.Table(
    "open_scores",
    METADATA,
    sa.Column("machine_id", sa.BigInteger, primary_key=True),
    sa.Column("step", sa.Integer, primary_key=True),
    sa.Column("start", Moment, primary_key=True),
    sa.Column("bins", sa.Text, nullable=False, comment="JSON: hundredths of a score to windows"),
)

COMMANDS = sa.Table(
    "commands",
    METADATA,
    sa.Column("transaction", sa.Text, primary_key=True),
    sa.Column("device", sa.Text, nullable=False),
    sa.Column("machine", sa.Text, nullable=False),
    sa.Column("command", sa.Text, nullable=False),
    sa.Column("alarm_id", sa.Text),
    sa.Column("user", sa.Text, nullable=False),
    sa.Column("fields", sa.Text, nullable=False, comment="JSON, without any token"),
    sa.Column("asked", Moment, nullable=False),
    sa.Column("status", sa.Text, nullable=False, comment="sent, unheard, ok or error"),
    sa.Column("error", sa.Text),
    sa.Column("answered", Moment),
    sa.Column("answer", sa.Text, comment="JSON as it came"),
    sa.Index("commands_machine", "device", "machine", "asked"),
    sa.Index("commands_asked", "asked"),
)

REFUSED = sa.Table(
    "refused",
    METADATA,
    sa.Column("id", _KEY, primary_key=True, autoincrement=True),
    sa.Column("received", Moment, nullable=False),
    sa.Column("topic", sa.Text, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("payload", sa.LargeBinary, nullable=False, comment="its first 16 KiB"),
    sqlite_autoincrement=True,
)

INSTANCES = sa.Table(
    "instances",
    METADATA,
    sa.Column("name", sa.Text, primary_key=True, comment="also the client id at the broker"),
    sa.Column("heard", Moment, nullable=False, comment="its last sign of life"),
    sa.Column("adopter", sa.Text, comment="who empties its queue at the broker, as it is gone"),
    sa.Column("adopted", Moment),
)

USERS = sa.Table(
    "users",
    METADATA,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("role", sa.Text, nullable=False, comment="viewer, operator or admin"),
    sa.Column("password", sa.Text, comment="scrypt; null for who comes by a proxy alone"),
    sa.Column("created", Moment, nullable=False),
)

SESSIONS = sa.Table(
    "sessions",
    METADATA,
    sa.Column("digest", sa.Text, primary_key=True, comment="SHA-256 of the cookie"),
    sa.Column("user", sa.Text, nullable=False),
    sa.Column("expires", Moment, nullable=False),
)
