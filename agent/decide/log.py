"""An alarm's memory and what is told of it: events, each with a stable id, until they are told."""

from __future__ import annotations

import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import replace

from agent.core.reasons import Explanation
from agent.core.records import AlarmEvent, AlarmStatus, EventKind, Level
from agent.core.scale import Scale
from agent.decide.evidence import Heard
from agent.decide.memory import AlarmMemory

NOT_YET = float("-inf")


def new_alarm_id() -> str:
    """A new id."""
    return uuid.uuid4().hex


class AlarmLog(ABC):
    """What is remembered of one alarm, and its events that nobody has confirmed yet.

    Args:
        memory: Where an earlier run stopped; None begins at normal.
        new_id: Makes the id of a new alarm.
    """

    def __init__(self, memory: AlarmMemory | None, new_id: Callable[[], str]) -> None:
        self._new_id = new_id
        self._memory = memory or AlarmMemory()
        self._now = NOT_YET
        self._wall = self._memory.saved_wall
        self._threshold = 0.0
        self._scale: Scale | None = None
        self._heard: Heard | None = None
        self._fresh: list[AlarmEvent] = []

    @property
    @abstractmethod
    def status(self) -> AlarmStatus:
        """The alarm as it stands."""

    @property
    def announced(self) -> Level:
        """The level that was told last."""
        return self._memory.announced

    @property
    def untold(self) -> tuple[AlarmEvent, ...]:
        """Events that nobody has confirmed to have told yet, the oldest first."""
        return self._memory.untold

    def told(self, events: tuple[AlarmEvent, ...]) -> None:
        """The publishers have these."""
        if events:
            ids = {event.id for event in events}
            self._update(untold=tuple(e for e in self._memory.untold if e.id not in ids))

    def keep(self, evidence: str) -> None:
        """The sound of the present alarm is kept: its events say where from now on.

        Args:
            evidence: Where, as a path below the state directory.
        """
        alarm_id = self._memory.alarm_id
        if not alarm_id or evidence == self._memory.evidence:
            return
        untold = tuple(
            replace(event, evidence=evidence) if event.alarm_id == alarm_id else event
            for event in self._memory.untold
        )
        self._update(evidence=evidence, untold=untold)

    def take(self) -> tuple[AlarmEvent, ...]:
        """Events brought about since the last call."""
        events, self._fresh = tuple(self._fresh), []
        return events

    def amend(self, events: tuple[AlarmEvent, ...]) -> None:
        """More is known of events that are still to be told: they are remembered so."""
        known = {event.id: event for event in events}
        self._update(untold=tuple(known.get(e.id, e) for e in self._memory.untold))

    def _left(self, end: float, remembered: float) -> float:
        return remembered if self._now == NOT_YET else max(0.0, end - self._now)

    def _tell(
        self,
        kind: EventKind,
        *,
        previous: Level | None = None,
        operator: str = "",
        note: str = "",
        explanation: Explanation | None = None,
        decibels: float | None = None,
    ) -> None:
        memory, heard = self._memory, self._heard
        # Shelving may be told of while there is no alarm to number the events of.
        serial = f"{memory.alarm_id}-{memory.told}" if memory.alarm_id else self._new_id()
        self._update(told=memory.told + 1)
        event = AlarmEvent(
            id=f"{serial}-{kind.value}",
            kind=kind,
            alarm_id=memory.alarm_id,
            wall=self._wall,
            status=self.status,
            previous=memory.level if previous is None else previous,
            threshold=self._threshold,
            score=None if heard is None else heard.value,
            window=None if heard is None else heard.index,
            window_wall=0.0 if heard is None else heard.wall,
            window_seconds=0.0 if heard is None else heard.seconds,
            origin="" if heard is None else heard.origin,
            operator=operator,
            note=note,
            evidence=memory.evidence,
            p_value=None if heard is None else heard.p_value,
            explanation=explanation,
            scale=self._scale,
            level_change_db=decibels,
        )
        self._update(untold=(*self._memory.untold, event))
        self._fresh.append(event)

    def _update(self, **changes: object) -> None:
        self._memory = self._memory.model_copy(update=changes)
