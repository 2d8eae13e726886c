"""Tells all who publish of one machine: each message is built once, for all of them."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from typing import Any

from agent.core.clock import WALL_CLOCK
from agent.core.cloud_event import Message, Stamp
from agent.publish.kinds import KINDS, Kind
from agent.publish.telling import Publisher, Telling

log = logging.getLogger(__name__)


class Broadcaster:
    """Tells every publisher; one that fails is logged, and silences neither scoring nor others.

    Args:
        device: This device's name.
        machine: The machine's.
        publishers: Who is told.
        kinds: The messages there are.
    """

    def __init__(
        self,
        device: str,
        machine: str,
        publishers: Sequence[Publisher],
        kinds: Sequence[Kind] = KINDS,
    ) -> None:
        self._device = device
        self._machine = machine
        self._publishers = publishers
        self._kinds = kinds
        self._seen: set[type] = set()
        self._told: dict[str, object] = {}  # by kind, the state told last

    def tell(self, happened: Any) -> None:
        """Tell of a window, an event, a condition or a status.

        Args:
            happened: A record that some kind of `KINDS` tells of; of no other anybody hears.
        """
        first = type(happened) not in self._seen
        self._seen.add(type(happened))
        due = [kind for kind in self._kinds if self._is_due(kind, happened, first=first)]
        if not due:
            return
        messages = tuple(self._built(due, happened))
        telling = Telling(self._machine, happened, messages, first)
        for publisher in self._publishers:
            try:
                publisher.handle(telling)
            except Exception:  # noqa: PERF203 - one way of telling must not silence the others
                log.exception("%s: %s failed", self._machine, type(publisher).__name__)

    def _is_due(self, kind: Kind, happened: Any, *, first: bool) -> bool:
        if not isinstance(happened, kind.of):
            return False
        if kind.news is None:
            return True
        self._told[kind.name], new = kind.news(happened, self._told.get(kind.name))
        return new or first

    def _built(self, kinds: Sequence[Kind], happened: Any) -> Iterator[tuple[Kind, Message]]:
        stamp = Stamp(self._device, self._machine, time.time(), WALL_CLOCK.quality)
        for kind in kinds:
            try:
                yield kind, kind.build(stamp, happened)
            except Exception:  # noqa: PERF203 - the other messages are told
                log.exception("%s: no message '%s' could be made", self._machine, kind.name)
