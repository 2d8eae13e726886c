"""How messages go out over MQTT: last level of the topic, and what is promised of each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum

from agent.config.publish import MqttConfig


class Promise(IntEnum):
    """What becomes of a message while the broker is away. What is promised more is queued first."""

    EVENT = 0  # on the disk until the broker has acknowledged it
    STATE = 1  # the topic's latest is offered at each connection
    REPLY = 2  # waits in memory
    TELEMETRY = 3  # dropped, and counted


@dataclass(frozen=True, slots=True)
class Route:
    """One topic's way to the broker.

    Attributes:
        topic: Last level of the topic, below the device's or the machine's.
        promise: What becomes of it while the broker is away.
        qos: 0 or 1.
        retain: The broker keeps it for those who subscribe later.
        expiry: After how long the broker forgets it, seconds (MQTT 5); None for never.
        content_type: MIME type, told with MQTT 5; empty for none.
    """

    topic: str
    promise: Promise
    qos: int
    retain: bool
    expiry: Callable[[MqttConfig], int] | None = None
    content_type: str = ""


def _score_expiry(config: MqttConfig) -> int:
    return config.score_expiry_seconds


def _health_expiry(config: MqttConfig) -> int:
    # Retained for who comes later, not for ever: old health is no health.
    return max(1, round(3 * config.health_seconds))


def _severity_expiry(_config: MqttConfig) -> int:
    return 180  # told once a minute at least: for a Home Assistant that starts in between


# Of the device.
STATUS = Route("status", Promise.STATE, qos=1, retain=True)
INFO = Route("info", Promise.STATE, qos=1, retain=True)
HEALTH = Route("health", Promise.TELEMETRY, qos=0, retain=True, expiry=_health_expiry)
OFFERED = Route("offered", Promise.STATE, qos=1, retain=True)
RESPONSE = Route("response", Promise.REPLY, qos=1, retain=False)
# Of a machine.
SCORE = Route("score", Promise.TELEMETRY, qos=0, retain=False, expiry=_score_expiry)
# Of Home Assistant's alone: the score at its pace, and what the latest alarm looks like.
SEVERITY = Route("severity", Promise.TELEMETRY, qos=0, retain=True, expiry=_severity_expiry)
PICTURE = Route("picture", Promise.STATE, qos=1, retain=True, content_type="image/png")
ALARM = Route("alarm", Promise.STATE, qos=1, retain=True)
SENSOR = Route("sensor", Promise.STATE, qos=1, retain=True)
DRIFT = Route("drift", Promise.STATE, qos=1, retain=True)
EVENT = Route(
    "event", Promise.EVENT, qos=1, retain=False, content_type="application/cloudevents+json"
)
