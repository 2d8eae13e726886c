"""Band levels of half a second of sound: what standing still and running are told apart by."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from agent.core.records import Matrix, Samples

#: Length of a frame, seconds: a machine's start or stop is placed this finely.
FRAME_SECONDS = 0.5
#: Bands of equal ratio, about half an octave each at 16 kHz.
BANDS = 12
_LOWEST_HZ = 50.0
# Of the rate: above that, resamplers and converters shape the sound.
_HIGHEST_SHARE = 0.45
_FLOOR_DB = -140.0
# Frames transformed at once.
_BATCH = 256


def _edges(rate: int) -> npt.NDArray[np.float64]:
    low, high = min(_LOWEST_HZ, 0.05 * rate), _HIGHEST_SHARE * rate
    return np.asarray(np.geomspace(low, high, BANDS + 1), np.float64)


def band_middles(rate: int) -> tuple[float, ...]:
    """Geometric middle of each band at a rate, Hz."""
    edges = _edges(rate)
    return tuple(np.sqrt(edges[1:] * edges[:-1]).tolist())


class BandLevels:
    """Measures frames of one rate.

    Args:
        rate: Samples a second.
    """

    def __init__(self, rate: int) -> None:
        self.frame_samples = max(2, round(FRAME_SECONDS * rate))
        self._window = np.hanning(self.frame_samples).astype(np.float32)
        hertz = np.fft.rfftfreq(self.frame_samples, 1.0 / rate)
        edges = _edges(rate)
        band = np.searchsorted(edges, hertz, side="right") - 1
        inside = (band >= 0) & (band < BANDS)
        self._sum = np.zeros((len(hertz), BANDS), np.float32)
        self._sum[np.flatnonzero(inside), band[inside]] = 1.0
        power = float(np.square(self._window, dtype=np.float64).sum())
        self._scale = 2.0 / (power * self.frame_samples)

    def measure(self, frames: Matrix) -> Matrix:
        """Power in each band, dB re full scale.

        Args:
            frames: float32, shape `(n, frame_samples)`, full scale 1.0.

        Returns:
            float32, shape `(n, BANDS)`.
        """
        found = np.empty((len(frames), BANDS), np.float32)
        for first in range(0, len(frames), _BATCH):
            part = frames[first : first + _BATCH]
            spectrum = np.fft.rfft(part * self._window, axis=1)
            # Without the root that a modulus takes to be squared again.
            squared = np.square(spectrum.real) + np.square(spectrum.imag)
            power = squared.astype(np.float32, copy=False) @ self._sum * self._scale
            found[first : first + _BATCH] = np.maximum(
                10.0 * np.log10(np.maximum(power, 1e-20)), _FLOOR_DB
            )
        return found

    def frames_of(self, samples: Samples) -> Matrix:
        """Whole frames of a stretch of sound, from its beginning; `(n, frame_samples)`."""
        count = len(samples) // self.frame_samples
        return samples[: count * self.frame_samples].reshape(count, self.frame_samples)
