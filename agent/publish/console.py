"""Log lines for people: alarms, and stretches that could not be judged."""

from __future__ import annotations

import logging

from agent.frames import Decision, Level, Validity, Window

log = logging.getLogger(__name__)


class ConsolePublisher:
    """Logs each alarm raised and cleared, and the start and end of each invalid stretch."""

    def __init__(self) -> None:
        # Machine -> first window of the present invalid stretch, and its latest reason.
        self._invalid: dict[str, tuple[Window, Validity]] = {}
        self._alarm_since: dict[str, float] = {}

    def start(self) -> None:
        """Nothing to begin."""

    def publish(self, machine: str, decision: Decision, *, first: bool) -> None:
        """Log what changed with this window."""
        score, window = decision.score, decision.score.window
        self._tell_validity(machine, window)
        if decision.changed and decision.level is Level.ALARM:
            self._alarm_since[machine] = window.end_monotonic
            log.error(
                "%s: ALARM raised, score %.4g above threshold %.4g (window %d of %s, alarm %s)",
                machine, score.value, decision.threshold, window.index, window.origin,
                decision.alarm_id,
            )  # fmt: skip
        elif decision.changed:
            lasted = window.end_monotonic - self._alarm_since.pop(machine, window.end_monotonic)
            log.warning(
                "%s: alarm cleared after %.0f s (window %d of %s, alarm %s)",
                machine, lasted, window.index, window.origin, decision.alarm_id,
            )  # fmt: skip
        elif first and window.validity is Validity.VALID:
            log.info(
                "%s: first window judged, score %.4g, threshold %.4g",
                machine, score.value, decision.threshold,
            )  # fmt: skip
        log.debug("%s: window %d score %s", machine, window.index, score.value)

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
        """Nothing to finish."""

    def state(self) -> str:
        """Machines that cannot be judged at present."""
        return f"cannot judge {', '.join(self._invalid)}" if self._invalid else ""
