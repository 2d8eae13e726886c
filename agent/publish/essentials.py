"""An event cut down to what matters, for a broker that will not have the whole of it."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from agent.publish.mqtt_message import MqttMessage

# What tells people that something is the matter, of an event's `data`.
_KEPT = (
    "device", "machine", "event", "level", "previous", "alarm_id", "kind", "score", "threshold",
    "zone", "state", "status", "reason",
)  # fmt: skip
_TEXT = 80


def essentials(message: MqttMessage) -> MqttMessage:
    """The event with its identity, and of its data the short fields that matter; `shortened` set.

    An event that cannot be read is returned as it is.
    """
    try:
        event = json.loads(message.payload)
        data: dict[str, Any] = event["data"]
        kept = {
            name: value[:_TEXT] if isinstance(value, str) else value
            for name, value in data.items()
            if name in _KEPT and isinstance(value, (str, int, float, bool))
        }
        event["data"] = kept
        event["shortened"] = "true"
        payload = json.dumps(event, ensure_ascii=False, separators=(",", ":")).encode()
    except (ValueError, TypeError, KeyError, AttributeError):
        return message
    return replace(message, payload=payload) if len(payload) < len(message.payload) else message
