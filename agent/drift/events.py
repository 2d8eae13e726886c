"""What is told of a machine's drift: how it stands, and what happened to a warning."""

from __future__ import annotations

import logging
from enum import Enum
from typing import Annotated

from pydantic import Field

from agent.core.clock import utc
from agent.core.cloud_event import CloudEventBase, Message, Stamp, enveloped
from agent.core.fields import Clock, Device, Machine, Time
from agent.core.reasons import UnusualBand
from agent.core.schema import Strict

_MOVEMENT = (
    "What has changed, in Hz and dB, and since when; empty unless the threshold was exceeded"
)
_Bands = Annotated[
    tuple[UnusualBand, ...],
    Field(
        description="The bands that have changed for good against healthy (or accepted) sound; "
        "empty unless the threshold was exceeded, or when none stands out"
    ),
]


class DriftEventKind(str, Enum):
    """What happened."""

    WARNED = "warned"  # the machine no longer sounds as it did
    CLEARED = "cleared"  # it does again, or is compared with another baseline
    ACCEPTED = "accepted"  # an operator says that it is well as it sounds now


class DriftFigures(Strict):
    """An evaluation of a machine's drift."""

    active: Annotated[bool, Field(description="Whether a warning stands")]
    exceeded: Annotated[bool, Field(description="Whether this evaluation was above the threshold")]
    distance: Annotated[
        float, Field(ge=0, description="Distance to the nearest normal state, nats")
    ]
    threshold: Annotated[float, Field(ge=0, description="The distance that counts as drift, nats")]
    reference: Annotated[int, Field(ge=0, description="Nearest normal state; 0 is the baseline")]


class DriftStatus(DriftFigures):
    """A machine's drift after an evaluation."""

    wall: Annotated[
        float, Field(description="End of the newest window evaluated, seconds since the epoch")
    ]
    warning_id: Annotated[
        str, Field(description="The standing warning; empty when none stands")
    ] = ""
    since_wall: Annotated[
        float | None, Field(description="When it was raised, likewise; null when none stands")
    ] = None
    movement: Annotated[str, Field(description=_MOVEMENT)] = ""
    bands: _Bands = ()


class DriftEvent(Strict):
    """Something that happened to a drift warning; whole in itself, so it can be told again."""

    id: Annotated[str, Field(description="The same if it is told twice")]
    kind: Annotated[DriftEventKind, Field(description="What happened")]
    wall: Annotated[float, Field(description="When, seconds since the epoch")]
    warning_id: Annotated[str, Field(description="The warning, common to all its events")]
    status: Annotated[DriftStatus, Field(description="How the drift stands afterwards")]
    operator: Annotated[str, Field(description="Who asked for it; empty when nobody did")] = ""
    note: Annotated[str, Field(description="What they said to it, or why it happened")] = ""


class _Headed(Strict):
    device: Device
    machine: Machine
    time: Annotated[Time, Field(description="End of the newest window evaluated")]


class Drifted(DriftFigures, _Headed):
    """How drift stands."""

    since: Annotated[
        Time | None, Field(description="When the warning was raised; null when none stands")
    ]
    movement: Annotated[str, Field(description=_MOVEMENT)]
    bands: _Bands


class Drift(Drifted):
    """Whether the machine's sound has moved away from what it was, slowly or for good."""

    warning_id: Annotated[
        str | None, Field(description="The standing warning; null when none stands")
    ]


class DriftEventData(Drifted):
    """What happened to a drift warning, and how the drift stands afterwards."""

    clock: Clock
    event: Annotated[DriftEventKind, Field(description="What happened")]
    warning_id: Annotated[
        str, Field(min_length=1, description="The warning, common to all its events")
    ]
    operator: Annotated[str, Field(description="Who asked for it; empty when nobody did")]
    note: Annotated[str, Field(description="What they said to it, or why it happened")]


class DriftCloudEvent(CloudEventBase):
    """Something that happened to a drift warning, on the topic of the alarms' events."""

    type: Annotated[
        str, Field(pattern=r"^auscult\.drift\.[a-z]+$", description="`auscult.drift.<event>`")
    ]
    data: Annotated[DriftEventData, Field(description="What happened")]


def drift_status_message(stamp: Stamp, status: DriftStatus) -> Message:
    """How a machine's drift stands (`<machine>/drift`, retained)."""
    since = None if status.since_wall is None else utc(status.since_wall)
    return Drift(
        device=stamp.device,
        machine=stamp.machine,
        time=utc(status.wall),
        since=since,
        warning_id=status.warning_id or None,
        **status.model_dump(exclude={"wall", "warning_id", "since_wall"}),
    ).model_dump(mode="json")


def drift_event_message(stamp: Stamp, event: DriftEvent) -> Message:
    """Something that happened to a drift warning (`<machine>/event`)."""
    data = {
        **drift_status_message(stamp, event.status),
        "event": event.kind,
        **event.model_dump(include={"warning_id", "operator", "note"}),
    }
    kind = f"auscult.drift.{event.kind.value}"
    return enveloped(DriftCloudEvent, stamp, event.id, kind, event.wall, **data)


def drift_status_line(status: DriftStatus) -> tuple[int, str]:
    """An evaluation, for those who debug."""
    return logging.DEBUG, f"drift {status.distance:.4g} of {status.threshold:.4g} nats"


def drift_event_line(event: DriftEvent) -> tuple[int, str]:
    """Level and text of its line in the log."""
    status, grave = event.status, event.kind is DriftEventKind.WARNED
    by = f" by {event.operator}" if event.operator else ""
    moved = f": {status.movement}" if grave and status.movement else ""
    note = f": {event.note}" if event.note else ""
    return logging.WARNING if grave else logging.INFO, (
        f"drift {event.kind.value}{by}, distance {status.distance:.4g}, "
        f"threshold {status.threshold:.4g} nats (warning {event.warning_id}){moved}{note}"
    )
