"""Is anything judged of a machine at all? An hour of sound without a judged window is told."""

from __future__ import annotations

import logging
import time
from collections import Counter
from pathlib import Path
from typing import Annotated

from pydantic import Field, FiniteFloat, ValidationError

from agent.core.errors import AuscultError
from agent.core.records import Decision, MachineState, Validity
from agent.core.schema import Strict
from agent.core.storage import write_atomic

log = logging.getLogger(__name__)

#: So much sound without a judged window is told, seconds; the file is renewed as often.
HOUR = 3600.0

_WORDS: dict[MachineState, str] = {
    MachineState.IDLE: "idle",
    MachineState.CHANGING: "starting up, stopping, or in runs too short for either",
}


class NotJudged(Strict):
    """What a running agent says of a machine that nothing is judged of; for `auscult doctor`."""

    wall: Annotated[FiniteFloat, Field(description="When it was said, seconds since the epoch")]
    why: Annotated[str, Field(description="Since when, and why, in words")]


class JudgedWatch:
    """Watches one machine's decisions.

    Args:
        machine: The machine, for the log.
        path: Where it is said for other programs on this device; None for nowhere.
    """

    def __init__(self, machine: str, path: Path | None = None) -> None:
        self._machine, self._path = machine, path
        self._last: float | None = None
        self._reasons: Counter[str] = Counter()
        self._told = 0
        if path is not None:
            self._forget()

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
        return f"no window was judged in {seconds / HOUR:.1f} hours of sound: {shares}"

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
                self._forget()
            self._reasons.clear()
            self._told = 0
            return
        self._reasons[reason] += min(max(step, 0.0), window.seconds)  # type: ignore[assignment]
        hours = int(self.seconds // HOUR)
        if hours > self._told:
            if not self._told:
                log.warning("%s: %s", self._machine, self.why)
            self._told = hours
            self._save()

    def _save(self) -> None:
        if self._path is None:
            return
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            told = NotJudged(wall=time.time(), why=self.why)
            write_atomic(self._path, told.model_dump_json().encode() + b"\n")
        except (OSError, AuscultError) as fault:
            log.debug("%s: cannot be written: %s", self._path, fault)

    def _forget(self) -> None:
        if self._path is not None:
            try:
                self._path.unlink(missing_ok=True)
            except OSError as fault:
                log.debug("%s: cannot be removed: %s", self._path, fault)


def read_not_judged(path: Path) -> str:
    """What the running agent said last; empty when it said nothing that still holds."""
    try:
        told = NotJudged.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return ""
    # It is renewed with every hour of sound: what is much older is of an agent that has ended.
    return told.why if abs(time.time() - told.wall) < 2 * HOUR else ""


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
