"""Sound as the microphone of training would hear it: what another adds to each band taken off."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from agent.core.level_change import Points
from agent.core.records import Samples, Window

_TAP_SECONDS = 0.064  # resolves the lowest bands; the delay of half of it concerns nobody


def equalised(samples: Samples, rate: int, points: Points) -> Samples:
    """A stretch of sound without what the microphone adds, float32 `(n,)`; as it is without points.

    Args:
        samples: float32, shape `(n,)`.
        rate: Samples a second.
        points: What it adds.
    """
    if not points or not len(samples):
        return samples
    taps = _taps(rate, points)
    lead = len(taps) - 1
    return _filtered(np.pad(samples, (lead, 0), mode="symmetric"), taps)


def equalised_blocks(blocks: Iterable[Samples], rate: int, points: Points) -> Iterator[Samples]:
    """A recording without what the microphone adds, in blocks as long as they come.

    Args:
        blocks: float32, shape `(n,)` each.
        rate: Samples a second.
        points: What it adds.
    """
    lead: Samples | None = None
    for block in blocks:
        if not points or not len(block):
            yield block
            continue
        taps = _taps(rate, points)
        if lead is None:
            lead = np.pad(block, (len(taps) - 1, 0), mode="symmetric")[: len(taps) - 1]
        joined = np.concatenate([lead, block])
        lead = joined[len(joined) - len(taps) + 1 :]
        yield _filtered(joined, taps)


class StreamEqualiser:
    """Equalises the windows of one stream; what two of them share comes out the same in both.

    Args:
        points: What the microphone adds.
    """

    def __init__(self, points: Points) -> None:
        self.points = points
        self._last: tuple[Window, Samples] | None = None

    def apply(self, window: Window) -> Samples:
        """The window's sound without what the microphone adds, float32 `(n,)`."""
        taps = _taps(window.rate, self.points)
        samples = window.samples
        moved = None if self._last is None else window.moved_from(self._last[0])
        if moved is None or moved + len(taps) > len(samples):
            found = equalised(samples, window.rate, self.points)
        else:
            assert self._last is not None
            fresh = _filtered(samples[-(moved + len(taps) - 1) :], taps)
            found = np.concatenate([self._last[1][moved:], fresh])
        self._last = (window, found)
        return found


def offsets_at(points: Points, hertz: Sequence[float]) -> tuple[float, ...]:
    """What the microphone adds at some frequencies, dB; zeros without points."""
    if not points:
        return (0.0,) * len(hertz)
    at, decibels = np.array(points).T
    return tuple(np.interp(hertz, at, decibels).tolist())


@lru_cache(maxsize=8)
def _taps(rate: int, points: Points) -> npt.NDArray[np.float64]:
    """A linear-phase filter by its frequency response."""
    count = 1 << round(np.log2(_TAP_SECONDS * rate))
    hertz = np.fft.rfftfreq(count, 1.0 / rate)
    gain = 10.0 ** (-np.array(offsets_at(points, hertz.tolist())) / 20.0)
    taps = np.roll(np.fft.irfft(gain, count), count // 2)
    found: npt.NDArray[np.float64] = taps * np.hanning(count + 1)[:-1]
    return found


def _filtered(samples: Samples, taps: npt.NDArray[np.float64]) -> Samples:
    """What lies a whole filter's length behind the beginning, float32 `(n - len(taps) + 1,)`."""
    size = 1 << (len(samples) + len(taps) - 1).bit_length()
    found = np.fft.irfft(np.fft.rfft(samples, size) * np.fft.rfft(taps, size), size)
    return found[len(taps) - 1 : len(samples)].astype(np.float32)
