"""Robust band statistics of a snapshot: features for signals that no encoder was trained on.

For each channel and octave band: the level (mean square), the kurtosis and the crest factor of the
band-passed signal. All are in decibels, so that a change has a meaning a person can check: 6 dB is
a factor of two in amplitude; the kurtosis is relative to the Gaussian's 3.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from agent.drift.mixture import Array

_LEAST_BINS = 16  # a band of fewer FFT bins has no distribution to speak of
_LOWEST_HZ = 31.25
KINDS = ("level", "kurtosis", "crest")


@dataclass(frozen=True, slots=True)
class BandPlan:
    """Which bands a snapshot is cut into.

    Attributes:
        rate: Samples a second.
        length: Samples a snapshot.
        channels: Channels.
        edges: Band edges as FFT bins, ascending; band i is `edges[i]` up to before `edges[i + 1]`.
    """

    rate: float
    length: int
    channels: int
    edges: tuple[int, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the features in order, e.g. `channel 0, 3200-6400 Hz, level`."""
        hertz = [round(edge * self.rate / self.length) for edge in self.edges]
        return tuple(
            f"channel {channel}, {low}-{high} Hz, {kind}"
            for channel in range(self.channels)
            for low, high in pairwise(hertz)
            for kind in KINDS
        )


def plan_bands(rate: float, length: int, channels: int) -> BandPlan:
    """Octaves from the Nyquist frequency down, and one band for what is left above 0 Hz.

    Raises:
        ValueError: The snapshot is too short for even one band.
    """
    top = length // 2 + 1
    if top <= _LEAST_BINS:
        raise ValueError(f"a snapshot of {length} samples is too short for band statistics")
    edges = [top]
    while edges[-1] // 2 > _LEAST_BINS and edges[-1] / 2 * rate / length > _LOWEST_HZ:
        edges.append(edges[-1] // 2)
    return BandPlan(rate, length, channels, (1, *reversed(edges)))


def band_statistics(snapshot: npt.NDArray[np.float32] | Array, plan: BandPlan) -> Array:
    """Band statistics of one snapshot.

    Args:
        snapshot: Samples, shape `(samples, channels)`. Longer than the plan's length is cut.
        plan: Its bands.

    Returns:
        Shape `(channels * bands * 3,)`, dB; NaN throughout when the snapshot holds a sample that
        is not finite or a channel that is constant (a dead sensor cannot be judged).
    """
    signal = np.asarray(snapshot[: plan.length], dtype=np.float64)
    nothing = np.full(len(plan.names), np.nan)
    if signal.shape[0] < plan.length or not np.isfinite(signal).all():
        return nothing
    signal = signal - signal.mean(axis=0)
    if not (signal.std(axis=0) > 0).all():
        return nothing
    spectrum = np.fft.rfft(signal, axis=0)
    result = np.empty((plan.channels, len(plan.edges) - 1, len(KINDS)))
    for band, (low, high) in enumerate(pairwise(plan.edges)):
        part = np.zeros_like(spectrum)
        part[low:high] = spectrum[low:high]
        passed = np.fft.irfft(part, n=plan.length, axis=0)
        square = (passed**2).mean(axis=0)
        # A band that is empty to the last bit (a converter's filter) sits at -200 dB of the whole.
        square = np.maximum(square, 1e-20 * (signal**2).mean(axis=0))
        result[:, band, 0] = 10 * np.log10(square)
        result[:, band, 1] = 10 * np.log10(np.maximum((passed**4).mean(axis=0) / square**2, 1) / 3)
        result[:, band, 2] = 20 * np.log10(np.abs(passed).max(axis=0) / np.sqrt(square) + 1e-10)
    return np.asarray(result.reshape(-1), dtype=np.float64)
