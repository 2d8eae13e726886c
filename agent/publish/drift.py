"""A machine's drift as payloads: pure functions."""

from __future__ import annotations

from agent.core.clock import ClockQuality, utc
from agent.drift.events import DriftEvent, DriftStatus
from agent.publish.cloud_events import DriftCloudEvent, DriftEventData
from agent.publish.messages import Message, drift_message, enveloped


def drift_status_message(device: str, machine: str, status: DriftStatus) -> Message:
    """How a machine's drift stands (`<machine>/drift`, retained)."""
    return drift_message(
        device,
        machine,
        time=status.wall,
        active=status.active,
        exceeded=status.exceeded,
        distance=status.distance,
        threshold=status.threshold,
        reference=status.reference,
        warning_id=status.warning_id,
        since=status.since_wall,
        movement=status.movement,
    )


def drift_event_message(
    device: str,
    machine: str,
    event: DriftEvent,
    *,
    clock: ClockQuality = ClockQuality.UNSYNCHRONISED,
) -> Message:
    """Something that happened to a drift warning (`<machine>/event`).

    Args:
        device: This device's name.
        machine: The machine.
        event: What happened.
        clock: Whether its times can be believed; unless somebody vouches for them, they cannot.
    """
    data = DriftEventData.model_validate(
        {
            **drift_status_message(device, machine, event.status),
            "time": utc(event.wall),
            "clock": clock,
            "event": event.kind,
            "warning_id": event.warning_id,
            "operator": event.operator,
            "note": event.note,
        }
    )
    return enveloped(DriftCloudEvent, event.id, f"auscult.drift.{event.kind.value}", data)
