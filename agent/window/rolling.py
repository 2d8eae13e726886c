"""The stream as overlapping windows on a fixed grid of hops."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum

import numpy as np

from agent.core.errors import AudioError
from agent.core.lasting import lasting
from agent.core.records import AudioBlock, ChannelFault, Recorded, Samples, Validity, Window
from agent.window.validity import assess, level_dbfs

_NOTHING = frozenset({Validity.SILENT, Validity.GAP})


class Due(Enum):
    """Whether a place of the grid becomes a window."""

    NO = "no"
    YES = "yes"
    CALLED = "called"  # before its time, as the sound itself calls for it (`Window.called`)


#: Says of a place in the stream, samples, whether the sound up to there is to be a window.
Pace = Callable[[int], Due]


@dataclass(frozen=True, slots=True)
class _Anchor:
    """Where a block began in the stream, and its clocks there."""

    at: int
    monotonic: float
    wall: float
    origin: str
    settling: bool
    faults: tuple[ChannelFault, ...]
    recorded: Recorded | None


class RollingWindow:
    """Cuts blocks of any size into windows that start every `hop_samples`.

    Holds no more than one window and one block. Each window has the clocks of the block its first
    sample came in, so that a sound card that runs fast or slow doesn't move its times over months.

    Args:
        window_samples: Length of a window, samples.
        hop_samples: Step between the starts of windows, samples; may exceed the window.
        rate: Samples a second that blocks must have.
        pace: Says which places of this grid become windows; None for all.
        first: Samples of a stream, and of what follows a gap, before the first window begins.

    Raises:
        ValueError: A number is not positive.
    """

    def __init__(
        self,
        window_samples: int,
        hop_samples: int,
        rate: int,
        pace: Pace | None = None,
        *,
        first: int = 0,
    ) -> None:
        if min(window_samples, hop_samples, rate) < 1:
            raise ValueError(
                f"window {window_samples}, hop {hop_samples} and rate {rate} must be positive"
            )
        self.window_samples = window_samples
        self.hop_samples = hop_samples
        self.rate = rate
        self.pace = pace
        self._index = 0
        self._first = 0  # position in the stream of the first sample held
        self.pieces: list[Samples] = []
        self.anchors: list[_Anchor] = []
        self._held = 0  # samples in the pieces
        self._skipped = first
        self._next = first  # where the next window starts among them; beyond them when hop > window

    def push(self, block: AudioBlock) -> Iterator[Window]:
        """Take a block, and give the windows it completes.

        The block is taken in at once, whether or not the iterator is then used. A block marked
        `gap_before` drops what was held: the next window begins with that block (`first` later), so
        that no window spans lost sound; the index counts on.

        Returns:
            The windows completed, in order, each judged by `assess` and with samples of its own.

        Raises:
            AudioError: The block has another rate. What was held is dropped.
        """
        if block.rate != self.rate:
            self._restart()
            raise AudioError(
                f"gives sound at {block.rate} Hz where {self.rate} Hz was asked for",
                where=block.origin or None,
                remedy="Let the source resample to the encoder's rate.",
            )
        if block.gap_before:
            self._restart()
        self._append(block)
        ready = (self._held - self._next - self.window_samples) // self.hop_samples + 1
        if ready <= 0:
            return iter(())
        starts = [self._next + n * self.hop_samples for n in range(ready)]
        first, pieces, anchors = self._first, self.pieces, self.anchors
        cut: list[tuple[int, int, bool]] = []
        for start in starts:
            ends = first + start + self.window_samples
            due = Due.YES if self.pace is None else self.pace(ends)
            if due is not Due.NO:
                cut.append((start, self._index, due is Due.CALLED))
                self._index += 1
        self._next = starts[-1] + self.hop_samples
        self._forget(min(self._next, self._held))
        return (
            self._window(_between(pieces, start, self.window_samples), first + start, anchors,
                         index, called=called)
            for start, index, called in cut
        )  # fmt: skip

    def _restart(self) -> None:
        self._first += self._held
        self.pieces, self.anchors = [], []
        self._held, self._next = 0, self._skipped

    def _append(self, block: AudioBlock) -> None:
        samples = lasting(block.samples)  # the source may reuse its buffer
        if len(samples) == 0:
            return
        self.anchors.append(
            _Anchor(
                self._first + self._held,
                block.monotonic,
                block.wall,
                block.origin,
                block.settling,
                block.channel_faults,
                block.recorded,
            )
        )
        self.pieces.append(samples)
        self._held += len(samples)
        if self._next >= self._held:  # between windows (hop > window): none of this is wanted
            self._forget(self._held)

    def _forget(self, gone: int) -> None:
        """Keep only what comes after the first `gone` of the samples held."""
        self._first += gone
        self._held -= gone
        self._next -= gone
        left, kept = gone, 0
        while kept < len(self.pieces) and left >= len(self.pieces[kept]):
            left -= len(self.pieces[kept])
            kept += 1
        # Another list: windows may still be cut from the one before.
        self.pieces = self.pieces[kept:]
        if left:
            self.pieces[0] = self.pieces[0][left:]
        # The last block that began at or before the first sample kept still tells its time.
        first = max((n for n, a in enumerate(self.anchors) if a.at <= self._first), default=0)
        self.anchors = self.anchors[first:] if self._held else []

    def _window(
        self, samples: Samples, start: int, anchors: list[_Anchor], index: int, *, called: bool
    ) -> Window:
        begin = next(a for a in reversed(anchors) if a.at <= start)
        end = next(a for a in reversed(anchors) if a.at < start + self.window_samples)
        level = None
        if begin.settling:  # it settles at the beginning of a stretch, never later
            validity, reason = Validity.WARM_UP, "the microphone was opened just before"
        else:
            level = level_dbfs(samples)
            validity, reason = assess(samples, self.rate, min_seconds=0.0, level=level)
        inside = [a for a in anchors if begin.at <= a.at < start + self.window_samples]
        faults = next((a.faults for a in reversed(inside) if a.faults), ())
        if validity in _NOTHING and (cancel := [f for f in faults if f.cancels]):
            reason = cancel[0].text  # each of them is well: the microphone is not dead
        offset = (start - begin.at) / self.rate
        return Window(
            samples=samples,
            rate=self.rate,
            index=index,
            monotonic=begin.monotonic + offset,
            wall=begin.wall + offset,
            validity=validity,
            reason=reason,
            origin=end.origin,
            step=self.hop_samples,
            position=start,
            channel_faults=faults,
            recorded=end.recorded,
            level_dbfs=level,
            called=called,
        )


def _between(pieces: list[Samples], start: int, count: int) -> Samples:
    """A copy of `count` samples from `start` on."""
    found: list[Samples] = []
    at, end = 0, start + count
    for piece in pieces:
        if at >= end:
            break
        if at + len(piece) > start:
            found.append(piece[max(0, start - at) : end - at])
        at += len(piece)
    return np.concatenate(found)
