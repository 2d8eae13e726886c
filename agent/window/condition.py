"""Is the microphone fit? Its condition, apart from the machine's, in the words of NAMUR NE 107.

NAMUR recommendation NE 107, "Self-monitoring and diagnosis of field devices", has four status
signals. Here:

    failure               no sound at all, digital silence, or samples that are no numbers
    check_function        opened just before (warm-up): what it gives means nothing yet
    out_of_specification  clipping, or far louder than training saw
    maintenance_required  judged still, but sound is lost too often, or of channels that are
                          averaged one is dead, far quieter, clipped or hums, or it hums or is
                          muffled against its own past

Being quiet is no fault of a microphone: the machine may stand still.

The first that applies, in this order, is the condition; otherwise `good`.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from agent.config.window import ConditionConfig
from agent.core.records import Validity, Window
from agent.core.said import RENEWED, SaidFile
from agent.window.losses import RecentLosses

# A reason that differs in its numbers alone is no news.
_NUMBER = re.compile(r"[\d.]+")


class ConditionStatus(str, Enum):
    """Status signals of NAMUR NE 107, and `good`."""

    GOOD = "good"
    FAILURE = "failure"
    CHECK_FUNCTION = "check_function"
    OUT_OF_SPECIFICATION = "out_of_specification"
    MAINTENANCE_REQUIRED = "maintenance_required"


@dataclass(frozen=True, slots=True)
class SensorCondition:
    """The microphone's condition.

    Attributes:
        status: In the words of NE 107.
        reason: Why, in words a technician understands; empty when good.
        since_wall: Wall time at which this status began, seconds since the epoch.
    """

    status: ConditionStatus
    reason: str
    since_wall: float


_FAILURES = frozenset({Validity.SILENT, Validity.NOT_FINITE})
_UNFIT = frozenset({Validity.CLIPPED, Validity.OUT_OF_RANGE})


class _Bucket:
    """Evidence over time: full after `on` seconds of it, empty again after `off` seconds without.

    Raised when full, ended when empty: hysteresis, also for evidence that comes and goes.

    Args:
        on: Seconds of evidence that raise it; 0 raises at once.
        off: Seconds without any that end it, from full.
    """

    def __init__(self, on: float, off: float) -> None:
        self._on = on
        self._off = off
        self._fill = 0.0  # 0 to 1
        self.reason = ""
        self.raised = False

    def see(self, seconds: float, reason: str) -> None:
        """Take `seconds` of evidence, or of none when `reason` is empty."""
        if reason:
            self._fill = min(1.0, self._fill + (seconds / self._on if self._on else 1.0))
            self.reason = reason
            self.raised = self.raised or self._fill >= 1.0
        else:
            self._fill = max(0.0, self._fill - (seconds / self._off if self._off else 1.0))
            self.raised = self.raised and self._fill > 0.0


class SensorMonitor:
    """Follows one microphone. Time is the windows' own; call from one thread.

    Args:
        config: How patient to be.
    """

    def __init__(self, config: ConditionConfig | None = None) -> None:
        config = config or ConditionConfig()
        self._config = config
        self._failure = _Bucket(0.0, config.failure_off_seconds)
        self._unfit = _Bucket(config.specification_on_seconds, config.specification_off_seconds)
        self._channels = _Bucket(config.specification_on_seconds, config.specification_off_seconds)
        self._losses = RecentLosses(config.gap_seconds, config.gaps_allowed)
        self._doubt = _Bucket(0.0, config.specification_off_seconds)
        self._last: float | None = None  # monotonic, end of the latest window
        self._gap_held = False
        self._condition = SensorCondition(
            ConditionStatus.CHECK_FUNCTION, "not heard yet", time.time()
        )

    @property
    def condition(self) -> SensorCondition:
        """The latest."""
        return self._condition

    def observe(
        self, window: Window, faults: Mapping[str, int] | None = None, doubt: str = ""
    ) -> SensorCondition:
        """Take in a window, valid or not.

        Args:
            window: The next of the stream.
            faults: The source's troubles counted so far (`Source.faults`), when at hand.
            doubt: Why it is doubted by what it heard before; empty when it isn't.
        """
        now = window.end_monotonic
        step = window.seconds if self._last is None else now - self._last
        # A window says nothing of a time before it in which there was none.
        step = min(max(step, 0.0), window.seconds)
        self._last = now
        kind, reason = window.validity, window.reason or window.validity.value
        warming = kind is Validity.WARM_UP
        if not warming:  # which says nothing either way
            self._failure.see(step, reason if kind in _FAILURES else "")
            self._unfit.see(step, reason if kind in _UNFIT else "")
            self._channels.see(step, "; ".join(fault.text for fault in window.channel_faults))
            self._doubt.see(step, doubt)
        # One gap is in as many windows as overlap it.
        fresh = kind is Validity.GAP and not self._gap_held
        self._gap_held = kind is Validity.GAP
        self._losses.count(now, faults or {}, gap=fresh)
        return self._settle(window.end_wall, reason if warming else "")

    def waiting(
        self, monotonic: float, wall: float, faults: Mapping[str, int] | None = None
    ) -> SensorCondition:
        """Say that no window has come, now and then while none does; live sources only.

        Args:
            monotonic: Now, on the windows' clock, seconds.
            wall: Now, seconds since the epoch.
            faults: As for `observe`.
        """
        if self._last is None:
            self._last = monotonic
        quiet = monotonic - self._last
        self._losses.count(monotonic, faults or {})
        if quiet <= self._config.no_sound_seconds:
            return self._condition
        self._failure.see(0.0, "no sound comes: the microphone is gone, or not connected")
        return self._settle(wall, "")

    def _settle(self, wall: float, warming: str) -> SensorCondition:
        status, reason = ConditionStatus.GOOD, ""
        if self._failure.raised:
            status, reason = ConditionStatus.FAILURE, self._failure.reason
        elif warming:
            status, reason = ConditionStatus.CHECK_FUNCTION, warming
        elif self._unfit.raised:
            status, reason = ConditionStatus.OUT_OF_SPECIFICATION, self._unfit.reason
        elif self._losses.often:
            status, reason = ConditionStatus.MAINTENANCE_REQUIRED, self._losses.reason
        elif self._channels.raised:
            status = ConditionStatus.MAINTENANCE_REQUIRED
            reason = f"{self._channels.reason}: choose another one by the source's `channel`"
        elif self._doubt.raised:
            status, reason = ConditionStatus.MAINTENANCE_REQUIRED, self._doubt.reason
        if status is not self._condition.status:
            self._condition = SensorCondition(status, reason, wall)
        elif _NUMBER.sub("", reason) != _NUMBER.sub("", self._condition.reason):
            self._condition = SensorCondition(status, reason, self._condition.since_wall)
        return self._condition


class ConditionFile:
    """Says a microphone's condition to other programs on this device while it is not good.

    Args:
        path: Where; None for nowhere.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._file = SaidFile(path)
        self._said, self._at = "", 0.0
        self._file.forget()

    def tell(self, condition: SensorCondition) -> None:
        """Say it if that is news, or an hour old."""
        text = ""
        if condition.status not in {ConditionStatus.GOOD, ConditionStatus.CHECK_FUNCTION}:
            text = f"{condition.status.value.replace('_', ' ')}: {condition.reason}"
        now = time.monotonic()
        news = _NUMBER.sub("", text) != _NUMBER.sub("", self._said)
        if text and (news or now - self._at >= RENEWED):
            self._file.say(text)
            self._at = now
        elif self._said and not text:
            self._file.forget()
        self._said = text


def condition_file(state: Path, machine: str) -> Path:
    """Where the agent says a microphone's condition, below its state directory."""
    return state / "state" / "microphone" / f"{machine}.json"
