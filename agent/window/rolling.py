"""The stream as overlapping windows on a fixed grid of hops."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from agent.core.errors import AudioError
from agent.core.records import AudioBlock, ChannelFault, Recorded, Samples, Validity, Window
from agent.window.validity import assess

_NOTHING = frozenset({Validity.SILENT, Validity.GAP})


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

    Raises:
        ValueError: A number is not positive.
    """

    def __init__(
        self,
        window_samples: int,
        hop_samples: int,
        rate: int,
    ) -> None:
        if min(window_samples, hop_samples, rate) < 1:
            raise ValueError(
                f"window {window_samples}, hop {hop_samples} and rate {rate} must be positive"
            )
        self.window_samples = window_samples
        self.hop_samples = hop_samples
        self.rate = rate
        self._index = 0
        self._first = 0  # position in the stream of the first sample held
        self.pieces: list[Samples] = []
        self.anchors: list[_Anchor] = []
        self._held = 0  # samples in the pieces
        self._next = 0  # where the next window starts among them; beyond them when hop > window

    def push(self, block: AudioBlock) -> Iterator[Window]:
        """Take a block, and give the windows it completes.

        The block is taken in at once, whether or not the iterator is then used. A block marked
        `gap_before` drops what was held: the next window begins with that block, so that no window
        spans lost sound; the index counts on.

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
        # Only now, once a hop, are the pieces joined.
        joined = np.concatenate(self.pieces)
        starts = [self._next + n * self.hop_samples for n in range(ready)]
        anchors, first_index, first = self.anchors, self._index, self._first
        self._index += ready
        self._next = starts[-1] + self.hop_samples
        gone = min(self._next, len(joined))
        self._forget(joined[gone:].copy(), gone)
        return (
            self._window(joined[start : start + self.window_samples], first + start, anchors, index)
            for index, start in enumerate(starts, first_index)
        )

    def _restart(self) -> None:
        self._first += self._held
        self.pieces, self.anchors = [], []
        self._held = self._next = 0

    def _append(self, block: AudioBlock) -> None:
        samples = np.array(block.samples, dtype=np.float32)  # the source may reuse its buffer
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
            self._forget(samples[:0], self._held)

    def _forget(self, rest: Samples, gone: int) -> None:
        """Keep only `rest`, what comes after the first `gone` of the samples held."""
        self._first += gone
        self.pieces = [rest] if len(rest) else []
        self._held = len(rest)
        self._next -= gone
        # The last block that began at or before the first sample kept still tells its time.
        first = max((n for n, a in enumerate(self.anchors) if a.at <= self._first), default=0)
        self.anchors = self.anchors[first:] if self._held else []

    def _window(self, samples: Samples, start: int, anchors: list[_Anchor], index: int) -> Window:
        samples = samples.copy()
        begin = next(a for a in reversed(anchors) if a.at <= start)
        end = next(a for a in reversed(anchors) if a.at < start + self.window_samples)
        if begin.settling:  # it settles at the beginning of a stretch, never later
            validity, reason = Validity.WARM_UP, "the microphone was opened just before"
        else:
            validity, reason = assess(samples, self.rate, min_seconds=0.0)
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
        )
