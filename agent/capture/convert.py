"""What a device gives as what a machine's pipeline takes: one channel, one rate, its own gaps."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import soxr

from agent.core.records import AudioBlock, ChannelFault, Matrix, Recorded, Samples
from agent.window.channel_watch import ChannelWatch


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
        self._resampler: Any = None
        self._gap = False
        self._next = 0.0  # when what is held back was heard
        self._channels: ChannelWatch | None = None
        self._faults: tuple[ChannelFault, ...] = ()
        self._recorded: Recorded | None = None

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
        if self._channel is None and frames.shape[1] > 1:
            self._channels = self._channels or ChannelWatch(rate)
            self._faults = self._channels.push(frames)
        self._recorded = Recorded(round(rate), frames.shape[1], self._channel)
        mono = frames.mean(axis=1) if self._channel is None else frames[:, self._channel]
        samples: Samples = np.ascontiguousarray(mono, dtype=np.float32)
        self._gap = self._gap or lost
        self._rate = wanted = self._rate or round(rate)
        end = monotonic + len(samples) / rate
        if rate != wanted:
            if self._resampler is None or self._gap:
                # Also after lost sound: a filter must not smear what came before over it.
                self._resampler = soxr.ResampleStream(rate, wanted, 1, "float32", quality="HQ")
            # What it holds back was heard before this piece.
            monotonic -= self._resampler.delay() / wanted
            samples = self._resampler.resample_chunk(samples)
            end -= self._resampler.delay() / wanted
        self._next = end
        block = self._block(samples, monotonic)
        if len(samples):
            self._gap = False
        return block

    def flush(self) -> AudioBlock:
        """What is held back at a stream's good end, perhaps nothing. The last call."""
        samples: Samples = np.empty(0, np.float32)
        if self._resampler is not None:
            samples = self._resampler.resample_chunk(samples, last=True)
        return self._block(samples, self._next)

    def _block(self, samples: Samples, monotonic: float) -> AudioBlock:
        return AudioBlock(
            samples=samples,
            rate=self._rate or 0,
            monotonic=monotonic,
            wall=time.time() - (time.monotonic() - monotonic),
            gap_before=self._gap,
            origin=self._origin,
            channel_faults=self._faults,
            recorded=self._recorded,
        )
