"""Up to which frequency does sound go? Where a resampler, a codec or a microphone cut it off.

Sound of a machine falls off towards high frequencies gradually. What was resampled or encoded ends
at an edge: within a few per cent of frequency the level drops to nothing, and stays there. Two
recordings of one machine whose edges lie apart differ to a detector, and the machine is not why.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from agent.core.fourier import frame_power
from agent.core.records import Matrix

_FRAME = 4096
# Frames looked at of each stretch of sound: more would not move the mean spectrum.
_FRAMES = 4
# An edge: so much lower, dB, in all that lies beyond a gap of this share of the band, or of the
# edge's own frequency where that is less (a machine's own sound may fall as steeply in hertz).
_DROP_DB = 15.0
_GAP = 0.03
_RATIO = 0.1
_SMOOTH = 0.02
# Below this share of the band an edge would leave nothing to call sound.
_LOWEST = 0.1


class BandMeter:
    """Mean power spectrum of sound that comes in stretches, and where it ends.

    Args:
        rate: Samples a second, as stored.
    """

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self._window = np.hanning(_FRAME).astype(np.float32)
        self._power: npt.NDArray[np.float64] = np.zeros(_FRAME // 2 + 1)
        self._frames = 0

    def push(self, stretches: Matrix) -> None:
        """Take stretches of mono sound, float32 `(stretches, n)`; less than a frame is left out."""
        length = stretches.shape[1]
        if length < _FRAME:
            return
        starts = np.linspace(0, length - _FRAME, _FRAMES).astype(int)
        frames = np.stack([stretches[:, start : start + _FRAME] for start in starts], axis=1)
        frames -= frames.mean(axis=2, keepdims=True)
        frames *= self._window
        powers = frame_power(frames).astype(np.float64)
        used = np.isfinite(powers).all(axis=2) & powers.any(axis=2)
        powers[~used] = 0.0
        # Stretch by stretch, so that it makes no difference how many come at once.
        for power in powers.sum(axis=1):
            self._power += power
        self._frames += int(used.sum())

    def bandwidth(self) -> float | None:
        """The frequency up to which there is sound, Hz; None when nothing was measured.

        Half the rate where the sound ends nowhere before it.
        """
        if not self._frames:
            return None
        nyquist = self._rate / 2
        levels = 10.0 * np.log10(self._power / self._frames + 1e-30)
        bins = len(levels)
        width = max(3, round(_SMOOTH * bins)) | 1
        # A median, so that one tone near the top is no edge.
        padded = np.pad(levels, width // 2, mode="edge")
        # Sorted whole, short rows are done in a fifth of `np.median`'s time.
        rows = np.sort(np.lib.stride_tricks.sliding_window_view(padded, width), axis=1)
        smooth = rows[:, width // 2]
        gap = max(1, round(_GAP * bins))
        # The highest level anywhere beyond each place.
        beyond = np.maximum.accumulate(smooth[::-1])[::-1]
        places = np.arange(round(_LOWEST * bins), bins - gap)
        past = places + np.minimum(gap, np.maximum(1, _RATIO * places)).astype(int)
        edges = places[smooth[places] - beyond[past] >= _DROP_DB]
        if not len(edges):
            return nyquist
        top = int(edges.max())
        # Not where the slope ends, but where it begins to fall.
        flat = np.flatnonzero(smooth[: top + 1] >= smooth[top - gap : top + 1].max() - 6.0)
        return float(flat.max() if len(flat) else top) / (bins - 1) * nyquist
