"""What a device gives as what a machine's pipeline takes: one channel, one rate, its own gaps."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import soxr

from agent.frames import AudioBlock, Matrix, Samples


class Converter:
    """One opening's sound as blocks of one channel at the rate asked for.

    Args:
        channel: Which, from 0; None averages all.
        rate: Hz; None leaves it.
        origin: Name of the device, for the blocks.
    """

    def __init__(self, channel: int | None, rate: int | None, origin: str) -> None:
        self._channel = channel
        self._rate = rate
        self._origin = origin
        self._resample: Callable[[Samples], Samples] | None = None
        self._delay: Callable[[], float] = float
        self._gap = False

    def __call__(
        self, frames: Matrix, rate: float, monotonic: float, *, lost: bool = False
    ) -> AudioBlock:
        """Convert a piece.

        Args:
            frames: float32, shape `(n, channels)`.
            rate: Its rate, Hz; the same every time.
            monotonic: Monotonic time of its first sample, seconds.
            lost: Sound was lost before it.

        Returns:
            The block; it may be empty, and may begin with sound held back from the piece before.
        """
        mono = frames.mean(axis=1) if self._channel is None else frames[:, self._channel]
        samples: Samples = np.ascontiguousarray(mono, dtype=np.float32)
        self._gap = self._gap or lost
        wanted = self._rate or round(rate)
        if rate != wanted:
            if self._resample is None or self._gap:
                # Also after lost sound: a filter must not smear what came before over it.
                stream = soxr.ResampleStream(rate, wanted, 1, dtype="float32", quality="HQ")
                self._resample, self._delay = stream.resample_chunk, stream.delay
            # What it holds back was heard before this piece.
            monotonic -= self._delay() / wanted
            samples = self._resample(samples)
        gap = self._gap
        if len(samples):
            self._gap = False
        return AudioBlock(
            samples=samples,
            rate=wanted,
            monotonic=monotonic,
            wall=time.time() - (time.monotonic() - monotonic),
            gap_before=gap,
            origin=self._origin,
        )
