"""Up to which number a device's events were acknowledged, and when it was asked for others."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add columns to `devices`."""
    for column in (
        sa.Column(
            "acknowledged",
            sa.BigInteger(),
            nullable=True,
            comment="up to this number the broker had every event, by the device's word",
        ),
        sa.Column(
            "asked",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="when it was asked last for events that never came",
        ),
        sa.Column("asked_for", sa.BigInteger(), nullable=True, comment="how many these were"),
        sa.Column(
            "asks",
            sa.Integer(),
            nullable=False,
            server_default=sa.text("0"),
            comment="how often it was asked for as many",
        ),
    ):
        op.add_column("devices", column)
