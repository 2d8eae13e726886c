"""One event as a row of the outbox: its checksum, and what makes it fit to be sent.

SQLite's pages have no checksum: a row that a failing disk altered is read as if it were whole. Sent
as it is, it may end the connection, and with it every event behind it.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from typing import Any

from agent.publish.mqtt_message import MqttMessage

# As bytes: a text that is no UTF-8 must not keep the rest of the row from being read.
COLUMNS = (
    "seq, CAST(id AS BLOB), CAST(topic AS BLOB), CAST(payload AS BLOB), CAST(content_type AS BLOB)"
)
_LONGEST_TOPIC = 65_535
_UNNUMBERED = b'"sequence":null'


class RowError(Exception):
    """A row is not what was written; says why."""


def checksum(message: MqttMessage) -> str:
    """SHA-256 over what is kept of an event, each part with its length."""
    return _checksum(
        message.id.encode(), message.topic.encode(), message.payload, message.content_type.encode()
    )


def _checksum(*parts: bytes) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
    return digest.hexdigest()


def numbered(message: MqttMessage, seq: int) -> MqttMessage:
    """The event with its number in it (`sequence` of CloudEvents): a consumer sees a gap.

    The number is given by the outbox, so that it is put in when the event is sent.
    """
    stated = b'"sequence":"%012d"' % seq
    if _UNNUMBERED in message.payload:
        return replace(message, payload=message.payload.replace(_UNNUMBERED, stated, 1))
    body = message.payload.rstrip()  # of an auscult that did not number them
    if not body.startswith(b"{") or not body.endswith(b"}") or len(body) <= len(b"{}"):
        return message
    return replace(message, payload=body[:-1] + b"," + stated + b"}")


def message_of(row: tuple[Any, ...]) -> MqttMessage:
    """The event that a row holds.

    Args:
        row: `COLUMNS`, and the checksum, which rows of earlier versions lack (None).

    Raises:
        RowError: It is not what was written.
    """
    seq, *parts, stated = row
    if not isinstance(seq, int) or not all(isinstance(part, bytes) for part in parts):
        raise RowError("a field is missing or of another kind")
    if stated is not None and _checksum(*parts) != stated:
        raise RowError("its checksum differs")
    id_, topic, payload, content_type = parts
    try:
        message = MqttMessage(
            topic.decode(), payload, 1, False, id_.decode(), content_type=content_type.decode()
        )
        event = json.loads(payload)
    except (ValueError, RecursionError) as fault:
        raise RowError(f"it cannot be read: {fault}") from fault
    name = message.topic
    if not name or len(topic) > _LONGEST_TOPIC or any(sign in name for sign in "+#\0"):
        raise RowError("its topic is none")
    if not message.id or not isinstance(event, dict):
        raise RowError("it is no event")
    return message
