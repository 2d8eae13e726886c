"""Pace of a machine's windows: each fifth place of the grid while all is calm, else every one.

Windows lie on one grid, the closest hop. While the machine is calm, only every so many-th place of
the grid becomes a window; which, its scores and a trigger from the sound's levels decide. A window
that comes at the calm step, or follows one that was not calm, speaks for all the sound since the
window before, as at any fixed hop: whether it was taken did not depend on what is in it. One that
the trigger called did: it speaks for its latest step alone (`Window.called`).
"""

from __future__ import annotations

import threading
from collections import deque

import numpy as np

from agent.activity.levels import StreamLevels
from agent.core.records import AudioBlock, Decision, Level, MachineState
from agent.core.scale import Scale
from agent.pace.trigger import LevelTrigger
from agent.window.rolling import Due

# Listened to closely from the beginning for so long, seconds, and after each reason for so many
# windows' lengths: then a window holds nothing that was heard before.
_BEGIN_SECONDS, _HOLD_LENGTHS = 30.0, 1.0
# So high between the healthy median (0) and the lowest threshold (1) a score is no calm one, nor is
# one from which the next would be above it at this pace...
_CONCERN, _RISES_TO = 0.5, 1.0
# ...unless the machine is so restless that more than a tenth of its latest scores are.
_USUAL, _REMEMBERED, _KNOWN = 0.9, 240, 60
# Longest wait for a decision where the sound waits for it, seconds.
_PATIENCE_SECONDS = 60.0


class HopPace:
    """One machine's pace. Sound is heard by one thread, decisions come from another.

    Args:
        rate: Samples a second.
        window_samples: Length of a window.
        hop_samples: The closest step.
        calm_hops: So many of them make the calm step.
        lockstep: The sound waits for the decision on each window (recordings played as fast as
            they go), so that what comes of it is what would come at real time.
        trigger: Calls for a closer look; one of its own when None.
    """

    def __init__(
        self, rate: int, window_samples: int, hop_samples: int, calm_hops: int,
        *, lockstep: bool = False, trigger: LevelTrigger | None = None,
    ) -> None:  # fmt: skip
        self._rate, self._window = rate, window_samples
        self._hop, self._calm = hop_samples, hop_samples * calm_hops
        self._hold = round(_HOLD_LENGTHS * window_samples)
        self._trigger = LevelTrigger(rate) if trigger is None else trigger
        self._changed = threading.Condition()
        self._heard = 0  # samples of the stream
        self._called_until = 0
        self._close_until = round(_BEGIN_SECONDS * rate)
        self._last: int | None = None  # end of the latest window, samples of the stream
        self._lockstep = lockstep
        self._waiting = 0  # windows without a decision
        #: Listen closely whatever is heard.
        self.closely = False
        self._before: float | None = None  # the latest score on the scale of `_CONCERN`
        # Of the latest scores how high they were, and to where they rose.
        self._latest: deque[tuple[float, float]] = deque(maxlen=_REMEMBERED)

    @property
    def levels(self) -> StreamLevels:
        """Measures the half seconds that its trigger looks at, for whoever else asks for them."""
        return self._trigger.levels

    @property
    def calm(self) -> bool:
        """Whether windows are far apart at present."""
        return not self.closely and self._heard >= max(self._called_until, self._close_until)

    def hear(self, block: AudioBlock) -> None:
        """Take a block, before its windows are asked for."""
        self._heard += len(block.samples)
        if self._trigger.hear(block):
            self._called_until = self._heard + self._hold

    def due(self, end: int) -> Due:
        """Whether the window that ends at a place of the stream is to be judged.

        Args:
            end: Samples of the stream before its end; later than the last time.
        """
        since = None if self._last is None else end - self._last
        if since is None or since >= self._calm or self.closely or end <= self._close_until:
            due = Due.YES
        elif end <= self._called_until:
            due = Due.CALLED if since > self._hop else Due.YES
        else:
            return Due.NO
        with self._changed:
            self._last = end
            self._waiting += 1
        return due

    def take(self, decision: Decision) -> None:
        """Take what was decided on a window."""
        window = decision.score.window
        if not self._is_calm(decision):
            end = window.position + self._window
            self._close_until = max(self._close_until, end + self._hold)
        with self._changed:
            self._waiting = max(0, self._waiting - 1)
            self._changed.notify_all()

    def close(self) -> None:
        """Nobody decides any more: nothing waits for it."""
        with self._changed:
            self._lockstep = False
            self._changed.notify_all()

    def settle(self) -> None:
        """Wait for the decision on the latest window, where recordings are played in lockstep."""
        with self._changed:
            self._changed.wait_for(
                lambda: not self._waiting or not self._lockstep, _PATIENCE_SECONDS
            )

    def _is_calm(self, decision: Decision) -> bool:
        if decision.level is not Level.NORMAL or decision.exceeded:
            return False
        if decision.score.value is None or decision.state is not MachineState.RUNNING:
            self._before = None
            return decision.state is MachineState.IDLE
        height = _height(decision.score.value, decision)
        before, self._before = self._before, height
        rises_to = height if before is None else 2.0 * height - before
        usual, usually_rises = self._usual()
        self._latest.append((height, rises_to))
        concern = min(1.0, max(_concern(decision.scale, decision), usual))
        return height <= concern and rises_to <= max(_RISES_TO, usually_rises)

    def _usual(self) -> tuple[float, float]:
        """What all but a tenth of the latest scores stay below, and where they rise to."""
        if len(self._latest) < _KNOWN:
            return 0.0, 0.0
        high, rising = np.quantile(np.array(self._latest), _USUAL, axis=0)
        return float(high), float(rising)


def _lowest(decision: Decision) -> float:
    alert = decision.alert_threshold
    return decision.threshold if alert is None else min(alert, decision.threshold)


def _height(value: float, decision: Decision) -> float:
    """A raw score between the healthy median (0) and the lowest threshold (1)."""
    lowest, scale = _lowest(decision), decision.scale
    median = lowest - max(abs(lowest), 1e-6) if scale is None else scale.median
    return (value - median) / max(lowest - median, 1e-9)


def _concern(scale: Scale | None, decision: Decision) -> float:
    """From here on a score is no calm one: half-way up, and more than healthy ones mostly are."""
    usual = 0.0 if scale is None else _height(scale.usual, decision)
    return min(1.0, max(_CONCERN, usual))
