"""Log lines for people: alarms, and stretches that could not be judged."""

from __future__ import annotations

import logging

from agent.core.records import AlarmEvent, Decision, EventKind, MachineState, Validity, Window
from agent.decide.reason import reason_words
from agent.publish.messages import scale_in
from agent.publish.telling import Telling
from agent.window.condition import ConditionStatus, SensorCondition

log = logging.getLogger(__name__)


_LEVELS = {
    EventKind.ALERT: logging.WARNING,
    EventKind.RAISED: logging.ERROR,
    EventKind.REALARM: logging.ERROR,
    EventKind.LOWERED: logging.WARNING,
    EventKind.CLEARED: logging.WARNING,
    EventKind.LEVEL: logging.WARNING,
}
_WORDS = {
    EventKind.ALERT: "alert raised",
    EventKind.RAISED: "ALARM raised",
    EventKind.REALARM: "ALARM still standing",
    EventKind.LOWERED: "alarm lowered to an alert",
    EventKind.LEVEL: "level changed",
    EventKind.LEVEL_RETURNED: "level as before",
    EventKind.LEVEL_BASELINE: "level taken anew: the microphone",
    EventKind.LEVEL_UNDONE: "level taken anew: taken back",
}


_WHY = frozenset({EventKind.ALERT, EventKind.RAISED, EventKind.REALARM})


class ConsolePublisher:
    """Logs what happens to alarms and microphones, and where stretches cannot be judged."""

    def __init__(self) -> None:
        # Machine -> first window of the present invalid stretch, and its latest reason.
        self._invalid: dict[str, tuple[Window, Validity]] = {}
        self._alarm_since: dict[str, float] = {}
        self._sensors: dict[str, ConditionStatus] = {}

    def start(self) -> None:
        """Begin: the log is open already."""

    def handle(self, telling: Telling) -> None:
        """Log what happened."""
        machine, happened = telling.machine, telling.happened
        if isinstance(happened, Decision):
            self._decided(machine, happened, first=telling.first)
        elif isinstance(happened, AlarmEvent):
            self._alarm(machine, happened)
        elif isinstance(happened, SensorCondition):
            self._sensor(machine, happened)
        for kind, _ in telling.messages:
            if kind.line is not None:
                level, text = kind.line(happened)
                log.log(level, "%s: %s", machine, text)

    def _decided(self, machine: str, decision: Decision, *, first: bool) -> None:
        score, window = decision.score, decision.score.window
        self._tell_validity(machine, window)
        if first and window.validity is Validity.VALID:
            if decision.state is MachineState.IDLE:
                log.info("%s: first window: idle, its score does not count", machine)
            else:
                log.info("%s: first window judged: %s", machine, _score(decision, score.value))
        log.debug("%s: window %d score %s", machine, window.index, score.value)

    def _alarm(self, machine: str, event: AlarmEvent) -> None:
        words, lasted = _WORDS.get(event.kind, f"alarm {event.kind.value}"), ""
        if event.kind in (EventKind.ALERT, EventKind.RAISED):
            self._alarm_since.setdefault(machine, event.wall)
        elif event.kind is EventKind.CLEARED and machine in self._alarm_since:
            lasted = f" after {max(0.0, event.wall - self._alarm_since.pop(machine)):.0f} s"
        if event.level_change_db is not None:
            words = f"{words}, {event.level_change_db:+.1f} dB"
        score = "" if event.score is None else f", {_score(event, event.score)}"
        where = "" if event.window is None else f", window {event.window} of {event.origin}"
        why, reason = "", event.status.reason
        if reason is not None and event.kind in _WHY:
            why = f": {reason_words(reason)}"
        by = f" by {event.operator}" if event.operator else ""
        log.log(
            _LEVELS.get(event.kind, logging.INFO),
            "%s: %s%s%s%s%s (alarm %s)%s%s",
            machine, words, by, lasted, score, where, event.alarm_id or "none", why,
            f": {event.note}" if event.note else "",
        )  # fmt: skip

    def _sensor(self, machine: str, condition: SensorCondition) -> None:
        before = self._sensors.get(machine)
        self._sensors[machine] = condition.status
        if condition.status is before:
            return
        if condition.status is ConditionStatus.GOOD:
            log.info("%s: microphone good", machine)
        else:
            grave = condition.status is ConditionStatus.FAILURE
            log.log(
                logging.ERROR if grave else logging.WARNING,
                "%s: microphone: %s (%s)",
                machine, condition.status.value.replace("_", " "), condition.reason,
            )  # fmt: skip

    def _tell_validity(self, machine: str, window: Window) -> None:
        before = self._invalid.get(machine)
        if window.validity is Validity.VALID:
            if before is not None:
                lasted = window.end_monotonic - before[0].end_monotonic
                log.info("%s: sound can be judged again, after %.0f s", machine, lasted)
                del self._invalid[machine]
        elif before is None or before[1] is not window.validity:
            log.warning(
                "%s: cannot be judged (%s): %s (window %d of %s)",
                machine, window.validity.value, window.reason, window.index, window.origin,
            )  # fmt: skip
            self._invalid[machine] = (before[0] if before else window, window.validity)

    def stop(self) -> None:
        """End: every line has been written."""

    def state(self) -> str:
        """Machines that cannot be judged at present."""
        return f"cannot judge {', '.join(self._invalid)}" if self._invalid else ""


def _score(told: Decision | AlarmEvent, score: float | None) -> str:
    """A score as people see it, and raw."""
    if score is None:
        return "no score"
    scale = scale_in(told)
    return (
        f"score {scale.of(score):.4g} (1.0 is the threshold), zone {scale.zone(score).value}, "
        f"raw {score:.4g} of {scale.threshold:.4g}"
    )
