"""Counts of one machine's windows and alarms, for the log and for `health`."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field

from agent.core.records import (
    AlarmEvent,
    Decision,
    EventKind,
    Level,
    MachineState,
    Validity,
    Window,
)
from agent.core.scale import Scale

# Alarms remembered for the summary: a bound, for an agent that runs for years.
_ALARMS_KEPT = 1000


@dataclass(frozen=True, slots=True)
class AlarmChange:
    """An alarm raised or cleared.

    Attributes:
        raised: Raised, else cleared (or lowered to an alert).
        stream_seconds: End of the window that did it, from the beginning of the stream.
        window: Its index.
        origin: File or device it was heard from.
        alarm_id: The alarm.
    """

    raised: bool
    stream_seconds: float
    window: int
    origin: str
    alarm_id: str


@dataclass(slots=True)
class Counters:
    """What became of a machine's windows so far.

    Attributes:
        windows: Windows that reached a decision, or were heard while there is no bundle.
        judged: Those that counted: valid, of the running machine, neither held back nor muted.
        exceeded: Those that scored above the threshold.
        levelled: Those that did so by another level alone, which is told by itself and raises no
            alarm.
        idle: Those in which the machine stood idle.
        invalid: Those that could not be judged, by validity.
        unjudged: Those that could have been judged, had there been a bundle.
        validity: Of the latest window; None before the first.
        reason: Why that one could not be judged; empty when it could.
        dropped: Windows dropped unjudged because scoring could not keep up.
        alarms: The latest alarms raised and cleared.
        raised: Alarms raised.
        alerts: Alerts given that had not been alarms before.
        stream_seconds: Length of the stream judged.
        elapsed_seconds: Time it took.
        inference_seconds: Time the encoder took of that.
        last_window: Monotonic time of the latest decision, None before the first.
        score: Of that window, raw; None when it could not be judged, or there is none.
        threshold: A score above this is anomalous, raw; None before the first decision.
        alert_threshold: One above this speaks for an alert, raw; None without alerts.
        scale: What these are told on; None before the first decision.
        state: What the machine did in it.
    """

    windows: int = 0
    judged: int = 0
    exceeded: int = 0
    levelled: int = 0
    idle: int = 0
    invalid: Counter[str] = field(default_factory=Counter)
    unjudged: int = 0
    validity: Validity | None = None
    reason: str = ""
    dropped: int = 0
    alarms: deque[AlarmChange] = field(default_factory=lambda: deque(maxlen=_ALARMS_KEPT))
    raised: int = 0
    alerts: int = 0
    stream_seconds: float = 0.0
    elapsed_seconds: float = 0.0
    inference_seconds: float = 0.0
    last_window: float | None = None
    score: float | None = None
    threshold: float | None = None
    alert_threshold: float | None = None
    scale: Scale | None = None
    state: MachineState = MachineState.UNKNOWN

    def count(self, decision: Decision) -> None:
        """Take a decision into account."""
        window = decision.score.window
        self.score, self.state = decision.score.value, decision.state
        self.threshold, self.alert_threshold = decision.threshold, decision.alert_threshold
        self.scale = decision.scale
        self._see(window)
        muted = decision.status is not None and decision.status.muted_until_wall is not None
        counts = decision.score.value is not None and not decision.held and not muted
        self.judged += counts and decision.state is MachineState.RUNNING
        self.exceeded += decision.exceeded
        value = decision.score.value
        self.levelled += (
            decision.score.level is not None
            and value is not None
            and value > decision.threshold
            and not decision.exceeded
        )
        self.idle += decision.state is MachineState.IDLE
        self.inference_seconds += decision.score.inference_seconds

    def count_unjudged(self, window: Window) -> None:
        """Take a window into account that there is no bundle to judge with."""
        self._see(window)
        self.unjudged += window.validity is Validity.VALID

    def _see(self, window: Window) -> None:
        self.windows += 1
        self.validity, self.reason = window.validity, window.reason
        if window.validity is not Validity.VALID:
            self.invalid[window.validity.value] += 1

    def count_event(self, event: AlarmEvent) -> None:
        """Take an alarm event into account."""
        raised = event.kind is EventKind.RAISED
        fallen = event.kind in {EventKind.LOWERED, EventKind.CLEARED}
        self.raised += raised
        self.alerts += event.kind is EventKind.ALERT
        if raised or (fallen and event.previous is Level.ALARM):
            self.alarms.append(
                AlarmChange(
                    raised, self.stream_seconds, event.window or 0, event.origin, event.alarm_id
                )
            )
