"""Messages that the broker will not have: counted, and told now and then."""

from __future__ import annotations

import logging
import time

from agent.publish.mqtt_message import MqttMessage

log = logging.getLogger(__name__)

_TELL_SECONDS = 60.0


class Refusals:
    """Counts refusals, and tells of a topic's at most once a minute.

    Args:
        broker: Its address, for people.
    """

    def __init__(self, broker: str) -> None:
        self._broker = broker
        self._told: dict[str, float] = {}
        self.count = 0

    def note(self, topic: str, why: str, *, is_event: bool) -> None:
        """Take one into account.

        Args:
            topic: The message's.
            why: What the broker says.
            is_event: Whether it is kept and offered again.
        """
        self.count += 1
        now = time.monotonic()
        if now < self._told.get(topic, 0.0):
            return
        self._told[topic] = now + _TELL_SECONDS
        log.error(
            "%s: the broker refused a message to %s (%s); check its access rules and limits. %s",
            self._broker, topic, why,
            "The alarm event is kept and offered again" if is_event else "It is not offered again",
        )  # fmt: skip

    def ended(self, message: MqttMessage, fate: str) -> None:
        """A message was found to end the connection whenever it is sent.

        Args:
            message: The one.
            fate: What becomes of it.
        """
        self.count += 1
        what = f"the event {message.id}" if message.id else "a message"
        log.error(
            "%s: the broker ends the connection over %s of %d bytes to %s: %s. Check its access "
            "rules and its limit of size",
            self._broker, what, len(message.payload), message.topic, fate,
        )  # fmt: skip
