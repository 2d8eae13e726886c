"""Proof that what is sent arrives, for brokers of MQTT 3.1.1, which cannot say that they refuse.

Such a broker acknowledges a message that its rules deny, and drops it. So the agent subscribes to
the topics that matter and waits for its own messages to come back. What does not come back from a
topic, while other topics show that this user may read, is taken for denied: its events are kept and
offered again. Where nothing comes back at all, nothing can be proven, and that is told.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass

from agent.monitor.observed import Proof
from agent.publish.mqtt_message import MqttMessage

log = logging.getLogger(__name__)

# A message that was acknowledged is back within this, or counts as lost, seconds.
_PATIENCE_SECONDS = 10.0
# An event that proves nothing but the way is sent so often, seconds; and so often while a topic is
# denied, or a connection has proven nothing yet.
_PROBE_SECONDS = 86_400.0
_RETRY_SECONDS = 600.0


@dataclass(slots=True)
class _Sent:
    """A message under way that is to come back."""

    message: MqttMessage
    acknowledged: float | None = None  # monotonic
    back: bool = False


class DeliveryProof:
    """Follows what was sent until it is back. Used by the sending thread; read by any.

    Args:
        base: The device's topic, `<prefix>/<device>`.
        broker: Its address, for people.
    """

    def __init__(self, base: str, broker: str) -> None:
        self._base = base
        self._broker = broker
        self._active = False
        self._sent: dict[int, _Sent] = {}
        self._probed: float | None = None
        self._told_none = False
        #: Topics whose messages are acknowledged and do not come back.
        self.denied: frozenset[str] = frozenset()
        #: Who says that messages arrive.
        self.by: Proof = "unknown"

    @property
    def filters(self) -> tuple[str, ...]:
        """Topic filters to subscribe to."""
        return (f"{self._base}/status", f"{self._base}/+/alarm", f"{self._base}/+/event")

    def begin(self, *, active: bool) -> None:
        """A connection begins.

        Args:
            active: Whether its messages are to come back: the broker cannot refuse them.
        """
        self._active = active
        self._sent.clear()
        if not active:
            self.denied = frozenset()
        self.by = "unknown" if active else "broker"

    def probe_due(self) -> bool:
        """Whether events that prove the way are due; they are then no longer."""
        now = time.monotonic()
        # A connection that is lost again and again sends no more of them than one that stays.
        soon = bool(self.denied) or self.by == "unknown"
        patience = _RETRY_SECONDS if soon else _PROBE_SECONDS
        if not self._active or (self._probed is not None and now < self._probed + patience):
            return False
        self._probed = now
        return True

    def sent(self, mid: int, message: MqttMessage) -> None:
        """A message is under way as `mid`."""
        if self._active and message.payload and self.owns(message.topic):
            self._sent[mid] = _Sent(message)

    def answered(self, mid: int, *, refused: bool) -> bool:
        """The broker has answered `mid`; whether its return is still to be waited for."""
        sent = self._sent.get(mid)
        if sent is None:
            return False
        if sent.back or refused:
            del self._sent[mid]
            return False
        sent.acknowledged = time.monotonic()
        return True

    def returned(self, topic: str, payload: bytes, *, retained: bool) -> list[int]:
        """A message has come.

        Returns:
            Numbers of messages that are acknowledged and back by now.
        """
        if not self._active or retained:  # kept from before: it proves nothing of today
            return []
        found = []
        for mid, sent in list(self._sent.items()):
            if sent.back or (sent.message.topic, sent.message.payload) != (topic, payload):
                continue
            sent.back, self.by = True, "returned"
            if topic in self.denied:
                self.denied -= {topic}
                log.info("%s: what is sent to %s arrives again", self._broker, topic)
            if sent.acknowledged is not None:
                del self._sent[mid]
                found.append(mid)
        return found

    def overdue(self) -> list[tuple[int, bool]]:
        """Messages that should be back by now, and whether each is denied (else: who knows)."""
        limit = time.monotonic() - _PATIENCE_SECONDS
        late = [
            mid
            for mid, sent in self._sent.items()
            if sent.acknowledged is not None and sent.acknowledged <= limit
        ]
        found = []
        for mid in late:
            topic = self._sent.pop(mid).message.topic
            denied = self.by == "returned"
            if denied and topic not in self.denied:
                self.denied |= {topic}
                log.error(
                    "%s: what is sent to %s is acknowledged and reaches nobody: the broker's rules "
                    "deny this user that topic, or reading it. Allow it to write and read %s/#. "
                    "Events are kept and offered again",
                    self._broker, topic, self._base,
                )  # fmt: skip
            elif not denied:
                self._tell_none()
            found.append((mid, denied))
        return found

    def _tell_none(self) -> None:
        self.by = "none"
        if not self._told_none:
            self._told_none = True
            log.warning(
                "%s: nothing that is sent comes back, so nobody can say whether alarms arrive: "
                "allow this user to read %s/#, or use a broker that speaks MQTT 5",
                self._broker, self._base,
            )  # fmt: skip

    def owns(self, topic: str) -> bool:
        """Whether a topic is one of those whose messages are to come back."""
        rest = topic.removeprefix(f"{self._base}/").split("/")
        return topic.startswith(f"{self._base}/") and (
            rest == ["status"] or (len(rest) == 2 and rest[1] in {"alarm", "event"})
        )
