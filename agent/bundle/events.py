"""What happens to a machine's bundle: changed, put back, refused or missing; and how it is told."""

from __future__ import annotations

import logging
from enum import Enum
from typing import Annotated

from pydantic import BeforeValidator, Field

from agent.core.cloud_event import CloudEventBase, Happened, Message, Stamp, enveloped
from agent.core.fields import Count
from agent.core.schema import Strict


class BundleEventKind(str, Enum):
    """What happened."""

    SWAPPED = "swapped"  # the machine is judged with another bundle from now on
    ROLLED_BACK = "rolled_back"  # that one failed its trial: the one before it judges again
    SHADOW = "shadow"  # it is commissioned: it listens, and raises no alarms yet
    LIVE = "live"  # that is over: its alarms are told from now on
    REFUSED = "refused"  # another bundle was to be taken up and cannot be used
    MISSING = "missing"  # nothing of the bundle that the configuration names is there


class BundleChange(Strict):
    """What changed, and what the machine is judged with from now on."""

    reason: Annotated[str, Field(description="Who asked for it, or what failed")]
    old_digest: Annotated[
        str,
        Field(
            description="`manifest_sha256` of the bundle used before; of a refusal, of the one "
            "still in use; empty when there was none"
        ),
    ]
    new_digest: Annotated[
        str | None,
        # An event kept by an earlier version has an empty one.
        BeforeValidator(lambda digest: digest or None),
        Field(
            description="Of the one used from now on; of a refusal, of the one refused, null when "
            "that could not be read"
        ),
    ]
    bundle: Annotated[
        str, Field(description="Folder of the bundle in use from now on; empty without any")
    ]
    rows: Annotated[Count, Field(description="Rows of its memory bank")]
    version: Annotated[Count, Field(description="Version of that bank; 0 as exported")]
    threshold: Annotated[
        float | None,
        Field(description="Its threshold, in units of the score; null without a bundle"),
    ]


class BundleEvent(BundleChange):
    """Something that happened to a machine's bundle; whole in itself, so it can be told again."""

    id: Annotated[str, Field(description="The same if it is told twice")]
    kind: Annotated[BundleEventKind, Field(description="What happened")]
    wall: Annotated[float, Field(description="When, seconds since the epoch")]


class _Headed(Happened):
    event: Annotated[BundleEventKind, Field(description="What happened")]


class BundleEventData(BundleChange, _Headed):
    """What happened to the bundle that a machine is judged with."""


class BundleCloudEvent(CloudEventBase):
    """A bundle was changed, put back, refused or not there; on the topic of the alarms' events."""

    type: Annotated[
        str, Field(pattern=r"^auscult\.bundle\.[a-z_]+$", description="`auscult.bundle.<event>`")
    ]
    data: Annotated[BundleEventData, Field(description="What happened")]


def bundle_event_message(stamp: Stamp, event: BundleEvent) -> Message:
    """Something that happened to a machine's bundle (`<machine>/event`)."""
    return enveloped(
        BundleCloudEvent, stamp, event.id, f"auscult.bundle.{event.kind.value}", event.wall,
        event=event.kind, **event.model_dump(exclude={"id", "kind", "wall"}),
    )  # fmt: skip


def bundle_event_line(event: BundleEvent) -> tuple[int, str]:
    """Level and text of its line in the log."""
    used = "none"
    if event.threshold is not None:
        used = f"{event.bundle} ({event.rows} rows, threshold {event.threshold:.4g})"
    grave = event.kind is BundleEventKind.ROLLED_BACK
    return logging.ERROR if grave else logging.WARNING, (
        f"bundle {event.kind.value.replace('_', ' ')}: {event.reason}; in use from now on: {used}"
    )
