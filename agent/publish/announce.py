"""Keeps Home Assistant's picture of this device true, also of what is no longer there."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable

from agent.config.publish import HomeAssistantConfig
from agent.publish.home_assistant import discovery_topic, platforms
from agent.publish.messages import Message, encode
from agent.publish.mqtt_message import MqttMessage
from agent.publish.outbox import Outbox

_NOTE = "home_assistant"
Announced = dict[str, dict[str, str]]


class Announcement:
    """Announces the device, and takes back what an earlier run announced.

    What was announced is noted in the outbox's file: with it, a machine that has left the
    configuration, a device that was renamed, or discovery that is disabled, is removed in Home
    Assistant too. A note is forgotten when the broker has acknowledged the removal. What a machine
    tells may change with its bundle: `renew`.

    Args:
        config: Whether to announce, and where.
        device: This device's name.
        outbox: Takes the messages; its store keeps the note.
        build: Makes the discovery message, given the components it is to remove.
    """

    def __init__(
        self,
        config: HomeAssistantConfig,
        device: str,
        outbox: Outbox,
        build: Callable[[dict[str, str]], Message],
    ) -> None:
        self._topic = discovery_topic(config.discovery_prefix, device) if config.enabled else ""
        self._outbox = outbox
        self._build = build
        self._lock = threading.Lock()
        self._noted: Announced = {}
        self._latest: MqttMessage | None = None  # of our own topic

    def begin(self) -> None:
        """Queue what is to be announced and taken back; the outbox is open."""
        with self._lock:
            self._noted = _read(self._outbox.store.recall(_NOTE))
            for old in self._noted.keys() - {self._topic}:
                self._queue(old, None)
            self._announce()

    def renew(self) -> None:
        """Announce anew, because a machine has gained or lost something to tell."""
        with self._lock:
            if self._noted.get(self._topic) != platforms(self._build({})):
                self._announce()

    def taken(self, message: MqttMessage) -> None:
        """The broker has a message: if it removed something, that is done with."""
        with self._lock:
            self._take(message)

    def _announce(self) -> None:
        if self._topic:
            now = platforms(self._build({}))
            before = self._noted.get(self._topic, {})
            # Noted before it is sent: what may be at the broker must be known to be removed.
            self._note({**self._noted, self._topic: {**before, **now}})
            self._queue(self._topic, self._build({k: before[k] for k in before.keys() - now}))

    def _take(self, message: MqttMessage) -> None:
        if message.topic not in self._noted:
            return
        if message.topic == self._topic and message != self._latest:
            return  # an earlier one, which removed less
        if message.topic != self._topic:
            self._note({k: v for k, v in self._noted.items() if k != message.topic})
            return
        clean = self._build({})
        if self._noted[self._topic] != platforms(clean):
            self._note({**self._noted, self._topic: platforms(clean)})
            self._queue(self._topic, clean)

    def _queue(self, topic: str, message: Message | None) -> None:
        payload = b"" if message is None else encode(message)
        outgoing = MqttMessage(topic, payload, 1, retain=True)
        if topic == self._topic:
            self._latest = outgoing
        self._outbox.put_state(outgoing)

    def _note(self, announced: Announced) -> None:
        self._noted = announced
        self._outbox.store.note(_NOTE, json.dumps(announced) if announced else None)


def _read(note: str | None) -> Announced:
    """The note; nothing when it cannot be read."""
    try:
        found = json.loads(note or "{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
