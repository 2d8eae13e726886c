"""A cheap trigger: half seconds of sound whose levels jump, or that hold a knock.

Levels of twelve bands, and how far the sharpest edge stands out, are held against the machine's
own latest minutes. What a machine does all the time, strokes and hisses included, is in them, so
only what is new to it calls; and one that is restless soon calls only for more than that.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from agent.activity.levels import BANDS, FRAME_SECONDS, StreamLevels
from agent.core.lasting import lasting
from agent.core.records import AudioBlock, Matrix, Samples

Floats = npt.NDArray[np.float64]

# Mean and spread follow with this time constant, half seconds: slower than what is to be heard,
# quicker than a shift.
_FOLLOWS = 60.0 / FRAME_SECONDS
# No judgement of what is new before so much was heard, seconds.
_LEARNS_SECONDS = 10.0
# Mean deviations that call at least, and steps of a measure below which nothing is told apart, dB.
_CALLS, _FINEST_DB = 6.0, 0.5
# ...and by so much more than all but a hundredth of the latest five minutes.
_BEYOND, _USUAL, _REMEMBERED_SECONDS = 1.25, 0.99, 300.0
_USUAL_EVERY = 4
# A deviation counts for the spread up to so many times that: one bang makes nobody deaf.
_CAPPED = 3.0


class LevelTrigger:
    """Hears one machine's stream. Not thread-safe.

    Args:
        rate: Samples a second.
    """

    def __init__(self, rate: int) -> None:
        #: Measures its half seconds, for whoever else asks for them.
        self.levels = StreamLevels(rate)
        self._pieces: list[Samples] = []
        self._position = 0  # samples of the stream
        self._held = 0
        self._mean: Floats | None = None  # of each measure
        self._spread = np.full(BANDS + 1, 1.0)
        self._heard = 0
        self._latest: Floats = np.zeros(round(_REMEMBERED_SECONDS / FRAME_SECONDS))
        self._usual = 0.0

    @property
    def learning(self) -> bool:
        """Whether it has heard too little to tell what is new."""
        return self._heard * FRAME_SECONDS < _LEARNS_SECONDS

    def hear(self, block: AudioBlock) -> bool:
        """Take a block of sound.

        Returns:
            Whether a half second that it completes calls for a closer look.
        """
        if block.gap_before:
            self._pieces, self._held = [], 0
        self._pieces.append(lasting(block.samples))
        self._position += len(block.samples)
        self._held += len(block.samples)
        size = self.levels.frame_samples
        if self._held < size:
            return False
        joined = np.concatenate(self._pieces)
        whole = self._held - self._held % size
        start = self._position - self._held
        # Of their own: the sound before them is let go of.
        self._pieces, self._held = [joined[whole:].copy()], self._held - whole
        frames = joined[:whole].reshape(-1, size)
        measured = _measures(self.levels.measure(frames, start), frames)
        calls = [self.calls(measures) for measures in measured]
        return any(calls)

    @property
    def frame_samples(self) -> int:
        """Samples of a half second."""
        return self.levels.frame_samples

    def calls(self, measures: Floats) -> bool:
        """Take what was measured of the next half second.

        Args:
            measures: Band levels and sharpest edge, dB, shape `(BANDS + 1,)`.

        Returns:
            Whether it calls for a closer look.
        """
        if not np.isfinite(measures).all():
            return False  # the window that holds it says what is wrong
        mean = self._mean
        self._heard += 1
        if mean is None:
            self._mean = measures
            return False
        away = measures - mean
        self._mean = mean + away / min(self._heard, _FOLLOWS)
        away[-1] = max(0.0, away[-1])  # a missing knock is none
        away = np.abs(away)
        spread = np.maximum(self._spread, _FINEST_DB)
        stands_out = float((away / spread).max())
        capped = np.minimum(away, _CAPPED * spread)
        self._spread += (capped - self._spread) / min(self._heard, _FOLLOWS)
        calls = not self.learning and stands_out > max(_CALLS, _BEYOND * self._usual)
        self._remember(stands_out)
        return calls

    def _remember(self, stands_out: float) -> None:
        """Keep it among the latest five minutes'; what is usual there follows every few seconds."""
        size = len(self._latest)
        self._latest[self._heard % size] = stands_out
        if self._heard % _USUAL_EVERY == 0:
            # What was not heard yet is zeros, and none of the usual.
            known = self._latest if self._heard >= size else self._latest[: self._heard + 1]
            self._usual = float(np.quantile(known, _USUAL))


def _measures(levels: Matrix, frames: Matrix) -> Floats:
    """Band levels and sharpest edge of each frame, dB."""
    edges = np.abs(np.diff(frames, axis=1))
    peak, usual = (np.maximum(one, 1e-12) for one in (edges.max(axis=1), edges.mean(axis=1)))
    return np.column_stack([levels, 20.0 * np.log10(peak / usual)]).astype(float)
