"""What happened to a machine's bundle as a payload: a pure function."""

from __future__ import annotations

from agent.bundle.events import BundleEvent
from agent.core.clock import ClockQuality, utc
from agent.publish.cloud_events import BundleCloudEvent, BundleEventData
from agent.publish.messages import Message, enveloped


def bundle_event_message(
    device: str,
    machine: str,
    event: BundleEvent,
    *,
    clock: ClockQuality = ClockQuality.UNSYNCHRONISED,
) -> Message:
    """Something that happened to a machine's bundle (`<machine>/event`).

    Args:
        device: This device's name.
        machine: The machine.
        event: What happened.
        clock: Whether its times can be believed; unless somebody vouches for them, they cannot.
    """
    data = BundleEventData(
        device=device,
        machine=machine,
        time=utc(event.wall),
        clock=clock,
        event=event.kind,
        reason=event.reason,
        old_digest=event.old_digest,
        new_digest=event.new_digest or None,
        bundle=event.bundle,
        rows=event.rows,
        version=event.version,
        threshold=event.threshold,
    )
    return enveloped(BundleCloudEvent, event.id, f"auscult.bundle.{event.kind.value}", data)
