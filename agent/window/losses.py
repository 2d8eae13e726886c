"""Sound that was lost: how often lately, by which cause, and the lines of the log that say so."""

from __future__ import annotations

import logging
import time
from collections import Counter, deque
from collections.abc import Mapping

from agent.core.text import plural

log = logging.getLogger(__name__)

GAPS = "gaps"
"""Cause of a loss that shows in the sound alone: constant samples for half a second or more."""

_REMEDIES = {
    "missing": (
        "on the way to this device",
        "check the cable, the hub, and what else is on the same USB bus",
    ),
    "overruns": ("as this device was too busy to fetch it", "check its load"),
    "reopened": (
        "as the microphone went away and came back",
        "check the cable, the socket and the power supply",
    ),
    GAPS: ("within the sound", "check the cable, the network or the program that it comes through"),
}
"""By a source's count, how sound was lost and what to look at."""

_DROPPED = "dropped_windows"
# A machine's losses are told at once, and then as sums, so often at most, seconds.
_TELL_SECONDS = 60.0


class RecentLosses:
    """Losses of the last while, by cause.

    Args:
        seconds: How long one counts.
        allowed: So many are nothing; more are too often, until they are half as many.
    """

    def __init__(self, seconds: float, allowed: int) -> None:
        self._seconds = seconds
        self._allowed = allowed
        # More than this is as good as any.
        self._losses: deque[tuple[float, str]] = deque(maxlen=4 * allowed)
        self._counted: dict[str, int] = {}
        self.often = False

    def count(self, now: float, counts: Mapping[str, int], *, gap: bool = False) -> None:
        """Take in what the source has counted so far.

        Args:
            now: On the windows' clock, seconds.
            counts: By cause, since the source's start.
            gap: A gap showed in the sound.
        """
        fresh = {GAPS: int(gap)}
        for cause in _REMEDIES.keys() & counts.keys():
            fresh[cause] = max(0, counts[cause] - self._counted.get(cause, 0))
            self._counted[cause] = max(counts[cause], self._counted.get(cause, 0))
        for cause, number in fresh.items():
            self._losses.extend([(now, cause)] * min(number, 4 * self._allowed))
        while self._losses and self._losses[0][0] <= now - self._seconds:
            self._losses.popleft()
        self.often = len(self._losses) > self._allowed / (2 if self.often else 1)

    @property
    def reason(self) -> str:
        """How often, why most of all, and what to do."""
        causes = Counter(cause for _, cause in self._losses).most_common()
        where, remedy = _REMEDIES[causes[0][0]]
        most = causes[0][1]
        part = "" if len(causes) == 1 else f"{plural(most, 'time')} "
        return (
            f"sound was lost {plural(len(self._losses), 'time')} within "
            f"{self._seconds / 60:.0f} minutes, {part}{where}: {remedy}"
        )


class LossLog:
    """Tells in the log what a machine loses, as it happens: the first at once, then sums.

    Args:
        machine: Its name.
    """

    def __init__(self, machine: str) -> None:
        self._machine = machine
        self._told: dict[str, int] = {}
        self._next = 0.0

    def look(self, counts: Mapping[str, int]) -> None:
        """Take in what has been counted so far; call often."""
        fresh = {
            cause: counts[cause] - self._told.get(cause, 0)
            for cause in (*_REMEDIES, _DROPPED)
            if counts.get(cause, 0) > self._told.get(cause, 0)
        }
        now = time.monotonic()
        if not fresh or now < self._next:
            return
        self._next = now + _TELL_SECONDS
        self._told.update({cause: counts[cause] for cause in fresh})
        dropped = fresh.pop(_DROPPED, 0)
        if dropped:
            log.warning(
                "%s: %s not judged, as scoring cannot keep up: raise `hop`, or give this "
                "device fewer machines or a smaller encoder",
                self._machine, plural(dropped, "window"),
            )  # fmt: skip
        for cause, number in fresh.items():
            where, remedy = _REMEDIES[cause]
            log.warning(
                "%s: sound was lost %s %s: %s",
                self._machine, plural(number, "time"), where, remedy,
            )  # fmt: skip
