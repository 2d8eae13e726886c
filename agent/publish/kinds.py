"""Every kind of message about a machine: what it tells of, how it is built, and where it goes.

Whatever publishes (MQTT, JSON lines, the page, the history, the log) works from these rows. A new
kind is a row here, beside the record of what happened (docs/notes/architecture.md).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from agent.bundle.events import (
    BundleCloudEvent,
    BundleEvent,
    bundle_event_line,
    bundle_event_message,
)
from agent.core.cloud_event import Message, Stamp
from agent.core.records import AlarmEvent, Decision
from agent.core.schema import Strict
from agent.drift.events import (
    Drift,
    DriftCloudEvent,
    DriftEvent,
    DriftStatus,
    drift_event_line,
    drift_event_message,
    drift_status_line,
    drift_status_message,
)
from agent.publish import payloads, route
from agent.publish.cloud_events import CloudEvent
from agent.publish.messages import (
    alarm_message,
    event_message,
    score_message,
    sensor_message,
)
from agent.publish.news import alarm_news, sensor_news
from agent.publish.route import Route
from agent.window.condition import SensorCondition


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of message about a machine.

    Attributes:
        name: Of its schema: `docs/reference/schemas/<name>.json`.
        route: Its topic, and what is promised of it.
        of: Types of what it tells of.
        model: Its payload, field by field.
        build: Makes the payload.
        news: Of a state that is told when it is new: given what happened and the state told last
            (None at first), the state now and whether to tell it. None where each is told.
        history: The history on the device keeps it.
        line: Level and text of its line in the log; None where `ConsolePublisher` has its own.
    """

    name: str
    route: Route
    of: tuple[type, ...]
    model: type[Strict]
    build: Callable[[Stamp, Any], Message]
    news: Callable[[Any, Any], tuple[object, bool]] | None = None
    history: bool = False
    line: Callable[[Any], tuple[int, str]] | None = None

    @property
    def topic(self) -> str:
        """Last level of its topic; `kind` in JSON lines and on the page."""
        return self.route.topic


#: In the order in which one happening's messages are told.
KINDS: tuple[Kind, ...] = (
    Kind("score", route.SCORE, (Decision,), payloads.Score, score_message, history=True),
    Kind(
        "alarm", route.ALARM, (Decision, AlarmEvent), payloads.Alarm, alarm_message,
        news=alarm_news,
    ),
    Kind("event", route.EVENT, (AlarmEvent,), CloudEvent, event_message, history=True),
    Kind(
        "drift_event", route.EVENT, (DriftEvent,), DriftCloudEvent, drift_event_message,
        line=drift_event_line,
    ),
    Kind(
        "bundle_event", route.EVENT, (BundleEvent,), BundleCloudEvent, bundle_event_message,
        line=bundle_event_line,
    ),
    Kind(
        "sensor", route.SENSOR, (SensorCondition,), payloads.Sensor, sensor_message,
        news=sensor_news,
    ),
    Kind(
        "drift", route.DRIFT, (DriftStatus,), Drift, drift_status_message,
        history=True, line=drift_status_line,
    ),
)  # fmt: skip
KIND: Mapping[str, Kind] = {kind.name: kind for kind in KINDS}
