"""What is told of a machine, for tests: a publisher that keeps it, and ways to tell one."""

from __future__ import annotations

import time
from typing import Any
from weakref import WeakKeyDictionary

from agent.core.records import AlarmEvent, Decision
from agent.drift.events import DriftEvent, DriftStatus
from agent.publish.broadcaster import Broadcaster
from agent.publish.kinds import KIND
from agent.publish.telling import Telling
from agent.window.condition import SensorCondition

_BROADCASTERS: WeakKeyDictionary[Any, Broadcaster] = WeakKeyDictionary()


class Listener:
    """A publisher that keeps what it is told, by type.

    Args:
        delay: How long it takes over a decision, seconds.
    """

    def __init__(self, delay: float = 0.0) -> None:
        self.delay = delay
        self.tellings: list[Telling] = []

    def start(self) -> None: ...

    def stop(self) -> None: ...

    def state(self) -> str:
        return ""

    def handle(self, telling: Telling) -> None:
        if isinstance(telling.happened, Decision):
            time.sleep(self.delay)
        self.tellings.append(telling)

    def of(self, kind: type) -> list[Any]:
        return [one.happened for one in self.tellings if isinstance(one.happened, kind)]

    @property
    def decisions(self) -> list[Decision]:
        return self.of(Decision)

    @property
    def firsts(self) -> list[bool]:
        return [one.first for one in self.tellings if isinstance(one.happened, Decision)]

    @property
    def events(self) -> list[AlarmEvent]:
        return self.of(AlarmEvent)

    @property
    def conditions(self) -> list[SensorCondition]:
        return self.of(SensorCondition)

    @property
    def statuses(self) -> list[DriftStatus]:
        return self.of(DriftStatus)

    @property
    def drifts(self) -> list[DriftEvent]:
        return self.of(DriftEvent)

    @property
    def kinds(self) -> list[str]:
        return [event.kind.value for event in (*self.events, *self.drifts)]


def to(*publishers: Any) -> Broadcaster:
    """Tells them of a pump."""
    return Broadcaster("dev", "pump", publishers)


def tell(publisher: Any, happened: Any) -> None:
    """Tell one publisher what happened to the pump, as its pipeline does."""
    if publisher not in _BROADCASTERS:
        _BROADCASTERS[publisher] = to(publisher)
    _BROADCASTERS[publisher].tell(happened)


def give(publisher: Any, kind: str, message: dict[str, Any]) -> None:
    """Give a publisher one finished message about the pump."""
    publisher.handle(Telling("pump", None, ((KIND[kind], message),)))
