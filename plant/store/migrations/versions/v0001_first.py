"""The first version: devices, machines, events, states, scores, commands, users."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_MOMENT = sa.DateTime(timezone=True)
_KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "commands",
        sa.Column("transaction", sa.Text(), nullable=False),
        sa.Column("device", sa.Text(), nullable=False),
        sa.Column("machine", sa.Text(), nullable=False),
        sa.Column("command", sa.Text(), nullable=False),
        sa.Column("alarm_id", sa.Text(), nullable=True),
        sa.Column("user", sa.Text(), nullable=False),
        sa.Column("fields", sa.Text(), nullable=False, comment="JSON, without any token"),
        sa.Column("asked", _MOMENT, nullable=False),
        sa.Column("status", sa.Text(), nullable=False, comment="sent, unheard, ok or error"),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("answered", _MOMENT, nullable=True),
        sa.Column("answer", sa.Text(), nullable=True, comment="JSON as it came"),
        sa.PrimaryKeyConstraint("transaction"),
    )
    op.create_index("commands_asked", "commands", ["asked"], unique=False)
    op.create_index("commands_machine", "commands", ["device", "machine", "asked"], unique=False)
    op.create_table(
        "devices",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column(
            "status",
            sa.Text(),
            nullable=True,
            comment="online or offline, as told last; null before",
        ),
        sa.Column("reason", sa.Text(), nullable=True, comment="why it is offline"),
        sa.Column("status_at", _MOMENT, nullable=True, comment="when this server got that"),
        sa.Column("version", sa.Text(), nullable=True, comment="of auscult on the device"),
        sa.Column("first_seen", _MOMENT, nullable=False),
        sa.Column(
            "first_sequence",
            sa.BigInteger(),
            nullable=True,
            comment="lowest number of an event kept",
        ),
        sa.Column(
            "last_sequence",
            sa.BigInteger(),
            nullable=True,
            comment="highest number of an event kept",
        ),
        sa.Column(
            "sequences",
            sa.BigInteger(),
            server_default=sa.text("0"),
            nullable=False,
            comment="events kept that have a number: fewer than between first and last means a gap",
        ),
        sa.Column("changed", _MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "events",
        sa.Column("device", sa.Text(), nullable=False),
        sa.Column(
            "id", sa.Text(), nullable=False, comment="the CloudEvent's: one row however often"
        ),
        sa.Column("machine_id", sa.BigInteger(), nullable=False),
        sa.Column("time", _MOMENT, nullable=False, comment="by the device's clock"),
        sa.Column("received", _MOMENT, nullable=False),
        sa.Column(
            "sequence", sa.BigInteger(), nullable=True, comment="counts the device's events up"
        ),
        sa.Column("area", sa.Text(), nullable=False, comment="alarm, drift, bundle"),
        sa.Column("event", sa.Text(), nullable=False, comment="raised, cleared, ..."),
        sa.Column("level", sa.Text(), nullable=True),
        sa.Column("alarm_id", sa.Text(), nullable=True),
        sa.Column("operator", sa.Text(), nullable=False),
        sa.Column("payload", sa.Text(), nullable=False, comment="JSON as it came"),
        sa.PrimaryKeyConstraint("device", "id"),
    )
    op.create_index("events_machine", "events", ["machine_id", "time"], unique=False)
    op.create_index("events_time", "events", ["time"], unique=False)
    op.create_table(
        "instances",
        sa.Column("name", sa.Text(), nullable=False, comment="also the client id at the broker"),
        sa.Column("heard", _MOMENT, nullable=False, comment="its last sign of life"),
        sa.Column(
            "adopter",
            sa.Text(),
            nullable=True,
            comment="who empties its queue at the broker, as it is gone",
        ),
        sa.Column("adopted", _MOMENT, nullable=True),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "machines",
        sa.Column("id", _KEY, autoincrement=True, nullable=False),
        sa.Column("device", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("first_seen", _MOMENT, nullable=False),
        sa.Column("alarm_at", _MOMENT, nullable=True, comment="the device's time of what follows"),
        sa.Column("alarm_got", _MOMENT, nullable=True, comment="when this server got it"),
        sa.Column("level", sa.Text(), nullable=True, comment="normal, alert or alarm"),
        sa.Column("since", _MOMENT, nullable=True),
        sa.Column("alarm_id", sa.Text(), nullable=True),
        sa.Column("acknowledged", sa.Boolean(), nullable=True),
        sa.Column("latched", sa.Boolean(), nullable=True),
        sa.Column("shelving", sa.Text(), nullable=True),
        sa.Column("shelved_until", _MOMENT, nullable=True),
        sa.Column("muted_until", _MOMENT, nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column(
            "score",
            sa.Float(),
            nullable=True,
            comment="at the last change of the alarm; 1.0 is the threshold",
        ),
        sa.Column("zone", sa.Text(), nullable=True),
        sa.Column("sensor_at", _MOMENT, nullable=True),
        sa.Column("sensor_got", _MOMENT, nullable=True),
        sa.Column(
            "sensor", sa.Text(), nullable=True, comment="condition of the microphone (NAMUR NE 107)"
        ),
        sa.Column("sensor_reason", sa.Text(), nullable=True),
        sa.Column("drift_at", _MOMENT, nullable=True),
        sa.Column("drift_got", _MOMENT, nullable=True),
        sa.Column("drift", sa.Boolean(), nullable=True, comment="whether a drift warning stands"),
        sa.Column("heard", _MOMENT, nullable=True, comment="end of the latest window told of"),
        sa.Column(
            "latest",
            sa.Float(),
            nullable=True,
            comment="its score; null when it could not be judged",
        ),
        sa.Column(
            "rank", sa.Float(), server_default=sa.text("0"), nullable=False, comment="of its alarm"
        ),
        sa.Column("sensor_rank", sa.Float(), server_default=sa.text("0"), nullable=False),
        sa.Column("drift_rank", sa.Float(), server_default=sa.text("0"), nullable=False),
        sa.Column("changed", _MOMENT, nullable=False, comment="when this server wrote it last"),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("device", "name", name="machines_device_name"),
        sqlite_autoincrement=True,
    )
    op.create_index("machines_changed", "machines", ["changed"], unique=False)
    op.create_index(
        "machines_worst", "machines", ["rank", "sensor_rank", "drift_rank"], unique=False
    )
    op.create_table(
        "open_scores",
        sa.Column("machine_id", sa.BigInteger(), nullable=False),
        sa.Column("step", sa.Integer(), nullable=False),
        sa.Column("start", _MOMENT, nullable=False),
        sa.Column(
            "bins", sa.Text(), nullable=False, comment="JSON: hundredths of a score to windows"
        ),
        sa.PrimaryKeyConstraint("machine_id", "step", "start"),
    )
    op.create_table(
        "refused",
        sa.Column("id", _KEY, autoincrement=True, nullable=False),
        sa.Column("received", _MOMENT, nullable=False),
        sa.Column("topic", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("payload", sa.LargeBinary(), nullable=False, comment="its first 16 KiB"),
        sa.PrimaryKeyConstraint("id"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "scores",
        sa.Column("machine_id", sa.BigInteger(), nullable=False),
        sa.Column("step", sa.Integer(), nullable=False, comment="seconds: 300 or 3600"),
        sa.Column("start", _MOMENT, nullable=False),
        sa.Column("windows", sa.Integer(), nullable=False, comment="windows told of"),
        sa.Column("judged", sa.Integer(), nullable=False, comment="of them, with a score"),
        sa.Column("exceeded", sa.Integer(), nullable=False, comment="of them, above the threshold"),
        sa.Column(
            "median",
            sa.Float(),
            nullable=True,
            comment="of the scores, to 0.01; 1.0 is the threshold",
        ),
        sa.Column("maximum", sa.Float(), nullable=True),
        sa.Column("threshold", sa.Float(), nullable=True, comment="raw, as it was last in force"),
        sa.PrimaryKeyConstraint("machine_id", "step", "start"),
    )
    op.create_index("scores_start", "scores", ["step", "start"], unique=False)
    op.create_table(
        "sessions",
        sa.Column("digest", sa.Text(), nullable=False, comment="SHA-256 of the cookie"),
        sa.Column("user", sa.Text(), nullable=False),
        sa.Column("expires", _MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("digest"),
    )
    op.create_table(
        "states",
        sa.Column("device", sa.Text(), nullable=False),
        sa.Column("machine", sa.Text(), nullable=False, comment="empty for the device's own"),
        sa.Column(
            "topic", sa.Text(), nullable=False, comment="last level: alarm, sensor, info, ..."
        ),
        sa.Column(
            "time", _MOMENT, nullable=False, comment="the device's; of `status` this server's"
        ),
        sa.Column("received", _MOMENT, nullable=False),
        sa.Column("payload", sa.Text(), nullable=False, comment="JSON as it came"),
        sa.PrimaryKeyConstraint("device", "machine", "topic"),
    )
    op.create_table(
        "users",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False, comment="viewer, operator or admin"),
        sa.Column(
            "password",
            sa.Text(),
            nullable=True,
            comment="scrypt; null for who comes by a proxy alone",
        ),
        sa.Column("created", _MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
