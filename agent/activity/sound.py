"""The settled sound of a machine's latest runs, joined over its pauses."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import numpy as np

from agent.core.records import Samples

# Two runs are joined over so long, seconds: a step would be a click that no machine made.
_FADE_SECONDS = 0.02


@dataclass(slots=True)
class _Stretch:
    """Settled sound without a pause, in the pieces it came in, which are joined when asked for.

    Positions are samples of the stream.
    """

    start: int
    end: int
    skipped: float  # seconds that the machine stood before it, since the beginning
    pieces: deque[Samples] = field(default_factory=deque)

    def __len__(self) -> int:
        return self.end - self.start

    def append(self, samples: Samples) -> None:
        self.pieces.append(samples)
        self.end += len(samples)

    def drop_first(self, count: int) -> None:
        self.start += count
        while count >= len(self.pieces[0]):
            count -= len(self.pieces.popleft())
            if not self.pieces:
                return
        self.pieces[0] = self.pieces[0][count:]

    def drop_last(self, count: int) -> None:
        self.end -= count
        while count and count >= len(self.pieces[-1]):
            count -= len(self.pieces.pop())
            if not self.pieces:
                return
        if count:
            self.pieces[-1] = self.pieces[-1][:-count]

    def before(self, end: int, count: int) -> Samples:
        """The last `count` samples before a position, or all there are."""
        found: list[Samples] = []
        at = self.end
        for piece in reversed(self.pieces):
            at -= len(piece)
            found.append(piece[: max(0, end - at)])
            if at <= end - count:
                break
        return np.concatenate(found[::-1])[-count:]


class RunningSound:
    """Keeps the latest settled sound.

    Args:
        window_samples: Length of a window.
        rate: Samples a second.
    """

    def __init__(self, window_samples: int, rate: int) -> None:
        self._window, self._rate = window_samples, rate
        self._fade = max(1, round(_FADE_SECONDS * rate))
        self._stretches: deque[_Stretch] = deque()
        #: Seconds that the machine has stood between its runs so far.
        self.skipped = 0.0
        self._taken = 0  # where what was ever taken ends, also what was cut off again

    @property
    def end(self) -> int:
        """Where the latest of it ends; 0 without any."""
        return self._stretches[-1].end if self._stretches else 0

    def add(self, start: int, *pieces: Samples) -> None:
        """Take settled sound; what doesn't begin where the latest ends is another run's.

        Args:
            start: Where it begins.
            pieces: The sound, each float32 `(n,)`, one after the other. They are kept, not copied.
        """
        taken = sum(map(len, pieces))
        if not taken:
            return
        if not self._stretches or start != self._stretches[-1].end:
            if self._taken:
                self.skipped += max(0, start - self._taken) / self._rate
            self._stretches.append(_Stretch(start, start, self.skipped))
        for piece in pieces:
            self._stretches[-1].append(piece)
        self._taken = self.end
        # Windows end at or before the latest sample, by no more than the sound just taken.
        surplus = self._held() - 2 * self._window - taken
        while surplus > 0:
            first = self._stretches[0]
            gone = min(surplus, len(first))
            first.drop_first(gone)
            surplus -= gone
            if not len(first):
                self._stretches.popleft()

    def cut(self, end: int) -> None:
        """Take back what was taken of the latest run after this: it stopped there."""
        if not self._stretches or self.end <= end:
            return
        last = self._stretches[-1]
        last.drop_last(min(len(last), last.end - end))
        if not len(last):
            self._stretches.pop()

    def forget(self) -> None:
        """Let go of all of it: no window shall reach back before this."""
        self._stretches.clear()
        self._taken = 0

    def covers(self, start: int, end: int) -> bool:
        """Whether one run's settled sound holds all of a stretch."""
        return any(one.start <= start and end <= one.end for one in self._stretches)

    def ending(self, end: int) -> tuple[Samples, float] | None:
        """The latest window of settled sound that ends somewhere.

        Args:
            end: Where; None is given when no settled sound is there, or there is too little.

        Returns:
            float32 `(window_samples,)`, and the seconds that the machine has stood so far.
        """
        parts = [one for one in self._stretches if one.start < end]
        if not parts or parts[-1].end < end:
            return None
        last = parts.pop()
        found = last.before(end, self._window)
        while len(found) < self._window and parts:
            earlier = parts.pop()
            found = self._joined(earlier.before(earlier.end, self._window), found)
        if len(found) < self._window:
            return None
        return np.array(found[-self._window :], np.float32), last.skipped

    def _held(self) -> int:
        return sum(len(one) for one in self._stretches)

    def _joined(self, before: Samples, after: Samples) -> Samples:
        fade = min(self._fade, len(before), len(after))
        rising = np.linspace(0.0, 1.0, fade, dtype=np.float32)
        middle = before[len(before) - fade :] * (1.0 - rising) + after[:fade] * rising
        return np.concatenate([before[: len(before) - fade], middle, after[fade:]])
