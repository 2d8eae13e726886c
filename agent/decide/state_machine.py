"""What becomes of an alarm once it has risen, in the words of OPC UA Part 9.

    acknowledge                     an operator has seen it; a latched alarm then ends when quiet
    shelve (timed, one shot)        out of view: the life goes on, but nothing rises for the world
    mute                            the machine is being worked on: nothing counts as evidence

A pure state machine: time comes in with each call (monotonic for durations, wall for people), and
what is to be told goes out as events.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import replace

from agent.config.decide import DecideConfig
from agent.core.errors import AuscultError
from agent.core.records import AlarmEvent, AlarmStatus, EventKind, Explanation, Level, Shelving
from agent.core.scale import Scale
from agent.decide.evidence import Heard
from agent.decide.memory import AlarmMemory

_NEVER = float("inf")
_NOT_YET = float("-inf")


class CommandError(AuscultError):
    """A command that makes no sense as things stand; nothing was changed."""


def new_alarm_id() -> str:
    """A new id."""
    return uuid.uuid4().hex


class AlarmStateMachine:
    """Level, acknowledgement and shelving of one alarm. One call at a time.

    Each call begins with `at`, which tells it the time, and the events that calls bring about are
    handed over by `take`.

    Args:
        config: Habits: latching, reminders, bounds.
        memory: Where an earlier run stopped; None begins at normal.
        new_id: Makes the id of a new alarm.
    """

    def __init__(
        self,
        config: DecideConfig,
        memory: AlarmMemory | None = None,
        new_id: Callable[[], str] = new_alarm_id,
    ) -> None:
        self._config = config
        self._new_id = new_id
        self._memory = memory or AlarmMemory()
        self._now = _NOT_YET
        self._wall = self._memory.saved_wall
        self._shelf_end = self._mute_end = _NEVER
        self._annunciated = 0.0
        self._condition = self._memory.condition
        self._threshold = 0.0
        self._scale: Scale | None = None
        self._heard: Heard | None = None
        self._fresh: list[AlarmEvent] = []

    @property
    def status(self) -> AlarmStatus:
        """The alarm as it stands."""
        memory = self._memory
        return AlarmStatus(
            level=memory.level,
            since_wall=self._wall if memory.since_wall is None else memory.since_wall,
            alarm_id=memory.alarm_id,
            acknowledged=memory.acknowledged,
            latched=self._condition.rank < memory.level.rank,
            shelving=memory.shelving,
            shelved_until_wall=self._wall + self._left(self._shelf_end, memory.shelved_seconds)
            if self._shelved
            else None,
            muted_until_wall=self._wall + self._left(self._mute_end, memory.muted_seconds)
            if memory.muted
            else None,
            level_change_db=memory.level_change,
        )

    @property
    def announced(self) -> Level:
        """The level that was told last."""
        return self._memory.announced

    @property
    def raised(self) -> int:
        """Alarms raised, ever."""
        return self._memory.raised

    @property
    def untold(self) -> tuple[AlarmEvent, ...]:
        """Events that nobody has confirmed to have told yet, the oldest first."""
        return self._memory.untold

    def memory(self) -> AlarmMemory:
        """What the next run must know; which conditions hold is not known here."""
        memory = self._memory
        shelf = self._left(self._shelf_end, memory.shelved_seconds) if self._shelved else 0.0
        mute = self._left(self._mute_end, memory.muted_seconds) if memory.muted else 0.0
        return memory.model_copy(
            update={"saved_wall": self._wall, "shelved_seconds": shelf, "muted_seconds": mute}
        )

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

    def at(self, monotonic: float, wall: float) -> None:
        """It is so late now: shelving and muting may end, a reminder fall due.

        Args:
            monotonic: Now, seconds; a time before the last one counts as the last one.
            wall: Now, seconds since the epoch.
        """
        first = self._now == _NOT_YET
        self._now, self._wall = max(self._now, monotonic), wall
        memory = self._memory
        if first:
            self._annunciated = self._now
            # A clock set back since then counts as no time at all.
            away = max(0.0, wall - memory.saved_wall)
            if self._shelved:
                self._shelf_end = self._now + max(0.0, memory.shelved_seconds - away)
            if memory.muted:
                self._mute_end = self._now + max(0.0, memory.muted_seconds - away)
        if memory.since_wall is None:
            self._update(since_wall=wall)
        if self._now >= self._shelf_end:
            self._end_shelving("", "its time is up")
        if self._now >= self._mute_end:
            self._end_mute("", "its time is up")
        self._remind()

    def settle(
        self, condition: Level, heard: Heard, threshold: float, scale: Scale | None = None
    ) -> None:
        """Let the level follow the condition of the machine, and the world hear of it.

        Args:
            condition: What the evidence says.
            heard: The window after which it says so, for the events.
            threshold: The score above which a window counts as anomalous, for the events.
            scale: What both are told on, for the events.
        """
        self._condition, self._heard = condition, heard
        self._threshold, self._scale = threshold, scale
        self._follow()

    def acknowledge(self, *, alarm_id: str = "", operator: str = "", note: str = "") -> None:
        """An operator has seen the alarm. Idempotent.

        Args:
            alarm_id: The alarm meant; empty for whichever stands.
            operator: Who.
            note: What they say to it.

        Raises:
            CommandError: No alarm stands, or another than the one meant.
        """
        self._standing("acknowledge", alarm_id)
        if not self._memory.acknowledged:
            self._update(acknowledged=True)
            self._tell(EventKind.ACKNOWLEDGED, operator=operator, note=note)
            self._follow()

    def shelve(self, *, seconds: float | None = None, operator: str = "", note: str = "") -> None:
        """Take the alarm out of view.

        Args:
            seconds: For how long; None until the present alarm has ended (one shot), at the longest
                `shelve_max_seconds`.
            operator: Who.
            note: Why.

        Raises:
            CommandError: The time is not within bounds, or one shot without an alarm.
        """
        if seconds is None:
            self._standing("shelve once", "")
        else:
            self._within(seconds, "shelved")
        most = self._config.shelve_max_seconds
        self._shelf_end = self._now + (most if seconds is None else seconds)
        self._update(shelving=Shelving.ONE_SHOT if seconds is None else Shelving.TIMED)
        self._tell(EventKind.SHELVED, operator=operator, note=note)

    def unshelve(self, *, operator: str = "", note: str = "") -> None:
        """Bring it back into view, and raise what rose in the meantime. Idempotent."""
        self._end_shelving(operator, note)

    @property
    def muted(self) -> bool:
        """Whether the machine is being worked on."""
        return self._memory.muted

    def mute(self, seconds: float, *, operator: str = "", note: str = "") -> None:
        """The machine is being worked on: until that is over no window counts as evidence.

        Args:
            seconds: For how long.
            operator: Who.
            note: Why.

        Raises:
            CommandError: The time is not within bounds.
        """
        self._within(seconds, "muted")
        self._mute_end = self._now + seconds
        self._update(muted=True)
        self._tell(EventKind.MUTED, operator=operator, note=note)

    def unmute(self, *, operator: str = "", note: str = "") -> None:
        """Listen again. Idempotent."""
        self._end_mute(operator, note)

    def level_changed(self, decibels: float | None) -> None:
        """The machine is heard at another level for good, or as loud as before again.

        Args:
            decibels: How much louder, dB; None when that is over.
        """
        before, said = self._memory.level_change, decibels
        self._update(level_change=decibels)
        if decibels is not None:
            why = Explanation(level_words(decibels) + "; its shape is as healthy sound's")
            self._tell(EventKind.LEVEL, explanation=why, decibels=said)
        elif before is not None:
            self._tell(EventKind.LEVEL_RETURNED, decibels=before)

    def level_answered(
        self, kind: EventKind, decibels: float, *, operator: str, note: str = ""
    ) -> None:
        """An operator has said that the microphone's level is another now.

        Args:
            kind: `LEVEL_BASELINE`, or `LEVEL_UNDONE` when that is taken back.
            decibels: What is taken off from now on, dB.
            operator: Who.
            note: What they say to it.
        """
        self._update(level_change=None)
        self._tell(kind, operator=operator, note=note, decibels=decibels)

    @property
    def _shelved(self) -> bool:
        return self._memory.shelving is not Shelving.UNSHELVED

    def _left(self, end: float, remembered: float) -> float:
        return remembered if self._now == _NOT_YET else max(0.0, end - self._now)

    def _within(self, seconds: float, what: str) -> None:
        most = self._config.shelve_max_seconds
        if not 0.0 < seconds <= most:
            raise CommandError(
                f"an alarm cannot be {what} for {seconds:g} s",
                remedy=f"Give more than 0 and at most {most:g} s (decide.shelve_max_seconds).",
            )

    def _follow(self) -> None:
        memory, condition = self._memory, self._condition
        held = memory.level is Level.ALARM and self._config.latch and not memory.acknowledged
        if condition.rank > memory.level.rank:
            self._update(
                level=condition,
                since_wall=self._wall,
                alarm_id=memory.alarm_id or self._new_id(),
                acknowledged=False,
            )
        elif condition.rank < memory.level.rank and not held:
            self._update(level=condition, since_wall=self._wall)
        self._announce()
        if self._memory.level is Level.NORMAL and self._memory.alarm_id:
            if self._memory.shelving is Shelving.ONE_SHOT:
                self._end_shelving("", "the alarm has ended")
            self._update(alarm_id="", acknowledged=True, evidence="", told=0)

    def _announce(self) -> None:
        """Tell of a level that differs from what was told; nothing rises out of a shelf."""
        level, known = self._memory.level, self._memory.announced
        rises = level.rank > known.rank
        if level is known or (rises and self._shelved):
            return
        if rises:
            kind = EventKind.RAISED if level is Level.ALARM else EventKind.ALERT
            self._annunciated = self._now
        else:
            kind = EventKind.CLEARED if level is Level.NORMAL else EventKind.LOWERED
        self._update(announced=level, raised=self._memory.raised + (kind is EventKind.RAISED))
        self._tell(kind, previous=known)

    def _end_shelving(self, operator: str, note: str) -> None:
        if self._shelved:
            self._shelf_end, self._annunciated = _NEVER, self._now
            self._update(shelving=Shelving.UNSHELVED)
            self._tell(EventKind.UNSHELVED, operator=operator, note=note)
            self._announce()

    def _end_mute(self, operator: str, note: str) -> None:
        if self._memory.muted:
            self._mute_end, self._annunciated = _NEVER, self._now
            self._update(muted=False)
            self._tell(EventKind.UNMUTED, operator=operator, note=note)

    def _remind(self) -> None:
        memory, interval = self._memory, self._config.realarm_seconds
        if (
            interval is not None
            and self._now - self._annunciated >= interval
            and memory.level is memory.announced is Level.ALARM
            and not (self._shelved or memory.acknowledged or memory.muted)
        ):
            self._annunciated = self._now
            self._tell(EventKind.REALARM)

    def _standing(self, what: str, alarm_id: str) -> None:
        present = self._memory.alarm_id
        if not present:
            raise CommandError(f"there is no alarm to {what}", remedy="It may have cleared by now.")
        if alarm_id and alarm_id != present:
            raise CommandError(
                f"alarm {alarm_id} is not the present one, which is {present}",
                remedy="Look at the machine's alarm again before you answer it.",
            )

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


def level_words(decibels: float) -> str:
    """A pure change of level for people: `6 dB louder in every band`."""
    return f"{abs(decibels):.0f} dB {'louder' if decibels > 0 else 'quieter'} in every band"
