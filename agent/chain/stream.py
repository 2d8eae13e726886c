"""What a stream of sound is like in the long run: up to where it goes, and its mean spectrum.

One meter for recordings (inspect, train, score) and for what the agent hears, so that the figures
can be laid over each other.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from agent.core.finite import silenced
from agent.core.records import Matrix, Samples
from agent.explain.spectrum import Floats, Grid, mean_powers
from agent.window.bandwidth import BandMeter

# Of each second so much is measured: the long-term mean of a machine needs no more, and an hour of
# recordings is measured in seconds.
_STEP_SECONDS = 1.0
_SHARE = 0.25
# Levels are averaged in dB over stretches of this, as those of healthy windows are.
_STRETCH = 10
# Seconds that are measured at once, for fewer steps; more would leave the processor's cache.
_AT_ONCE = 16


@dataclass(frozen=True, slots=True, eq=False)
class StreamFacts:
    """A stream's sound in the long run.

    Attributes:
        rate: Samples a second.
        seconds: Sound that was heard.
        bandwidth_hz: Frequency up to which it holds sound, half the rate where it ends nowhere
            before; None when nothing was measured.
        hertz: Edges of the bands, Hz, `(bands + 1,)`.
        levels_db: Mean level of each band, `(bands,)`; a full-scale sine is 0 dB in its band.
    """

    rate: int
    seconds: float
    bandwidth_hz: float | None
    hertz: Floats
    levels_db: Floats


class StreamMeter:
    """Measures mono sound that comes in stretches of any length.

    Args:
        rate: Samples a second.
    """

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self._grid = Grid.of(rate)
        self._bands = BandMeter(rate)
        self._held: Samples = np.empty(0, np.float32)
        self._stretch: list[Floats] = []
        self._sum: Floats = np.zeros(len(self._grid.edges) - 1)
        self._count = 0
        self._samples = 0

    def push(self, samples: Samples) -> None:
        """Take a stretch, float32 `(n,)`; what is not finite counts as silence."""
        self._samples += len(samples)
        step = max(1, round(_STEP_SECONDS * self._rate))
        clean = silenced(samples)
        sound = np.concatenate([self._held, clean]) if len(self._held) else clean
        seconds = sound[: len(sound) // step * step].reshape(-1, step)
        for first in range(0, len(seconds), _AT_ONCE):
            self._measure(seconds[first : first + _AT_ONCE])
        self._held = sound[seconds.size :].copy()

    def facts(self) -> StreamFacts | None:
        """What was measured; None of less than a frame of sound, or of digital silence alone."""
        if not self._count:
            # Sound of less than ten seconds is all there is.
            if not self._stretch:
                self._measure(self._held[None])
                self._held = self._held[:0]
            if self._stretch:
                self._close()
        if not self._count:
            return None
        return StreamFacts(
            self._rate, self._samples / self._rate, self._bands.bandwidth(), self._grid.hertz,
            self._sum / self._count,
        )  # fmt: skip

    def _measure(self, seconds: Matrix) -> None:
        """Measure pieces of one length, `(pieces, n)`."""
        self._bands.push(seconds)
        parts = seconds[:, : max(self._grid.frame, round(_SHARE * self._rate))]
        parts = parts[parts.any(axis=1)]
        if parts.shape[1] < self._grid.frame or not len(parts):
            return
        for powers in mean_powers(parts - parts.mean(axis=1, keepdims=True), self._grid):
            self._stretch.append(powers)
            if len(self._stretch) >= _STRETCH:
                self._close()

    def _close(self) -> None:
        self._sum += 10.0 * np.log10(np.mean(self._stretch, axis=0))
        self._count += 1
        self._stretch.clear()
