"""A message ready for the broker."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class MqttMessage:
    """A message for the broker.

    Attributes:
        topic: Full topic.
        payload: Bytes; none at all removes what the broker retained.
        qos: 0 or 1.
        retain: The broker keeps it for those who subscribe later.
        id: Of an alarm event: the same however often it is delivered. Else empty.
        expiry_seconds: The broker forgets it after this (MQTT 5); None for never.
        content_type: MIME type, told with MQTT 5; empty for none.
    """

    topic: str
    payload: bytes
    qos: int
    retain: bool
    id: str = ""
    expiry_seconds: int | None = None
    content_type: str = ""
