"""The present, kept in memory for whoever looks at it on the device: a page, a test, a script.

The same messages as MQTT carries, never another truth: the latest of each kind, and a numbered
stream of the recent ones that any number of readers follow, each at its own pace.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from agent.core.cloud_event import Message
from agent.publish.route import Promise
from agent.publish.telling import Telling

# Recent messages of all kinds, and events apart from them: a minute of scores must not push out
# yesterday's alarm. A message takes about a kilobyte.
_RECENT = 2048
_EVENTS = 512


@dataclass(frozen=True, slots=True)
class Told:
    """One message.

    Attributes:
        number: Counts all messages from 1, since the agent's start.
        kind: `score`, `alarm`, `event`, `sensor` or `drift`.
        machine: The machine.
        message: The payload, as on MQTT; not to be changed.
    """

    number: int
    kind: str
    machine: str
    message: Message


class LiveBoard:
    """A publisher that remembers. Readers may be in any thread and never hold scoring up.

    Args:
        recent: Messages kept.
        events: Events kept.
    """

    def __init__(self, *, recent: int = _RECENT, events: int = _EVENTS) -> None:
        self._changed = threading.Condition()
        #: Of the latest message; 0 before the first.
        self.number = 0
        self._recent: deque[Told] = deque(maxlen=recent)
        self._events: deque[Told] = deque(maxlen=events)
        self._latest: dict[tuple[str, str], Told] = {}
        #: Whether the agent is ending: no more messages come.
        self.closed = False

    def start(self) -> None:
        """Begin: readers may come at any time."""

    def handle(self, telling: Telling) -> None:
        """Take each message."""
        with self._changed:
            for kind, message in telling.messages:
                self.number += 1
                told = Told(self.number, kind.topic, telling.machine, message)
                self._recent.append(told)
                if kind.route.promise is Promise.EVENT:
                    self._events.append(told)
                else:
                    self._latest[telling.machine, kind.topic] = told
            self._changed.notify_all()

    def latest(self) -> Mapping[str, Mapping[str, Message]]:
        """By machine and kind, the latest `score`, `alarm`, `sensor` and `drift`."""
        found: dict[str, dict[str, Message]] = {}
        with self._changed:
            for (machine, kind), told in self._latest.items():
                found.setdefault(machine, {})[kind] = told.message
        return found

    def events(self) -> Sequence[Told]:
        """The recent events of all machines, in order."""
        with self._changed:
            return tuple(self._events)

    def after(self, number: int, seconds: float = 0.0) -> Sequence[Told]:
        """The messages after a number, in order; what is no longer held is left out.

        Args:
            number: Of the latest that the reader has; a gap in the numbers given says that it was
                too slow, and is to begin with `latest` anew.
            seconds: Wait for one so long when there is none.
        """
        with self._changed:
            self._changed.wait_for(lambda: self.number > number or self.closed, seconds)
            newer = min(self.number - number, len(self._recent))
            if newer <= 0:
                return ()
            return tuple(self._recent)[-newer:]

    def stop(self) -> None:
        """Let every reader go. Idempotent."""
        with self._changed:
            self.closed = True
            self._changed.notify_all()

    def state(self) -> str:
        """What is amiss; never anything."""
        return ""
