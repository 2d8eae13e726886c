"""What becomes of an alarm once it has risen, in the words of OPC UA Part 9.

    acknowledge                     an operator has seen it; a latched alarm then ends when quiet
    shelve (timed, one shot)        out of view: the life goes on, but nothing rises for the world
    mute                            the machine is being worked on: nothing counts as evidence

A pure state machine: time comes in with each call (monotonic for durations, wall for people), and
what is to be told goes out as events.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from agent.config.decide import DecideConfig
from agent.config.maintenance import Schedule
from agent.core.errors import AuscultError
from agent.core.reasons import Circumstance, Explanation
from agent.core.records import AlarmStatus, EventKind, Level, Shelving
from agent.core.scale import Scale
from agent.core.text import lasting
from agent.decide.about import AlarmAbout
from agent.decide.evidence import Heard
from agent.decide.log import NOT_YET, new_alarm_id
from agent.decide.memory import AlarmMemory
from agent.decide.reason import News

_NEVER = float("inf")


class CommandError(AuscultError):
    """A command that makes no sense as things stand; nothing was changed."""


class AlarmStateMachine(AlarmAbout):
    """Level, acknowledgement and shelving of one alarm. One call at a time.

    Each call begins with `at`, which tells it the time, and the events that calls bring about are
    handed over by `take`.

    Args:
        config: Habits: latching, reminders, bounds.
        memory: Where an earlier run stopped; None begins at normal.
        new_id: Makes the id of a new alarm.
        schedule: Planned maintenance; None for none.
    """

    def __init__(
        self,
        config: DecideConfig,
        memory: AlarmMemory | None = None,
        new_id: Callable[[], str] = new_alarm_id,
        schedule: Schedule | None = None,
    ) -> None:
        super().__init__(memory, new_id, config.series_seconds)
        self._config = config
        self._schedule = schedule or Schedule()
        self._shelf_end = self._mute_end = _NEVER
        self._annunciated = 0.0
        self._level_told = NOT_YET  # when a change of level that stands was told last
        self._condition = self._memory.condition

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
            muted_until_wall=self._muted_until,
            level_change_db=memory.level_change,
            reason=memory.reason if memory.alarm_id else None,
            planned=memory.planned,
        )

    def memory(self) -> AlarmMemory:
        """What the next run must know; which conditions hold is not known here."""
        memory = self._memory
        shelf = self._left(self._shelf_end, memory.shelved_seconds) if self._shelved else 0.0
        mute = self._left(self._mute_end, memory.muted_seconds) if memory.muted else 0.0
        return memory.model_copy(
            update={"saved_wall": self._wall, "shelved_seconds": shelf, "muted_seconds": mute}
        )

    def at(self, monotonic: float, wall: float) -> None:
        """Let time pass up to now: shelving and muting may end, a reminder fall due.

        Args:
            monotonic: Now, seconds; a time before the last one counts as the last one.
            wall: Now, seconds since the epoch.
        """
        first = self._now == NOT_YET
        self._now, self._wall = max(self._now, monotonic), wall
        memory = self._memory
        if first:
            self._annunciated = self._now
            if memory.acknowledged and memory.spoke_wall is not None:
                # A day is longer than many a run of the agent.
                self._annunciated -= max(0.0, wall - memory.spoke_wall)
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
        if first:
            self._level_told = self._now
        self._plan()
        self._remind()
        self._remind_of_level()

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
            self._annunciated = self._now
            self._update(acknowledged=True, spoke_wall=self._wall)
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
        """Whether the machine is being worked on, by an operator's word or as planned."""
        return self._memory.muted or bool(self._memory.planned)

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
        """Listen again, also where maintenance is planned for longer. Idempotent."""
        if self._memory.planned:
            self._update(planned_ended=self._memory.planned_end)
            self._end_plan(operator, note or "planned maintenance has ended early")
        self._end_mute(operator, note)

    def reconsidered(self, news: News, context: Sequence[Circumstance] = ()) -> None:
        """Take what has become of the standing alarm's reason: an acknowledged one may speak again.

        Args:
            news: What has become of its reason.
            context: What else is so.
        """
        memory = self._memory
        if not memory.alarm_id or memory.reason is None or not news.new or self._shelved:
            return
        spoken = memory.acknowledged and memory.level is memory.announced is Level.ALARM
        self._reason(news.zone, news.bands, news.new, context)
        if spoken:
            self._speak_again()

    def level_changed(self, decibels: float | None) -> None:
        """The machine is heard at another level for good, or as loud as before again.

        Args:
            decibels: How much louder, dB; None when that is over.
        """
        before = self._memory.level_change
        self._update(level_change=decibels)
        if decibels is not None:
            self._level_told = self._now
            why = Explanation(level_words(decibels) + "; its shape is as healthy sound's")
            self._tell(EventKind.LEVEL, explanation=why, decibels=decibels)
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
    def _muted_until(self) -> float | None:
        """When people have done with the machine, seconds since the epoch; None when they have."""
        memory = self._memory
        ends = [memory.planned_end] if memory.planned else []
        if memory.muted:
            ends.append(self._wall + self._left(self._mute_end, memory.muted_seconds))
        return max(ends, default=None)

    @property
    def _shelved(self) -> bool:
        return self._memory.shelving is not Shelving.UNSHELVED

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
            series = self._memory.series.model_copy(update={"last_wall": self._wall})
            self._update(
                alarm_id="", acknowledged=True, evidence="", told=0, spoke_wall=None, reason=None,
                told_zone=None, told_bands=(), series=series,
            )  # fmt: skip

    def _announce(self) -> None:
        """Tell of a level that differs from what was told; nothing rises out of a shelf."""
        level, known = self._memory.level, self._memory.announced
        rises = level.rank > known.rank
        if level is known or (rises and self._shelved):
            return
        if rises:
            kind = EventKind.RAISED if level is Level.ALARM else EventKind.ALERT
            self._annunciated = self._now
            self._count(known)
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

    def _speak_again(self) -> None:
        self._annunciated = self._now
        self._update(acknowledged=False, spoke_wall=self._wall)
        self._tell(EventKind.REALARM)

    def _plan(self) -> None:
        """Planned maintenance begins and ends by the clock."""
        memory, now = self._memory, self._schedule.at(self._wall)
        if now is not None and now.end == memory.planned_ended:
            now = None  # an operator has ended it early
        if memory.planned and (now is None or now.name != memory.planned):
            self._end_plan("", "planned maintenance is over", more=now is not None)
        elif memory.planned and now is not None and now.end != memory.planned_end:
            self._update(planned_end=now.end)
        if now is not None and not self._memory.planned:
            self._update(planned=now.name, planned_end=now.end)
            self._tell(EventKind.MUTED, note=f"planned: {now.name}")

    def _end_plan(self, operator: str, note: str, *, more: bool = False) -> None:
        name = self._memory.planned
        self._update(planned="", planned_end=0.0)
        if not self._memory.muted and not more:
            self._annunciated = self._now
            self._tell(EventKind.UNMUTED, operator=operator, note=f"{note}: {name}")

    def _end_mute(self, operator: str, note: str) -> None:
        if self._memory.muted:
            self._mute_end = _NEVER
            self._update(muted=False)
            if not self._memory.planned:
                self._annunciated = self._now
                self._tell(EventKind.UNMUTED, operator=operator, note=note)

    def _remind(self) -> None:
        memory, config = self._memory, self._config
        seen = memory.acknowledged
        interval = config.realarm_acknowledged_seconds if seen else config.realarm_seconds
        if (
            interval is not None
            and self._now - self._annunciated >= interval
            and memory.level is memory.announced is Level.ALARM
            and not (self._shelved or self.muted)
        ):
            if seen and memory.reason is not None:
                new = (f"still there {lasting(interval)} after it was acknowledged",)
                self._update(reason=replace(memory.reason, new=new))
            self._speak_again()

    def _remind_of_level(self) -> None:
        """A change of level that nobody has answered may be a fault: it is told again."""
        interval, decibels = self._config.realarm_acknowledged_seconds, self._memory.level_change
        if interval is None or decibels is None or self._shelved or self.muted:
            return
        if self._now - self._level_told < interval:
            return
        self._level_told = self._now
        why = f"still {level_words(decibels)} after {lasting(interval)}, and nobody has said why"
        self._tell(EventKind.LEVEL, explanation=Explanation(why), decibels=decibels)

    def _standing(self, what: str, alarm_id: str) -> None:
        present = self._memory.alarm_id
        if not present:
            raise CommandError(f"there is no alarm to {what}", remedy="It may have cleared by now.")
        if alarm_id and alarm_id != present:
            raise CommandError(
                f"alarm {alarm_id} is not the present one, which is {present}",
                remedy="Look at the machine's alarm again before you answer it.",
            )


def level_words(decibels: float) -> str:
    """A pure change of level for people: `6 dB louder in every band`."""
    return f"{abs(decibels):.0f} dB {'louder' if decibels > 0 else 'quieter'} in every band"
