"""The machines of which the broker retains a drift state, so that none outlives its meaning."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Sequence

from agent.publish.mqtt_message import MqttMessage
from agent.publish.outbox import Outbox
from agent.publish.topics import Topics

_NOTE = "drift"


class FollowedDrift:
    """Removes a machine's retained `drift` when its drift is followed no more.

    Which machines have one is noted in the outbox's file: a bundle may be exchanged, and a machine
    leave the configuration, while the agent is not running.

    Args:
        outbox: Takes the messages; its store keeps the note.
        topics: Makes them.
        drifting: Tells, whenever asked, the machines whose drift is followed.
    """

    def __init__(
        self, outbox: Outbox, topics: Topics, drifting: Callable[[], Sequence[str]]
    ) -> None:
        self._outbox = outbox
        self._topics = topics
        self._drifting = drifting
        self._lock = threading.Lock()
        self._noted: frozenset[str] = frozenset()

    def begin(self) -> None:
        """Remove what an earlier run left; the outbox is open."""
        with self._lock:
            self._noted = _read(self._outbox.store.recall(_NOTE))
        self.renew()

    def told(self, machine: str) -> None:
        """The broker is about to retain a machine's drift."""
        with self._lock:
            if machine not in self._noted:
                self._note(self._noted | {machine})

    def renew(self) -> None:
        """Remove what is not followed any more, as after a bundle was exchanged."""
        with self._lock:
            for machine in sorted(self._noted.difference(self._drifting())):
                self._outbox.put_state(self._topics.no_drift(machine))

    def taken(self, message: MqttMessage) -> None:
        """The broker has a message: a removal is done with."""
        if message.payload:
            return
        with self._lock:
            gone = {m for m in self._noted if self._topics.no_drift(m) == message}
            if gone:
                self._note(self._noted - gone)

    def _note(self, machines: frozenset[str]) -> None:
        self._noted = machines
        self._outbox.store.note(_NOTE, json.dumps(sorted(machines)) if machines else None)


def _read(note: str | None) -> frozenset[str]:
    """The note; nothing when it cannot be read."""
    try:
        found = json.loads(note or "[]")
    except ValueError:
        return frozenset()
    return frozenset(filter(_is_text, found)) if isinstance(found, list) else frozenset()


def _is_text(value: object) -> bool:
    return isinstance(value, str)
