"""What is told of a machine's drift: how it stands, and what happened to a warning."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class DriftEventKind(str, Enum):
    """What happened."""

    WARNED = "warned"  # the machine no longer sounds as it did
    CLEARED = "cleared"  # it does again, or is compared with another baseline
    ACCEPTED = "accepted"  # an operator says that it is well as it sounds now


@dataclass(frozen=True, slots=True)
class DriftStatus:
    """A machine's drift after an evaluation.

    Attributes:
        wall: End of the newest window evaluated, seconds since the epoch.
        active: Whether a warning stands.
        exceeded: Whether this evaluation was above the threshold.
        distance: To the nearest normal state, nats.
        threshold: The distance that counts as drift, nats.
        reference: Which normal state was nearest; 0 is the baseline.
        warning_id: The standing warning; empty when none stands.
        since_wall: When it was raised, seconds since the epoch; None when none stands.
        movement: What moved, in words; empty unless exceeded.
    """

    wall: float
    active: bool
    exceeded: bool
    distance: float
    threshold: float
    reference: int
    warning_id: str = ""
    since_wall: float | None = None
    movement: str = ""


@dataclass(frozen=True, slots=True)
class DriftEvent:
    """Something that happened to a drift warning; whole in itself, so it can be told again.

    Attributes:
        id: The same if it is told twice.
        kind: What happened.
        wall: When, seconds since the epoch.
        warning_id: The warning, common to all its events.
        status: How the drift stands afterwards.
        operator: Who asked for it; empty when nobody did.
        note: What they said to it, or why it happened.
    """

    id: str
    kind: DriftEventKind
    wall: float
    warning_id: str
    status: DriftStatus
    operator: str = ""
    note: str = ""
