"""Spectra of a recording's pieces, in which untypical ones stand out.

Per piece of ten seconds, what is always there (median over time of each band's level) and what is
there at moments (95th percentile), as the default encoder hears them.
"""

from __future__ import annotations

import numpy as np
import soxr

from agent.core.fourier import frame_power
from agent.core.records import Matrix, Samples

RATE = 16000
_FRAME, _STEP = 256, 128
PIECE_SECONDS = 10.0
BINS = _FRAME // 2 + 1


class ShapeMeter:
    """Makes one row of each piece of sound that comes in blocks.

    Args:
        rate: Rate of the blocks, Hz.
    """

    def __init__(self, rate: int) -> None:
        self._resampler = None
        if rate != RATE:
            self._resampler = soxr.ResampleStream(rate, RATE, 1, dtype="float32", quality="MQ")
        self._held: list[Samples] = []
        self._length = 0
        self._size = round(PIECE_SECONDS * RATE)
        self._rows: list[Matrix] = []
        self.levels_dbfs: list[float] = []
        self._window = np.hanning(_FRAME).astype(np.float32)

    def push(self, samples: Samples) -> None:
        """Take mono sound, float32 `(n,)`."""
        resampler = self._resampler
        self._take(samples if resampler is None else resampler.resample_chunk(samples))

    def rows(self) -> Matrix:
        """A row of each piece, dB, float32 `(pieces, 2 * BINS)`. The last call."""
        if self._resampler is not None:
            self._take(self._resampler.resample_chunk(np.empty(0, np.float32), last=True))
        rest = self._joined()
        if len(rest) and (not self._rows or len(rest) >= self._size // 4):
            self._measure(rest)
        return np.stack(self._rows) if self._rows else np.empty((0, 2 * BINS), np.float32)

    def _joined(self) -> Samples:
        return np.concatenate(self._held) if self._held else np.empty(0, np.float32)

    def _take(self, samples: Samples) -> None:
        self._held.append(samples)
        self._length += len(samples)
        if self._length < self._size:
            return
        joined = self._joined()
        while len(joined) >= self._size:
            self._measure(joined[: self._size])
            joined = joined[self._size :]
        self._held, self._length = [joined.copy()], len(joined)

    def _measure(self, piece: Samples) -> None:
        piece = piece - piece.mean(dtype=np.float64).astype(np.float32)
        mean_square = float(np.mean(np.square(piece, dtype=np.float64)))
        self.levels_dbfs.append(10.0 * float(np.log10(max(mean_square, 1e-20))))
        piece = np.pad(piece, (0, max(0, _FRAME - len(piece))))
        frames = np.lib.stride_tricks.sliding_window_view(piece, _FRAME)[::_STEP]
        power = frame_power(frames * self._window)
        # Ordered before logarithms, of which two of each frequency are left then; a whole row of
        # each frequency is sorted faster than two places in a column are found.
        ordered = np.sort(np.ascontiguousarray(power.T), axis=1)
        places = [len(power) // 2, int(0.95 * (len(power) - 1))]
        middle, often = 10.0 * np.log10(ordered[:, places].T + 1e-10)
        self._rows.append(np.concatenate([middle, often]).astype(np.float32))
