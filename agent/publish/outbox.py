"""Messages on their way to the broker, in memory: what waits, what is under way, what was lost."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message for the broker.

    Attributes:
        topic: Full topic.
        payload: Bytes.
        qos: 0 or 1.
        retain: The broker keeps it for those who subscribe later.
    """

    topic: str
    payload: bytes
    qos: int
    retain: bool


class MemoryOutbox:
    """Three kinds of message, each with its own promise; safe for many writers and one sender.

    - Events (alarms raised and cleared) wait for the broker in order, at most `max_events`; then
      the oldest is dropped and counted. One that was sent but not acknowledged is offered again.
    - States (retained): sent as they come while the broker is there; at each connection the latest
      of each topic is offered again.
    - Telemetry: sent when the broker is there, dropped and counted when it isn't.

    It does not survive the process; a durable one takes its place without other changes.

    Args:
        max_events: Events kept.
        max_telemetry: Telemetry, and states, kept for the next moment of sending.
    """

    def __init__(self, max_events: int, max_telemetry: int = 4096) -> None:
        self._lock = threading.Lock()
        self._max_events = max_events
        self._events: deque[Outgoing] = deque()
        self._telemetry: deque[Outgoing] = deque(maxlen=max_telemetry)
        self._states: dict[str, Outgoing] = {}
        self._due: deque[Outgoing] = deque(maxlen=max_telemetry)  # states not yet offered
        self._under_way: dict[int, Outgoing] = {}
        self._connected = False
        self.dropped_events = 0
        self.dropped_telemetry = 0

    def put_event(self, message: Outgoing) -> bool:
        """Queue an event; False when the oldest had to go for it."""
        with self._lock:
            self._events.append(message)
            return self._bound()

    def put_state(self, message: Outgoing) -> None:
        """Queue a state, from now on the topic's latest."""
        with self._lock:
            self._states[message.topic] = message
            if self._connected:
                self._due.append(message)

    def put_telemetry(self, message: Outgoing) -> None:
        """Queue telemetry, or count it as dropped when the broker is away."""
        with self._lock:
            if not self._connected or len(self._telemetry) == self._telemetry.maxlen:
                self.dropped_telemetry += 1
            if self._connected:
                self._telemetry.append(message)

    def connected(self) -> None:
        """The broker is there: the latest states are due again."""
        with self._lock:
            self._connected = True
            self._due.clear()
            self._due.extend(self._states.values())

    def disconnected(self) -> None:
        """The broker is gone: what it has not acknowledged goes back to the front, in order."""
        with self._lock:
            self._connected = False
            self.dropped_telemetry += len(self._telemetry)
            self._telemetry.clear()
            self._events.extendleft(reversed(self._under_way.values()))
            self._under_way.clear()
            self._bound()

    def next_event(self, limit: int) -> Outgoing | None:
        """The event to send next; None when there is none or `limit` are under way."""
        with self._lock:
            if not self._events or len(self._under_way) >= limit:
                return None
            return self._events[0]

    def sent(self, event: Outgoing, mid: int) -> None:
        """The event that `next_event` gave is under way as `mid`."""
        with self._lock:
            # A writer may have pushed it out meanwhile; then it was counted as dropped, wrongly.
            if self._events and self._events[0] is event:
                self._events.popleft()
            else:
                self.dropped_events -= 1
            self._under_way[mid] = event

    def acknowledged(self, mid: int) -> None:
        """The broker has `mid`; numbers of other messages are ignored."""
        with self._lock:
            self._under_way.pop(mid, None)

    def next_state(self) -> Outgoing | None:
        """A state that is due, which is then no longer."""
        with self._lock:
            return self._due.popleft() if self._due else None

    def next_telemetry(self) -> Outgoing | None:
        """Telemetry to send, which is then gone."""
        with self._lock:
            return self._telemetry.popleft() if self._telemetry else None

    def pending_events(self) -> int:
        """Events that the broker has not acknowledged."""
        with self._lock:
            return len(self._events) + len(self._under_way)

    def _bound(self) -> bool:
        kept = True
        while len(self._events) > self._max_events:
            self._events.popleft()
            self.dropped_events += 1
            kept = False
        return kept
