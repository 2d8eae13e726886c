"""A machine's drift as payloads and as a line of the log: pure functions."""

from __future__ import annotations

import logging

from agent.core.clock import utc
from agent.drift.events import DriftEvent, DriftEventKind, DriftStatus
from agent.publish.cloud_events import DriftCloudEvent, DriftEventData
from agent.publish.messages import Message, Stamp, enveloped
from agent.publish.payloads import Drift


def drift_status_message(stamp: Stamp, status: DriftStatus) -> Message:
    """How a machine's drift stands (`<machine>/drift`, retained)."""
    return Drift(
        device=stamp.device,
        machine=stamp.machine,
        time=utc(status.wall),
        active=status.active,
        exceeded=status.exceeded,
        distance=status.distance,
        threshold=status.threshold,
        reference=status.reference,
        warning_id=status.warning_id or None,
        since=None if status.since_wall is None else utc(status.since_wall),
        movement=status.movement,
    ).model_dump(mode="json")


def drift_event_message(stamp: Stamp, event: DriftEvent) -> Message:
    """Something that happened to a drift warning (`<machine>/event`)."""
    data = DriftEventData.model_validate(
        {
            **drift_status_message(stamp, event.status),
            "time": utc(event.wall),
            "clock": stamp.clock,
            "event": event.kind,
            "warning_id": event.warning_id,
            "operator": event.operator,
            "note": event.note,
        }
    )
    return enveloped(DriftCloudEvent, event.id, f"auscult.drift.{event.kind.value}", data)


def drift_status_line(status: DriftStatus) -> tuple[int, str]:
    """An evaluation, for those who debug."""
    return logging.DEBUG, f"drift {status.distance:.4g} of {status.threshold:.4g} nats"


def drift_event_line(event: DriftEvent) -> tuple[int, str]:
    """What happened to a drift warning."""
    status, grave = event.status, event.kind is DriftEventKind.WARNED
    by = f" by {event.operator}" if event.operator else ""
    moved = f": {status.movement}" if grave and status.movement else ""
    note = f": {event.note}" if event.note else ""
    return logging.WARNING if grave else logging.INFO, (
        f"drift {event.kind.value}{by}, distance {status.distance:.4g}, "
        f"threshold {status.threshold:.4g} nats (warning {event.warning_id}){moved}{note}"
    )
