"""Messages on their way to the broker: what waits, what is under way, what was lost."""

from __future__ import annotations

import threading
import time
from collections import deque

from agent.publish.essentials import essentials
from agent.publish.mqtt_message import MqttMessage
from agent.publish.route import Promise
from agent.publish.store import EventStore, StoredEvent

_READ_AHEAD = 50
_REFUSED_SECONDS = 60.0
# What ends the connection is offered again after so long, seconds.
_ASIDE_SECONDS = 600.0
# The longest wait for what is acknowledged and reaches nobody, seconds.
_DENIED_MOST_SECONDS = 21_600.0


class Outbox:
    """Four kinds of message, each with its own promise; safe for many writers and one sender.

    - Events (alarms raised, cleared...) are on disk before they are offered to the broker, and are
      offered again, in order, until it has acknowledged them, over restarts too (`EventStore`).
    - States (retained): sent as they come while the broker is there; at each connection the latest
      of each topic is offered again.
    - Replies to commands wait for the next moment of sending, a bounded number of them.
    - Telemetry: sent when the broker is there, dropped and counted when it isn't.

    Args:
        store: Where events are kept; started and stopped here.
        max_volatile: Telemetry, states and replies kept for the next moment of sending, of each.
    """

    def __init__(self, store: EventStore, max_volatile: int = 4096) -> None:
        self.store = store
        # Held for moments only: who puts telemetry must never wait for the disk.
        self._lock = threading.Lock()
        self.telemetry: deque[MqttMessage] = deque(maxlen=max_volatile)
        self._replies: deque[MqttMessage] = deque(maxlen=max_volatile)
        self._states: dict[str, MqttMessage] = {}
        self._due: deque[MqttMessage] = deque(maxlen=max_volatile)  # states not yet offered
        self._connected = False
        # The sender's alone:
        self._ready: deque[StoredEvent] = deque()
        self._cursor = 0
        self._generation = -1
        self._under_way: dict[int, StoredEvent] = {}
        self._refused: dict[str, float] = {}
        self._aside: dict[str, float] = {}  # as they end the connection; until when
        self._shortened: set[str] = set()
        self._denied: dict[str, int] = {}  # how often each did not come back
        self._acknowledged: list[str] = []
        self.dropped_telemetry = 0
        self._again = False  # set by others than the sender: events before the cursor are due

    def start(self) -> None:
        """Open the store.

        Raises:
            ConfigError: Another agent uses its folder.
        """
        self.store.start()

    def stop(self) -> None:
        """Close the store; what is undelivered stays in it. Idempotent."""
        self.settle()
        self.store.stop()

    def put(self, message: MqttMessage, promise: Promise) -> None:
        """Take a message with what is promised of it."""
        match promise:
            case Promise.EVENT:
                self.put_event(message)
            case Promise.STATE:
                self.put_state(message)
            case Promise.REPLY:
                self.put_reply(message)
            case Promise.TELEMETRY:
                self.put_telemetry(message)

    def put_event(self, message: MqttMessage) -> bool:
        """Take an event; False when the disk refused it and it is in memory alone."""
        return self.store.add(message)

    def put_state(self, message: MqttMessage) -> None:
        """Queue a state, from now on the topic's latest."""
        with self._lock:
            self._states[message.topic] = message
            if self._connected:
                self._due.append(message)

    def put_reply(self, message: MqttMessage) -> None:
        """Queue the answer to a command."""
        with self._lock:
            self._replies.append(message)

    def put_telemetry(self, message: MqttMessage) -> None:
        """Queue telemetry, or count it as dropped when the broker is away."""
        with self._lock:
            if not self._connected or len(self.telemetry) == self.telemetry.maxlen:
                self.dropped_telemetry += 1
            if self._connected:
                self.telemetry.append(message)

    def connected(self) -> None:
        """The broker is there: the latest states are due again, and every undelivered event."""
        with self._lock:
            self._connected = True
            self._due.clear()
            self._due.extend(self._states.values())
        self._under_way.clear()
        self._refused.clear()
        self._rewind()

    def disconnected(self) -> None:
        """The broker is gone: what it has not acknowledged will be offered again, in order."""
        with self._lock:
            self._connected = False
            self.dropped_telemetry += len(self.telemetry)
            self.telemetry.clear()
        self._under_way.clear()
        self._rewind()

    def next_event(self) -> MqttMessage | None:
        """The event to send next; None when there is none."""
        if not self._ready:
            self._read()
        if not self._ready:
            return None
        message = self._ready[0].message
        return essentials(message) if message.id in self._shortened else message

    def condemn(self, message: MqttMessage) -> str:
        """An event ends the connection whenever it is sent.

        Returns:
            What becomes of it, in words: shortened to what matters, or, if that does not help
            either, set aside for a while.
        """
        if message.id not in self._shortened and essentials(message) is not message:
            self._shortened.add(message.id)
            return "it is offered again, shortened to what matters"
        self._aside[message.id] = time.monotonic() + _ASIDE_SECONDS
        return "it is set aside and offered again later; the others go on"

    def sent(self, mid: int) -> None:
        """The event that `next_event` gave is under way as `mid`."""
        self._under_way[mid] = self._ready.popleft()

    def acknowledged(self, mid: int, *, refused: bool = False) -> bool:
        """The broker has answered `mid`; numbers of other messages are ignored.

        Args:
            mid: Number of the message.
            refused: It will not have it (its access rules, a quota): the event stays, later ones
                go before it, and it is offered again after a while.

        Returns:
            Whether it was an event.
        """
        event = self._under_way.pop(mid, None)
        if event is None:
            return False
        if refused:
            self._refused[event.message.id] = time.monotonic() + _REFUSED_SECONDS
        else:
            self._acknowledged.append(event.message.id)
        return True

    def denied(self, mid: int) -> None:
        """The broker has acknowledged `mid` and delivers it to nobody: it is kept, if an event.

        It is offered again after waits that grow: whoever does receive it gets it again.
        """
        event = self._under_way.pop(mid, None)
        if event is not None:
            self._denied[event.message.id] = count = self._denied.get(event.message.id, 0) + 1
            wait = min(_ASIDE_SECONDS * 2 ** min(count - 1, 10), _DENIED_MOST_SECONDS)
            self._aside[event.message.id] = time.monotonic() + wait

    def offer_again(self) -> None:
        """What was set aside is due again: the broker takes it now."""
        self._aside.clear()
        self._denied.clear()
        self._rewind()

    def resend(self, first: int, last: int) -> int:
        """Offer events once more that a broker had acknowledged, and lost; from any thread.

        Args:
            first: The first number.
            last: The last.

        Returns:
            How many of them are still kept.
        """
        found = self.store.again(first, last)
        self._again = True
        return found

    def settle(self) -> None:
        """Write down what was acknowledged; the sender calls it once a turn."""
        if self._again:
            self._again = False
            self._rewind()
        if self._acknowledged:
            self.store.delivered(self._acknowledged)
            self._acknowledged.clear()
        self.store.settle()
        now = time.monotonic()
        if self._refused and now >= min(self._refused.values()):
            self._refused.clear()
            self._rewind()
        if due := [name for name, until in self._aside.items() if now >= until]:
            for name in due:
                del self._aside[name]
            self._rewind()

    def next_state(self) -> MqttMessage | None:
        """A state that is due, which is then no longer."""
        with self._lock:
            return self._due.popleft() if self._due else None

    def next_reply(self) -> MqttMessage | None:
        """An answer to send, which is then gone."""
        with self._lock:
            return self._replies.popleft() if self._replies else None

    def next_telemetry(self) -> MqttMessage | None:
        """Telemetry to send, which is then gone."""
        with self._lock:
            return self.telemetry.popleft() if self.telemetry else None

    def pending_events(self) -> int:
        """Events that the broker has not acknowledged."""
        return self.store.undelivered

    def waiting(self) -> int:
        """Events that the broker has not answered, not even by refusing them for now."""
        held = self._refused.keys() | self._aside.keys()
        return self.store.undelivered - len(held) - len(self._acknowledged)

    def _rewind(self) -> None:
        self._ready.clear()
        self._cursor = 0

    def _read(self) -> None:
        """Read on in the store; from the beginning when it has been opened anew."""
        held = self._refused.keys() | self._aside.keys()
        offered = len(self._under_way) + len(held) + len(self._acknowledged)
        if self.store.file.is_open and self.store.undelivered <= offered:
            return
        events = self.store.pending(self._cursor, _READ_AHEAD)
        if self._generation != self.store.file.generation:
            self._generation = self.store.file.generation
            self._rewind()
            events = self.store.pending(self._cursor, _READ_AHEAD)
        if not events:
            return
        self._cursor = events[-1].seq
        passed = {event.message.id for event in self._under_way.values()}
        passed.update(held, self._acknowledged)
        self._ready.extend(event for event in events if event.message.id not in passed)
