"""The latest sound of one machine, in bounded memory."""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from agent.core.lasting import lasting
from agent.core.records import AudioBlock, Samples


@dataclass(frozen=True, slots=True)
class Gap:
    """Sound that was lost inside a clip.

    Attributes:
        at: Where in the clip's samples, seconds.
        seconds: How much is missing there.
    """

    at: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Clip:
    """A stretch of recent sound.

    Attributes:
        samples: float32, shape `(n,)`; what was lost is left out, not filled in.
        rate: Samples a second.
        monotonic: Monotonic time of the first sample, seconds.
        wall: Wall time of the first sample, seconds since the epoch.
        gaps: Where sound was lost.
    """

    samples: Samples
    rate: int
    monotonic: float
    wall: float
    gaps: tuple[Gap, ...] = ()

    @property
    def seconds(self) -> float:
        """Length of the samples, seconds."""
        return len(self.samples) / self.rate

    def place(self, monotonic: float) -> float:
        """Where in the samples a moment is, seconds from the first; gaps taken into account."""
        position = monotonic - self.monotonic
        for gap in self.gaps:
            if position > gap.at:
                position = max(gap.at, position - gap.seconds)
        return position


@dataclass(frozen=True, slots=True)
class _Kept:
    """A second of blocks, its samples as 16-bit numbers of its own scale: half the memory.

    The scale is a power of two, so that sound of 16 bits is kept bit by bit (as long as it was not
    resampled), and of any other at most 90 dB below the second's own peak are lost.

    Attributes:
        block: The first of them, all but its samples.
        numbers: int16; float32 where a sample is not finite.
        step: What 1 stands for.
    """

    block: AudioBlock
    numbers: npt.NDArray[np.int16] | Samples
    step: float

    @classmethod
    def as_heard(cls, block: AudioBlock) -> _Kept:
        """A block that was heard just now, as it is."""
        return cls(replace(block, samples=_NOTHING), block.samples, 1.0)

    @classmethod
    def of(cls, blocks: Sequence[AudioBlock]) -> _Kept:
        """Blocks without a gap between them."""
        samples = np.concatenate([block.samples for block in blocks])
        bare = replace(blocks[0], samples=_NOTHING)
        peak = float(max(samples.max(), -samples.min()))
        if not np.isfinite(peak):
            return cls(bare, samples, 1.0)
        step = 2.0 ** (math.ceil(math.log2(peak)) - 15) if peak else 1.0
        if samples.max() > 32767 * step:  # there is one more step below zero than above
            step *= 2.0
        numbers = np.rint(samples / np.float32(step))
        return cls(bare, numbers.astype(np.int16), step)

    def samples(self, start: int, stop: int) -> Samples:
        """Some of its samples, in an array of their own."""
        return self.numbers[start:stop].astype(np.float32) * np.float32(self.step)


_NOTHING = np.zeros(0, np.float32)
_TOGETHER_SECONDS = 1.0
# Clocks of blocks that follow each other may be off by that much.
_JITTER_SECONDS = 0.02


class AudioRing:
    """Keeps the latest blocks. One thread adds, any may cut.

    Blocks become 16-bit numbers a second at a time: one by one they would cost four times as much.

    Args:
        seconds: How much is kept; a second and a block more at most.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._blocks: deque[_Kept] = deque()
        self._fresh: list[AudioBlock] = []  # less than a second, heard last
        self.held = 0
        self._lock = threading.Lock()

    def hear(self, block: AudioBlock) -> None:
        """Add a block; its samples are kept where nobody changes them, else copied."""
        if len(block.samples) == 0:
            return
        block = replace(block, samples=lasting(block.samples))
        with self._lock:
            before = self._fresh[-1] if self._fresh else None
            if before is not None and not _follows(block, before):
                self._settle()
            if self._blocks and self._blocks[-1].block.rate != block.rate:
                # Another encoder's rate: the two cannot be joined.
                self._blocks.clear()
                self.held = 0
            self._fresh.append(block)
            self.held += len(block.samples)
            if sum(len(one.samples) for one in self._fresh) >= _TOGETHER_SECONDS * block.rate:
                self._settle()
            while (
                self._blocks
                and self.held - len(self._blocks[0].numbers) >= self._seconds * block.rate
            ):
                self.held -= len(self._blocks.popleft().numbers)

    def _settle(self) -> None:
        self._blocks.append(_Kept.of(self._fresh))
        self._fresh = []

    def latest(self, seconds: float) -> Clip | None:
        """The latest sound, as far as it is held; None when there is none."""
        blocks = self._kept()
        if not blocks:
            return None
        last = blocks[-1]
        end = last.block.monotonic + len(last.numbers) / last.block.rate
        return self.cut(end - seconds, end)

    def _kept(self) -> list[_Kept]:
        with self._lock:
            return [*self._blocks, *map(_Kept.as_heard, self._fresh)]

    def cut(self, begin: float, end: float) -> Clip | None:
        """The sound between two moments, as far as it is still held.

        Args:
            begin: Monotonic time, seconds.
            end: Monotonic time, seconds.

        Returns:
            The clip, or None when nothing of it is held.
        """
        blocks = self._kept()
        pieces: list[Samples] = []
        gaps: list[Gap] = []
        first: AudioBlock | None = None
        skipped, length, expected = 0, 0, 0.0
        for kept in blocks:
            block = kept.block
            size, rate = len(kept.numbers), block.rate
            start = min(size, max(0, round((begin - block.monotonic) * rate)))
            stop = min(size, max(0, round((end - block.monotonic) * rate)))
            if stop > start:
                if first is None:
                    first, skipped = block, start
                elif block.gap_before:
                    missing = max(0.0, block.monotonic - expected)
                    gaps.append(Gap(length / rate, missing))
                pieces.append(kept.samples(start, stop))
                length += stop - start
            expected = block.monotonic + size / rate
        if first is None:
            return None
        offset = skipped / first.rate
        return Clip(
            np.concatenate(pieces),
            first.rate,
            first.monotonic + offset,
            first.wall + offset,
            tuple(gaps),
        )


def _follows(block: AudioBlock, before: AudioBlock) -> bool:
    """Whether a block's first sample comes just after the last one of the block before."""
    end = before.monotonic + len(before.samples) / before.rate
    same = (block.rate, block.origin) == (before.rate, before.origin) and not block.gap_before
    return same and abs(block.monotonic - end) <= _JITTER_SECONDS
