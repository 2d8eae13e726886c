"""Scores become an alarm: raised by N anomalous windows of M, cleared by a quiet stretch."""

from __future__ import annotations

import uuid
from collections import deque
from collections.abc import Callable

from agent.decide.config import DecideConfig
from agent.frames import Decision, Level, Score


def _new_id() -> str:
    return uuid.uuid4().hex


class AlarmDecider:
    """The alarm of one machine.

    A valid window is anomalous when its score is above the threshold. `raise_windows` anomalous
    ones among the latest `of_windows` valid ones raise the alarm; `clear_windows` valid ones in a
    row, each below the threshold by the hysteresis, clear it. An invalid window says nothing about
    the machine: it neither raises nor clears, nor does it break a row.

    Args:
        config: The counts, and a threshold that replaces the bundle's.
        threshold: The bundle's threshold, in units of the score.
        new_id: Makes the id of a new alarm.
    """

    def __init__(
        self, config: DecideConfig, threshold: float, *, new_id: Callable[[], str] = _new_id
    ) -> None:
        self.threshold = threshold if config.threshold is None else config.threshold
        # By its size: a normalised score, and with it the threshold, may be negative.
        self._clear_below = self.threshold - config.hysteresis * abs(self.threshold)
        self._config = config
        self._new_id = new_id
        self._recent: deque[bool] = deque(maxlen=config.of_windows)
        self._quiet = 0
        self._level = Level.NORMAL
        self._since: float | None = None
        self._alarm_id = ""

    def decide(self, score: Score) -> Decision:
        """Take the next window's score into account.

        Args:
            score: Of the next window; its value is None when the window is invalid.
        """
        now = score.window.end_wall
        if self._since is None:
            self._since = now
        exceeded = score.value is not None and score.value > self.threshold
        changed, alarm_id = False, self._alarm_id
        if score.value is not None:
            changed = (
                self._judge_quiet(score.value)
                if self._level is Level.ALARM
                else self._judge_raise(exceeded)
            )
        if changed:
            self._since = now
            # The window that clears an alarm still bears its id.
            alarm_id = self._alarm_id
            if self._level is Level.NORMAL:
                self._alarm_id = ""
        return Decision(
            score=score,
            threshold=self.threshold,
            exceeded=exceeded,
            level=self._level,
            changed=changed,
            since_wall=self._since,
            alarm_id=alarm_id,
        )

    def _judge_raise(self, exceeded: bool) -> bool:
        self._recent.append(exceeded)
        if sum(self._recent) < self._config.raise_windows:
            return False
        self._level, self._alarm_id, self._quiet = Level.ALARM, self._new_id(), 0
        return True

    def _judge_quiet(self, value: float) -> bool:
        self._quiet = self._quiet + 1 if value <= self._clear_below else 0
        if self._quiet < self._config.clear_windows:
            return False
        self._level = Level.NORMAL
        # What raised the old alarm must not help to raise the next.
        self._recent.clear()
        return True
