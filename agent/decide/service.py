"""One machine's alarm, kept: thread-safe, on disk before it is told, told again after a crash."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from agent.core.reasons import Circumstance, Explanation, UnusualBand
from agent.core.records import (
    AlarmEvent,
    AlarmStatus,
    Decision,
    EventKind,
    Level,
    MachineState,
    Score,
)
from agent.core.scale import Zone
from agent.decide.alarm import AlarmDecider
from agent.decide.reason import ReasonWatch
from agent.decide.state import AlarmFile
from agent.decide.state_machine import AlarmStateMachine
from agent.decide.thresholds import Thresholds

_RAISING = frozenset({EventKind.ALERT, EventKind.RAISED})


class AlarmService:
    """Lets one caller at a time at the alarm, and tells of its events in order.

    Events are saved with the state that brought them about, then told, then struck off. A crash in
    between tells them a second time with the same ids, and never leaves one untold.

    Args:
        decider: The alarm.
        tell: Takes each event; must not wait, nor call back.
        file: Where it is kept; None for nowhere.
    """

    def __init__(
        self,
        decider: AlarmDecider,
        tell: Callable[[AlarmEvent], None],
        file: AlarmFile | None = None,
    ) -> None:
        self._decider = decider
        self._tell = tell
        self._file = file
        self._lock = threading.Lock()
        self._watch = ReasonWatch()

    @property
    def status(self) -> AlarmStatus:
        """The alarm as it stands."""
        with self._lock:
            return self._decider.life.status

    def resume(self) -> None:
        """Tell what an earlier run decided and may not have told."""
        with self._lock:
            self._hand_over(self._decider.life.untold)

    def decide(
        self,
        score: Score,
        state: MachineState,
        witness: Callable[[Decision], str] = lambda _: "",
        explain: Callable[[Decision], Explanation | None] = lambda _: None,
        bands: Callable[[Decision], Sequence[UnusualBand]] = lambda _: (),
        context: Callable[[Decision], Sequence[Circumstance]] = lambda _: (),
    ) -> Decision:
        """Take the next window's score into account.

        Args:
            score: Of the next window.
            state: What the machine does in it.
            witness: Hears of the decision before the world, and says where its evidence is kept.
            explain: Asked why, when the window raised something.
            bands: Asked now and then what stands out while an alarm stands.
            context: Asked what else was so, when something is to be told.
        """
        with self._lock:
            decision = self._decider.decide(score, state)
            self._save()
            if evidence := witness(decision):
                self._decider.life.keep(evidence)
                events = tuple(
                    replace(event, evidence=evidence) if event.alarm_id else event
                    for event in decision.events
                )
                decision = replace(decision, evidence=evidence, events=events)
            if any(event.kind in _RAISING for event in decision.events):
                why = explain(decision)
                seen = bands(decision) if why is None else why.bands
                decision = self._explained(decision, why, tuple(seen), tuple(context(decision)))
            else:
                decision = self._reconsidered(decision, bands, context)
            self._hand_over(decision.events)
            return decision

    def _explained(
        self,
        decision: Decision,
        why: Explanation | None,
        bands: tuple[UnusualBand, ...],
        context: tuple[Circumstance, ...],
    ) -> Decision:
        """The decision, with what the alarm that it raises is about."""
        life = self._decider.life
        zone = None
        if decision.scale is not None and decision.score.value is not None:
            zone = decision.scale.zone(decision.score.value)
        decider, alarm = self._decider, decision.level is Level.ALARM
        if weak := decider.weak if alarm else decider.stays:
            context = (Circumstance("lasting", weak), *context)
        if weak and alarm:
            # An alarm is no zone for unrestricted running, however weak each window is.
            zone = zone if zone not in {Zone.A, Zone.B} else Zone.C
        life.explained(zone, bands, context)
        self._watch.begin(decision.score.window.end_monotonic)
        reason = life.status.reason
        events = tuple(
            replace(
                event,
                explanation=why,
                context=context,
                status=replace(event.status, reason=reason),
            )
            if event.kind in _RAISING
            else event
            for event in decision.events
        )
        life.amend(events)
        return replace(decision, events=events, status=life.status)

    def _reconsidered(
        self,
        decision: Decision,
        bands: Callable[[Decision], Sequence[UnusualBand]],
        context: Callable[[Decision], Sequence[Circumstance]],
    ) -> Decision:
        """The decision, with what has become of the reason of an alarm that stands."""
        life, end = self._decider.life, decision.score.window.end_monotonic
        value, scale = decision.score.value, decision.scale
        if (
            decision.level is not Level.ALARM
            or not decision.exceeded
            or value is None
            or scale is None
            or life.muted
            or not self._watch.due(end)
        ):
            return decision
        news = self._watch.look(end, scale.zone(value), bands(decision), *life.told_of)
        if news is None or not news.new:
            return decision
        around = tuple(context(decision))
        life.reconsidered(news, around)
        events = tuple(replace(event, context=around) for event in life.take())
        life.amend(events)
        return replace(decision, events=(*decision.events, *events), status=life.status)

    def tick(self) -> None:
        """Let time pass without a window."""
        with self._lock:
            self._hand_over(self._decider.tick(time.monotonic(), time.time()))

    def use_thresholds(self, found: Thresholds, overlap_seconds: float = 0.0) -> None:
        """Judge by others from now on; the alarm stays. See `AlarmDecider`."""
        with self._lock:
            self._decider.use_thresholds(found, overlap_seconds)

    def acknowledge(self, *, alarm_id: str = "", operator: str = "", note: str = "") -> AlarmStatus:
        """An operator has seen the alarm; see `AlarmStateMachine.acknowledge`."""
        return self._operate(
            lambda life: life.acknowledge(alarm_id=alarm_id, operator=operator, note=note)
        )

    def shelve(self, seconds: float | None, *, operator: str = "", note: str = "") -> AlarmStatus:
        """Take the alarm out of view; 0 seconds brings it back. See `AlarmStateMachine.shelve`."""
        return self._operate(
            lambda life: (
                life.unshelve(operator=operator, note=note)
                if seconds == 0
                else life.shelve(seconds=seconds, operator=operator, note=note)
            )
        )

    def mute(self, seconds: float, *, operator: str = "", note: str = "") -> AlarmStatus:
        """The machine is being worked on; 0 seconds ends that. See `AlarmStateMachine.mute`."""
        return self._operate(
            lambda life: (
                life.unmute(operator=operator, note=note)
                if seconds == 0
                else life.mute(seconds, operator=operator, note=note)
            )
        )

    def level_answered(
        self, kind: EventKind, decibels: float, *, operator: str, note: str = ""
    ) -> AlarmStatus:
        """An operator has said what the level is; see `AlarmStateMachine.level_answered`."""

        def answer(life: AlarmStateMachine) -> None:
            self._decider.level_answered()
            life.level_answered(kind, decibels, operator=operator, note=note)

        return self._operate(answer)

    def _operate(self, act: Callable[[AlarmStateMachine], None]) -> AlarmStatus:
        with self._lock:
            life = self._decider.life
            life.at(time.monotonic(), time.time())
            try:
                act(life)
            finally:
                # A refused command may still have come after the end of a shelving.
                self._hand_over(life.take())
            return life.status

    def _hand_over(self, events: tuple[AlarmEvent, ...]) -> None:
        self._save()
        for event in events:
            self._tell(event)
        if events:
            self._decider.life.told(events)
            self._save()

    def _save(self) -> None:
        if self._file is not None:
            self._file.save(self._decider.memory())
