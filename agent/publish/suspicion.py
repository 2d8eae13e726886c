"""Finding the message that costs us the connection, where the broker says no by hanging up.

An MQTT 3.1.1 broker has no other way: of a message larger than its limit, or of a topic that its
rules deny, it closes the connection. Offered again at the next one, such a message would hold up
everything behind it for ever. So after short connections in a row one message is sent at a time,
each to be acknowledged: what is under way when the connection ends is the one.
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field

from agent.publish.mqtt_message import MqttMessage

# A connection that ends sooner than this was short, seconds.
SHORT_SECONDS = 10.0
# So many short connections in a row make careful, and as many ends with the same message find it.
_TWICE = 2
# For so long what was found is not sent again, seconds.
_BANNED_SECONDS = 600.0


@dataclass(slots=True)
class Suspicion:
    """What is known of the messages that ended connections."""

    _short: int = 0
    _ended: Counter[tuple[str, str]] = field(default_factory=Counter)
    # By topic, the size from which on a message ends the connection, and until when that holds.
    _banned: dict[str, tuple[int, float]] = field(default_factory=dict)

    @property
    def careful(self) -> bool:
        """Whether one message is to be sent at a time, each to be acknowledged."""
        return self._short >= _TWICE

    def well(self) -> None:
        """The connection has lasted: whatever was found stays banned for its time."""
        self._short = 0
        self._ended.clear()

    def ended(self, seconds: float, under_way: list[MqttMessage]) -> MqttMessage | None:
        """A connection has ended.

        Args:
            seconds: How long it lasted.
            under_way: What it had yet to acknowledge, oldest first.

        Returns:
            The message that ended it, once that is known.
        """
        if seconds >= SHORT_SECONDS:
            self.well()
            return None
        careful, self._short = self.careful, self._short + 1
        if not careful or len(under_way) != 1:
            return None
        (message,) = under_way
        key = (message.topic, message.id)
        self._ended[key] += 1
        if self._ended[key] < _TWICE:
            return None
        del self._ended[key]
        return message

    def ban(self, message: MqttMessage) -> None:
        """A state or telemetry: none of its topic that is as large is sent for a while."""
        self._banned[message.topic] = (len(message.payload), time.monotonic() + _BANNED_SECONDS)

    def banned(self, message: MqttMessage) -> bool:
        """Whether a message would end the connection, as far as is known."""
        size, until = self._banned.get(message.topic, (0, 0.0))
        if until and time.monotonic() >= until:
            del self._banned[message.topic]
            return False
        return bool(until) and len(message.payload) >= size
