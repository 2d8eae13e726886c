"""What happened to a machine's bundle as a payload and as a line of the log: pure functions."""

from __future__ import annotations

import logging

from agent.bundle.events import BundleEvent, BundleEventKind
from agent.core.clock import utc
from agent.publish.cloud_events import BundleCloudEvent, BundleEventData
from agent.publish.messages import Message, Stamp, enveloped


def bundle_event_message(stamp: Stamp, event: BundleEvent) -> Message:
    """Something that happened to a machine's bundle (`<machine>/event`)."""
    data = BundleEventData(
        device=stamp.device,
        machine=stamp.machine,
        time=utc(event.wall),
        clock=stamp.clock,
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


def bundle_event_line(event: BundleEvent) -> tuple[int, str]:
    """What happened to a machine's bundle."""
    used = "none"
    if event.threshold is not None:
        used = f"{event.bundle} ({event.rows} rows, threshold {event.threshold:.4g})"
    grave = event.kind is BundleEventKind.ROLLED_BACK
    return logging.ERROR if grave else logging.WARNING, (
        f"bundle {event.kind.value.replace('_', ' ')}: {event.reason}; in use from now on: {used}"
    )
