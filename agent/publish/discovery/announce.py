"""Keeps Home Assistant's picture of this device true, also of what is no longer there."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping, Sequence

from agent.core.cloud_event import Message, encode
from agent.publish.discovery.messages import platforms, removing
from agent.publish.mqtt_message import MqttMessage
from agent.publish.outbox import Outbox

_NOTE = "home_assistant"
# Entities that move to another device keep their history: Home Assistant is told to let go of
# them first (its `migrate_discovery`), and only then are they taken from the old device.
_LET_GO = encode({"migrate_discovery": True})
Announced = dict[str, dict[str, str]]


class Announcement:
    """Announces the device and its machines, and takes back what an earlier run announced.

    What was announced is noted in the outbox's file: with it, a machine that has left the
    configuration, a device that was renamed, or discovery that is disabled, is removed in Home
    Assistant too. A note is forgotten when the broker has acknowledged the removal. What a machine
    tells may change with its bundle: `renew`.

    In earlier versions the machines' entities belonged to the agent's own device. They move in
    three steps that each wait for the broker: let go, take back, announce.

    Args:
        outbox: Takes the messages; its store keeps the note.
        build: Makes what is to be announced, by topic, the agent's own first; nothing when
            discovery is disabled.
        kept: Topics beside them that are to be emptied when discovery is disabled.
    """

    def __init__(
        self,
        outbox: Outbox,
        build: Callable[[], Mapping[str, Message]],
        kept: Callable[[], Sequence[str]] = tuple,
    ) -> None:
        self._outbox = outbox
        self._build = build
        self._kept = kept
        self._lock = threading.Lock()
        self._noted: Announced = {}
        self._latest: dict[str, MqttMessage] = {}
        self._moving = ""  # the agent's own topic, while entities move away from it

    def begin(self) -> None:
        """Queue what is to be announced and taken back; the outbox is open."""
        with self._lock:
            self._noted = _read(self._outbox.store.recall(_NOTE))
            wanted = self._build()
            kept = set(self._kept()) if wanted else set()
            for old in self._noted.keys() - wanted.keys() - kept:
                self._queue(old, b"")
            if kept - self._noted.keys():
                self._note({**self._noted, **{key: {} for key in kept}})
            own = next(iter(wanted), "")
            if own and self._noted.get(own, {}).keys() - wanted[own]["components"].keys():
                self._moving = own
                self._queue(own, _LET_GO)
            else:
                self._announce(wanted)

    def renew(self) -> None:
        """Announce anew, because a machine has gained or lost something to tell."""
        with self._lock:
            if not self._moving:
                wanted = self._build()
                self._announce({
                    topic: message
                    for topic, message in wanted.items()
                    if self._noted.get(topic) != platforms(message)
                })  # fmt: skip

    def taken(self, message: MqttMessage) -> None:
        """The broker has a message: if it removed something, that is done with."""
        with self._lock:
            self._take(message)

    def _announce(self, wanted: Mapping[str, Message]) -> None:
        for topic, message in wanted.items():
            now = platforms(message)
            before = self._noted.get(topic, {})
            # Noted before it is sent: what may be at the broker must be known to be removed.
            self._note({**self._noted, topic: {**before, **now}})
            gone = {key: before[key] for key in before.keys() - now}
            self._queue(topic, encode(removing(message, gone)))

    def _take(self, message: MqttMessage) -> None:
        topic = message.topic
        if topic not in self._noted or message != self._latest.get(topic):
            return  # not ours, or an earlier one, which removed less
        if not message.payload:
            self._note({key: found for key, found in self._noted.items() if key != topic})
            return
        wanted = self._build()
        if topic not in wanted:
            return
        if topic == self._moving and message.payload == _LET_GO:
            self._announce({topic: wanted[topic]})
            return
        if self._noted[topic] != platforms(wanted[topic]):
            self._note({**self._noted, topic: platforms(wanted[topic])})
            self._queue(topic, encode(wanted[topic]))
        if topic == self._moving:
            self._moving = ""
            self._announce({key: found for key, found in wanted.items() if key != topic})

    def _queue(self, topic: str, payload: bytes) -> None:
        self._latest[topic] = MqttMessage(topic, payload, 1, retain=True)
        self._outbox.put_state(self._latest[topic])

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
