"""Commands that an MQTT 3.1.1 broker kept for us, held until it is known which it had retained.

A command is carried out when it is given, and never because the broker keeps it. A retained one
that was given while we were away waits in our session like any other, and MQTT 3.1.1 does not mark
it. But the broker sends what it retains again, marked, when we subscribe: so the first commands of
a connection wait for a moment, and those that come again marked are not carried out.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

log = logging.getLogger(__name__)

_HOLD_SECONDS = 2.0
_MOST = 64


class HeldRequests:
    """Between the connection and who takes requests.

    Args:
        filter_: Topic filter of requests, ending in `+`.
        requested: Takes each message: topic, payload, whether the broker had retained it.
    """

    def __init__(self, filter_: str, requested: Callable[[str, bytes, bool], None]) -> None:
        self._prefix = filter_.removesuffix("+")
        self._requested = requested
        self._until = 0.0
        self._held: list[tuple[str, bytes]] = []

    def begin(self, *, hold: bool) -> None:
        """A connection begins.

        Args:
            hold: Whether its first commands must wait.
        """
        self._until = time.monotonic() + _HOLD_SECONDS if hold else 0.0

    def take(self, topic: str, payload: bytes, *, retained: bool) -> None:
        """A message has come."""
        holding = time.monotonic() < self._until and topic.startswith(self._prefix)
        if retained and (topic, payload) in self._held:
            self._held.remove((topic, payload))
            log.warning("%s: a retained command is not carried out", topic)
        if holding and not retained and len(self._held) < _MOST:
            self._held.append((topic, payload))
            return
        self._requested(topic, payload, retained)

    def look(self) -> None:
        """Give what has waited long enough; call often."""
        if self._held and time.monotonic() >= self._until:
            held, self._held = self._held, []
            for topic, payload in held:
                self._requested(topic, payload, False)
