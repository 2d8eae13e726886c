"""Whether the machine is heard at another level for good: told once, apart from any alarm."""

from __future__ import annotations

from collections import deque

import numpy as np

from agent.decide.evidence import Heard

# A change has to last for so many windows' lengths, and so long at least, seconds.
_LENGTHS, _LEAST_SECONDS = 2.0, 10.0
# Share of the windows in that time that must say the same.
_SHARE = 2 / 3
# Windows longer ago than this many such stretches say nothing any more.
_FORGET_STRETCHES = 5.0
_KEPT = 60


class LevelWatch:
    """A pure change of level that lasts. Sees the windows that count, in order.

    Args:
        standing: The change that stood when an earlier run stopped, dB; None without one.
    """

    def __init__(self, standing: float | None = None) -> None:
        #: The change that stands, dB; None without one.
        self.standing = standing
        self._recent: deque[tuple[float, float | None]] = deque()
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
        self._recent.append((heard.monotonic, told))
        # One more than fills the stretch, so that it is known to be full.
        while len(self._recent) > 1 and heard.monotonic - self._recent[1][0] >= stretch:
            self._recent.popleft()
        if heard.monotonic - self._recent[0][0] < stretch:
            return False
        return self._begins() if self.standing is None else self._ends()

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
        changed = [one for _, one in self._recent if one]
        louder = [one for one in changed if one > 0]
        quieter = [one for one in changed if one < 0]
        same = max(louder, quieter, key=len)
        if len(same) < _SHARE * len(self._recent):
            return False
        self.standing = float(np.median(same))
        return True

    def _ends(self) -> bool:
        if any(one != 0.0 for _, one in self._recent):
            return False
        self.standing = None
        self._changed.clear()
        return True
