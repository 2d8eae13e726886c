"""Words of sound by which two recordings of the same sound find each other.

After Haitsma and Kalker, "A Highly Robust Audio Fingerprinting System" (ISMIR 2002): long frames
that overlap much, 33 bands, and of each pair of neighbouring bands the sign of how their difference
changed since the frame before: 32 bits. Level, re-encoding and a shift leave most words alone; two
recordings of a steady machine share hardly any, since the signs are those of its noise.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import soxr

from agent.core.fourier import frame_power
from agent.core.records import Samples

RATE = 8000
FRAME, STEP = 4096, 256
# Frames over which a change is measured: neighbours overlap too much to differ.
_BACK = 4
_LOWEST, _HIGHEST = 150.0, 3500.0
_BANDS = 33
# Few enough that their spectra stay in the processor's cache.
_AT_ONCE = 32

Words = npt.NDArray[np.uint32]


class FingerprintMeter:
    """Makes words of sound that comes in pieces.

    Args:
        rate: Rate of the pieces, Hz.
    """

    def __init__(self, rate: int) -> None:
        self._resampler = soxr.ResampleStream(rate, RATE, 1, dtype="float32", quality="MQ")
        self._held: Samples = np.empty(0, np.float32)
        self._before: npt.NDArray[np.float32] | None = None
        self._words: list[Words] = []
        self._window = np.hanning(FRAME).astype(np.float32)
        edges = np.geomspace(_LOWEST, _HIGHEST, _BANDS + 1) / RATE * FRAME
        self._edges = np.unique(np.round(edges).astype(int))

    def push(self, samples: Samples) -> None:
        """Take mono sound, float32 `(n,)`."""
        self._take(self._resampler.resample_chunk(samples))

    def words(self) -> Words:
        """All words, one every `STEP` samples at `RATE`. The last call."""
        self._take(self._resampler.resample_chunk(np.empty(0, np.float32), last=True))
        return np.concatenate(self._words) if self._words else np.empty(0, np.uint32)

    def _take(self, samples: Samples) -> None:
        held = np.concatenate([self._held, samples])
        count = (len(held) - FRAME) // STEP + 1
        for first in range(0, max(0, count), _AT_ONCE):
            some = min(_AT_ONCE, count - first)
            part = held[first * STEP : (first + some - 1) * STEP + FRAME]
            frames = np.lib.stride_tricks.sliding_window_view(part, FRAME)[::STEP]
            self._hash(frames)
        self._held = held[max(0, count) * STEP :].copy()

    def _hash(self, frames: npt.NDArray[np.float32]) -> None:
        power = frame_power(frames * self._window)
        bands = np.add.reduceat(power[:, : self._edges[-1]], self._edges[:-1], axis=1)
        levels = np.log(bands + 1e-20).astype(np.float32)
        slopes = np.diff(levels, axis=1)
        before = self._before
        joined = slopes if before is None else np.concatenate([before, slopes])
        self._before = joined[-_BACK:]
        if len(joined) <= _BACK:
            return
        signs = joined[_BACK:] > joined[:-_BACK]
        bits = np.zeros((len(signs), 32), bool)
        bits[:, : signs.shape[1]] = signs[:, :32]
        words = np.packbits(bits, axis=1).view(">u4")[:, 0].astype(np.uint32)
        self._words.append(words)
