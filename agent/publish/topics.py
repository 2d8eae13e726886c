"""Under which topic each message goes out, how surely, and for how long the broker keeps it."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import replace

from agent.bundle.events import BundleEvent
from agent.config.publish import MqttConfig
from agent.core.clock import WALL_CLOCK
from agent.core.records import AlarmStatus, Decision
from agent.core.scale import Scale
from agent.drift.events import DriftEvent, DriftStatus
from agent.publish.bundle import bundle_event_message
from agent.publish.drift import drift_event_message, drift_status_message
from agent.publish.messages import (
    CLOUD_EVENT,
    Message,
    alarm_message,
    encode,
    probe_message,
    score_message,
    sensor_message,
    status_message,
)
from agent.publish.mqtt_message import MqttMessage
from agent.window.condition import SensorCondition


class Topics:
    """Makes messages for the broker (topics: docs/reference/mqtt.md). Pure but for the clock.

    Args:
        config: Prefix and expiry.
        device: This device's name.
        machines: The machines it listens to.
        unjudged: Tells, whenever asked, those that have no bundle yet.
    """

    def __init__(
        self,
        config: MqttConfig,
        device: str,
        machines: tuple[str, ...],
        unjudged: Callable[[], Sequence[str]] = tuple,
    ) -> None:
        self._config = config
        self._device = device
        self._machines = machines
        self._unjudged = unjudged
        #: Topic of the device: `<prefix>/<device>`.
        self.base = f"{config.prefix}/{device}"

    @property
    def requests(self) -> str:
        """Topic filter of the commands."""
        return f"{self.base}/request/+"

    def status(self, status: str, *, reason: str = "", timeless: bool = False) -> MqttMessage:
        """Whether the agent runs; `timeless` for the last will, which is written beforehand."""
        message = status_message(
            self._device,
            status,
            machines=self._machines,
            time=None if timeless else time.time(),
            reason=reason,
            unjudged=() if timeless else self._unjudged(),
        )
        return self.state("status", message)

    def state(self, level: str, message: Message) -> MqttMessage:
        """What stays true until it is told otherwise: retained, below the device's topic."""
        return MqttMessage(f"{self.base}/{level}", encode(message), qos=1, retain=True)

    def alarm(
        self,
        machine: str,
        status: AlarmStatus,
        moment: float,
        score: float | None,
        scale: Scale,
    ) -> MqttMessage:
        """A machine's alarm as it stands."""
        message = alarm_message(
            self._device, machine, status, time=moment, score=score, scale=scale
        )
        return self.state(f"{machine}/alarm", message)

    def sensor(self, machine: str, condition: SensorCondition) -> MqttMessage:
        """The condition of a machine's microphone."""
        message = sensor_message(self._device, machine, condition, time=time.time())
        return self.state(f"{machine}/sensor", message)

    def drift(self, machine: str, status: DriftStatus) -> MqttMessage:
        """How a machine's drift stands."""
        return self.state(f"{machine}/drift", drift_status_message(self._device, machine, status))

    def no_drift(self, machine: str) -> MqttMessage:
        """Nothing at all, which removes what the broker retained of a machine's drift."""
        return MqttMessage(f"{self.base}/{machine}/drift", b"", qos=1, retain=True)

    def drift_event(self, machine: str, event: DriftEvent) -> MqttMessage:
        """Something that happened to a drift warning."""
        return self.event(
            machine,
            drift_event_message(self._device, machine, event, clock=WALL_CLOCK.quality),
        )

    def bundle_event(self, machine: str, event: BundleEvent) -> MqttMessage:
        """Something that happened to a machine's bundle."""
        return self.event(
            machine,
            bundle_event_message(self._device, machine, event, clock=WALL_CLOCK.quality),
        )

    def event(self, machine: str, message: Message) -> MqttMessage:
        """A CloudEvent."""
        return MqttMessage(
            f"{self.base}/{machine}/event", encode(message), 1, retain=False,
            id=message["id"], content_type=CLOUD_EVENT,
        )  # fmt: skip

    def probes(self) -> list[MqttMessage]:
        """An event for each machine that proves nothing but the way."""
        return [
            replace(
                self.event(
                    machine,
                    probe_message(
                        self._device, machine, uuid.uuid4().hex,
                        time=time.time(), clock=WALL_CLOCK.quality,
                    ),
                ),
                id="",  # not kept, as it will be sent again
            )
            for machine in self._machines
        ]  # fmt: skip

    def score(self, machine: str, decision: Decision) -> MqttMessage:
        """One window judged."""
        message = score_message(self._device, machine, decision, clock=WALL_CLOCK.quality)
        return MqttMessage(
            f"{self.base}/{machine}/score", encode(message), 0, retain=False,
            expiry_seconds=self._config.score_expiry_seconds,
        )  # fmt: skip

    def health(self, message: Message) -> MqttMessage:
        """How the agent is: retained for who comes later, not for ever: old health is no health."""
        return MqttMessage(
            f"{self.base}/health", encode(message), 0, retain=True,
            expiry_seconds=max(1, round(3 * self._config.health_seconds)),
        )  # fmt: skip

    def response(self, command: str, message: Message) -> MqttMessage:
        """The answer to a command."""
        return MqttMessage(f"{self.base}/response/{command}", encode(message), 1, retain=False)
