"""Is anything judged of a machine at all? An hour of sound without a judged window is told."""

from __future__ import annotations

import logging
from collections import Counter
from pathlib import Path

from agent.core.records import Decision, MachineState, Validity
from agent.core.said import RENEWED, SaidFile

log = logging.getLogger(__name__)

#: So much sound without a judged window is told, seconds; the file is renewed as often.
HOUR = RENEWED

_IF_IT_RAN = (
    " (if it ran meanwhile: its bundle may be another machine's, or learnt at another gain)"
)
_WORDS: dict[MachineState, str] = {
    MachineState.IDLE: "idle",
    MachineState.CHANGING: "starting up, stopping, or in runs too short for either",
}


class JudgedWatch:
    """Watches one machine's decisions.

    Args:
        machine: The machine, for the log.
        path: Where it is said for other programs on this device; None for nowhere.
    """

    def __init__(self, machine: str, path: Path | None = None) -> None:
        self._machine, self._file = machine, SaidFile(path)
        self._last: float | None = None
        self._reasons: Counter[str] = Counter()
        self._told = 0
        self._file.forget()

    @property
    def seconds(self) -> float:
        """Sound heard since a window was judged."""
        return sum(self._reasons.values())

    @property
    def why(self) -> str:
        """Since when nothing was judged, and why; empty while it isn't an hour of sound."""
        seconds = self.seconds
        if seconds < HOUR:
            return ""
        shares = "; ".join(
            f"{100 * part / seconds:.0f} % {reason}"
            for reason, part in self._reasons.most_common(3)
        )
        return f"no window was judged in {seconds / HOUR:.1f} hours of sound: {shares}{_IF_IT_RAN}"

    def take(self, decision: Decision) -> None:
        """Take a decision into account."""
        window = decision.score.window
        end = window.end_monotonic
        step = window.seconds if self._last is None else end - self._last
        self._last = end if self._last is None else max(end, self._last)
        reason = _reason(decision)
        if not reason:
            if self._told:
                log.info("%s: windows are judged again", self._machine)
                self._file.forget()
            self._reasons.clear()
            self._told = 0
            return
        self._reasons[reason] += min(max(step, 0.0), window.seconds)  # type: ignore[assignment]
        hours = int(self.seconds // HOUR)
        if hours > self._told:
            if not self._told:
                log.warning("%s: %s", self._machine, self.why)
            self._told = hours
            self._file.say(self.why)


def watch_file(state: Path, machine: str) -> Path:
    """Where the agent says it."""
    return state / "state" / "not_judged" / f"{machine}.json"


def _reason(decision: Decision) -> str:
    """Why a window says nothing; empty when it was judged."""
    window = decision.score.window
    if decision.status is not None and decision.status.muted_until_wall is not None:
        return "muted"
    if window.validity is not Validity.VALID:
        return str(window.validity.value).replace("_", " ")
    return decision.held or _WORDS.get(decision.state, "")
