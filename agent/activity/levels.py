"""Band levels of half a second of sound: what standing still and running are told apart by."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from functools import lru_cache

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
# Frames of a stream that are remembered: those of the longest block that a source gives.
_REMEMBERED = 64


def _edges(rate: int) -> npt.NDArray[np.float64]:
    low, high = min(_LOWEST_HZ, 0.05 * rate), _HIGHEST_SHARE * rate
    return np.asarray(np.geomspace(low, high, BANDS + 1), np.float64)


def band_middles(rate: int) -> tuple[float, ...]:
    """Geometric middle of each band at a rate, Hz."""
    edges = _edges(rate)
    return tuple(np.sqrt(edges[1:] * edges[:-1]).tolist())


@dataclass(frozen=True, slots=True, eq=False)
class _Tables:
    """What all that measure frames of a rate share.

    Attributes:
        window: Taper of a frame, float32 `(frame_samples,)`.
        starts: First bin of each band.
        stop: The bin after the last band's.
        empty: Bands too narrow for a bin.
        scale: Turns a sum of squares into power.
    """

    window: Samples
    starts: npt.NDArray[np.intp]
    stop: int
    empty: npt.NDArray[np.bool_]
    scale: float


@lru_cache(maxsize=8)
def _tables(rate: int, frame_samples: int) -> _Tables:
    window = np.hanning(frame_samples).astype(np.float32)
    window.flags.writeable = False
    hertz = np.fft.rfftfreq(frame_samples, 1.0 / rate)
    # A bin on an edge is the upper band's.
    bounds = np.searchsorted(hertz, _edges(rate), side="left")
    power = float(np.square(window, dtype=np.float64).sum())
    return _Tables(
        window, bounds[:-1], int(bounds[-1]), bounds[1:] == bounds[:-1],
        2.0 / (power * frame_samples),
    )  # fmt: skip


class BandLevels:
    """Measures frames of one rate.

    Args:
        rate: Samples a second.
    """

    def __init__(self, rate: int) -> None:
        self.frame_samples = max(2, round(FRAME_SECONDS * rate))
        self._tables = _tables(rate, self.frame_samples)

    def measure(self, frames: Matrix) -> Matrix:
        """Power in each band, dB re full scale.

        Args:
            frames: float32, shape `(n, frame_samples)`, full scale 1.0.

        Returns:
            float32, shape `(n, BANDS)`.
        """
        found, tables = np.empty((len(frames), BANDS), np.float32), self._tables
        for first in range(0, len(frames), _BATCH):
            part = frames[first : first + _BATCH]
            spectrum = np.fft.rfft(part * tables.window, axis=1)[:, : tables.stop]
            # Without the root that a modulus takes to be squared again.
            squared = np.square(spectrum.real) + np.square(spectrum.imag)
            starts = np.minimum(tables.starts, tables.stop - 1)
            power = np.add.reduceat(squared, starts, axis=1) * tables.scale
            power[:, tables.empty] = 0.0
            found[first : first + _BATCH] = np.maximum(
                10.0 * np.log10(np.maximum(power, 1e-20)), _FLOOR_DB
            )
        return found

    def frames_of(self, samples: Samples) -> Matrix:
        """Whole frames of a stretch of sound, from its beginning; `(n, frame_samples)`."""
        count = len(samples) // self.frame_samples
        return samples[: count * self.frame_samples].reshape(count, self.frame_samples)


class StreamLevels:
    """Band levels of one stream's frames, each measured once however many ask. Of one thread.

    Args:
        rate: Samples a second.
    """

    def __init__(self, rate: int) -> None:
        self._bands = BandLevels(rate)
        self._known: OrderedDict[int, npt.NDArray[np.float32]] = OrderedDict()

    @property
    def frame_samples(self) -> int:
        """Samples of a frame."""
        return self._bands.frame_samples

    def measure(self, frames: Matrix, start: int) -> Matrix:
        """Power in each band, dB re full scale.

        Args:
            frames: Frames that follow each other, float32 `(n, frame_samples)`.
            start: Samples of the stream before the first.

        Returns:
            float32, shape `(n, BANDS)`.
        """
        places = [start + n * self.frame_samples for n in range(len(frames))]
        if all(place in self._known for place in places):
            return np.stack([self._known[place] for place in places])
        found = self._bands.measure(frames)
        self._known.update(zip(places, found, strict=True))
        while len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)
        return found
