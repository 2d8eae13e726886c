"""Whether the machine is heard at another level for good: told once, apart from any alarm."""

from __future__ import annotations

from collections import deque

import numpy as np

from agent.decide.evidence import Heard

# A change has to last for so many windows' lengths, and so long at least, seconds.
_LENGTHS, _LEAST_SECONDS = 2.0, 10.0
# Share of that time whose windows must say the same.
_SHARE = 2 / 3
# Windows longer ago than this many such stretches say nothing any more.
_FORGET_STRETCHES = 5.0
_KEPT = 60
# Hops of 0.1 s do not add up to whole seconds.
_ROUNDING = 1e-3


class LevelWatch:
    """A pure change of level that lasts. Sees the windows that count, in order.

    Args:
        standing: The change that stood when an earlier run stopped, dB; None without one.
        step: The closest two windows follow each other, seconds.
    """

    def __init__(self, standing: float | None = None, step: float = 1.0) -> None:
        self._step = step
        #: The change that stands, dB; None without one.
        self.standing = standing
        # End of a window, how much sound it speaks for up to there, what it says; seconds, dB.
        self._recent: deque[tuple[float, float, float | None]] = deque()
        self._changed: deque[float] = deque(maxlen=_KEPT)  # levels of windows with a change, dBFS

    def observe(self, heard: Heard, *, quiet: bool) -> bool:
        """Take a window into account.

        Args:
            heard: The window; its `level` is the change without which it would be healthy.
            quiet: Whether it is healthy as it is.

        Returns:
            Whether a change came to stand, or the one that stood is over.
        """
        stretch = max(_LENGTHS * heard.seconds, _LEAST_SECONDS)
        if self._recent and heard.monotonic - self._recent[-1][0] > _FORGET_STRETCHES * stretch:
            self._recent.clear()
        change = heard.level
        told = 0.0 if quiet and not self._as_changed(heard) else None
        if change is not None and not change.passing:
            told = change.decibels
            if heard.level_dbfs is not None:
                self._changed.append(heard.level_dbfs)
        self._append(heard, told)
        # One more than fills the stretch, so that it is known to be full.
        while len(self._recent) > 1 and heard.monotonic - self._recent[1][0] >= stretch:
            self._recent.popleft()
        if heard.monotonic - self._recent[0][0] < stretch:
            return False
        return self._begins() if self.standing is None else self._ends()

    def _append(self, heard: Heard, told: float | None) -> None:
        """Remember what a window says, for as much sound as is new in it.

        Windows that a passing sound brings close together say no more than those of as much sound
        before and after. What a called one does not speak for was as before, and so was half of
        what a closest step leaves in one that says another thing: it came somewhere in between.
        """
        new = 0.0
        if self._recent:
            end, seconds, said = self._recent[-1]
            new = min(max(heard.monotonic - end, 0.0), heard.seconds)
            as_before = 0.0
            if bool(told) != bool(said):
                as_before = max(0.0, new - self._step) / 2
            if 0.0 < heard.called < new:
                as_before = new - heard.called
            self._recent[-1] = end, seconds + as_before, said
            new -= as_before
        self._recent.append((heard.monotonic, new, told))

    def forget(self) -> None:
        """Begin to count anew; a change that stands goes on standing."""
        self._recent.clear()

    def answered(self) -> None:
        """Somebody has said what it is: it stands no more."""
        self.standing = None
        self._recent.clear()
        self._changed.clear()

    def _as_changed(self, heard: Heard) -> bool:
        """Whether a window that is healthy as it is, is still as loud as the change that stands.

        A change that makes some windows exceed leaves others just below: they are not back.
        """
        if self.standing is None or not self._changed or heard.level_dbfs is None:
            return False
        back = heard.level_dbfs - float(np.median(self._changed))
        return abs(back) < abs(self.standing) / 2 or (back > 0) == (self.standing > 0)

    def _begins(self) -> bool:
        # The first ended before the stretch.
        weighed = [(seconds, one or 0.0) for _, seconds, one in list(self._recent)[1:]]
        louder = sum(seconds for seconds, one in weighed if one > 0)
        quieter = sum(seconds for seconds, one in weighed if one < 0)
        if max(louder, quieter) < _SHARE * sum(seconds for seconds, _ in weighed) - _ROUNDING:
            return False
        sign = 1.0 if louder >= quieter else -1.0
        self.standing = float(np.median([one for _, one in weighed if one * sign > 0]))
        return True

    def _ends(self) -> bool:
        if any(one != 0.0 for _, _, one in self._recent):
            return False
        self.standing = None
        self._changed.clear()
        return True
