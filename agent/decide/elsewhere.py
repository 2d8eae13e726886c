"""Holding back windows with a sound from elsewhere: while it is recognised, and while it goes on.

A radio or rain is recognised where it begins, and later hardly: then it is there all the time, as a
fault would be. So what begins with a sound that is to be ignored is held back while it goes on, for
`GOES_ON` seconds at most; a fault that begins in the same moment is told that much later.
"""

from __future__ import annotations

from collections.abc import Collection

from agent.core.foreign import ForeignKind, ForeignSound
from agent.core.records import Score

#: A sound that is recognised no more is waited for so long, seconds since it was first.
GOES_ON = 30.0


class ForeignHold:
    """Holds back windows of one machine, in their order.

    Args:
        ignore: Sounds that are to be ignored.
    """

    def __init__(self, ignore: Collection[ForeignKind] = ()) -> None:
        self._ignore = frozenset(ignore)
        self._since: float | None = None
        self._names: list[ForeignSound] = []
        self._loud_since: float | None = None

    def holds(self, score: Score, threshold: float) -> list[ForeignSound]:
        """Sounds that hold a window back; none when it counts.

        Args:
            score: Of the window, judged.
            threshold: Above it a window speaks for an alert or alarm.
        """
        if not self._ignore:
            return []
        named = [sound for sound in score.foreign if sound.kind in self._ignore]
        now = score.window.end_monotonic
        if score.counted is None or score.counted <= threshold:
            self._since = self._loud_since = None
            return named
        if self._loud_since is None:
            self._loud_since = now
        if named:
            # What was strange for a window's length before is something else.
            if self._since is None and now - self._loud_since < score.window.seconds:
                self._since = now
            self._names = named
            return named
        if self._since is not None and now - self._since <= GOES_ON:
            return self._names
        return []

    def forget(self) -> None:
        """Forget what was heard so far."""
        self._since = self._loud_since = None
