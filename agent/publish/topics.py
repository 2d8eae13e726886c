"""Makes messages for the broker: each under its topic, as its route says."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import replace

from agent.bundle.offer import OFFER
from agent.config.publish import MqttConfig
from agent.core.clock import WALL_CLOCK
from agent.core.cloud_event import Message, Stamp, encode
from agent.publish import route
from agent.publish.messages import probe_message, status_message
from agent.publish.mqtt_message import MqttMessage
from agent.publish.route import Promise, Route


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

    @property
    def offers(self) -> str:
        """Topic filter of offered bundles."""
        return f"{self.base}/+/{OFFER}"

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
        return self.message(route.STATUS, message)

    def message(self, way: Route, message: Message, below: str = "") -> MqttMessage:
        """A message on its way.

        Args:
            way: Its route.
            message: The payload; of an event with an `id`.
            below: The machine; of an answer, the topic's last level.
        """
        levels = (below, way.topic) if way.promise is not Promise.REPLY else (way.topic, below)
        return MqttMessage(
            "/".join((self.base, *filter(None, levels))),
            encode(message),
            way.qos,
            way.retain,
            id=message["id"] if way.promise is Promise.EVENT else "",
            expiry_seconds=None if way.expiry is None else way.expiry(self._config),
            content_type=way.content_type,
        )

    def picture(self, machine: str, png: bytes) -> MqttMessage:
        """What a machine's latest alarm looks like, as a PNG."""
        message = self.message(route.PICTURE, {}, machine)
        return replace(message, payload=png)

    def no_drift(self, machine: str) -> MqttMessage:
        """Nothing at all, which removes what the broker retained of a machine's drift."""
        return MqttMessage(f"{self.base}/{machine}/drift", b"", qos=1, retain=True)

    def probes(self) -> list[MqttMessage]:
        """An event for each machine that proves nothing but the way."""
        found = []
        for machine in self._machines:
            stamp = Stamp(self._device, machine, time.time(), WALL_CLOCK.quality)
            probe = self.message(route.EVENT, probe_message(stamp, uuid.uuid4().hex), machine)
            found.append(replace(probe, id=""))  # not kept, as it will be sent again
        return found
