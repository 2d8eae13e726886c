"""What the pipelines tell, turned into the very messages that MQTT carries."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod

from agent.bundle.events import BundleEvent
from agent.core.clock import WALL_CLOCK
from agent.core.records import AlarmEvent, AlarmStatus, Decision
from agent.core.scale import Scale
from agent.drift.events import DriftEvent, DriftStatus
from agent.publish.bundle import bundle_event_message
from agent.publish.drift import drift_event_message, drift_status_message
from agent.publish.messages import (
    Message,
    alarm_message,
    event_message,
    scale_in,
    score_message,
    sensor_message,
    status_of,
)
from agent.publish.status_filter import StatusFilter
from agent.window.condition import SensorCondition


class MessageSink(ABC):
    """A publisher that needs no broker: every message reaches `narrate`, with its kind.

    Args:
        device: This device's name.
    """

    def __init__(self, device: str) -> None:
        self._device = device
        self._news = StatusFilter()

    @abstractmethod
    def narrate(self, kind: str, machine: str, message: Message) -> None:
        """Take a message. Called from the threads of all machines; must neither wait nor raise.

        Args:
            kind: `score`, `alarm`, `event`, `sensor` or `drift`: the topic's last level.
            machine: The machine.
            message: The payload.
        """

    def publish(self, machine: str, decision: Decision, *, first: bool) -> None:
        """Tell the window's score, and the alarm's state when that is new."""
        message = score_message(self._device, machine, decision, clock=WALL_CLOCK.quality)
        self.narrate("score", machine, message)
        status = status_of(decision)
        if self._news.note(machine, status) or first:
            moment, score = decision.score.window.end_wall, decision.score.value
            self._alarm(machine, status, moment, score, scale_in(decision))

    def tell(self, machine: str, event: AlarmEvent) -> None:
        """Tell an alarm's event, and the state it led to."""
        self._news.note(machine, event.status)
        self._alarm(machine, event.status, event.wall, event.score, scale_in(event))
        message = event_message(self._device, machine, event, clock=WALL_CLOCK.quality)
        self.narrate("event", machine, message)

    def sensor(self, machine: str, condition: SensorCondition) -> None:
        """Tell the condition of a machine's microphone."""
        message = sensor_message(self._device, machine, condition, time=time.time())
        self.narrate("sensor", machine, message)

    def drift(self, machine: str, status: DriftStatus) -> None:
        """Tell how a machine's drift stands."""
        self.narrate("drift", machine, drift_status_message(self._device, machine, status))

    def tell_drift(self, machine: str, event: DriftEvent) -> None:
        """Tell a drift warning's event."""
        message = drift_event_message(self._device, machine, event, clock=WALL_CLOCK.quality)
        self.narrate("event", machine, message)

    def tell_bundle(self, machine: str, event: BundleEvent) -> None:
        """Tell what happened to a machine's bundle."""
        message = bundle_event_message(self._device, machine, event, clock=WALL_CLOCK.quality)
        self.narrate("event", machine, message)

    def _alarm(
        self,
        machine: str,
        status: AlarmStatus,
        moment: float,
        score: float | None,
        scale: Scale,
    ) -> None:
        message = alarm_message(
            self._device, machine, status, time=moment, score=score, scale=scale
        )
        self.narrate("alarm", machine, message)
