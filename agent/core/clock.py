"""Can the wall clock be believed? Alarms carry its time; durations never depend on it."""

from __future__ import annotations

import ctypes
import logging
import time
from collections.abc import Callable
from datetime import datetime, timezone
from enum import Enum
from pathlib import Path

log = logging.getLogger(__name__)

# A step of the wall clock beyond what a time service does gently, seconds.
_JUMP_SECONDS = 1.0
# After a jump, messages say so for this long, seconds.
_RECENT_SECONDS = 600.0
# The kernel is asked anew after this, seconds.
_ASK_SECONDS = 10.0
_TIMESYNCD = Path("/run/systemd/timesync/synchronized")
_STA_UNSYNC = 0x0040
_TIME_ERROR = 5


class ClockQuality(str, Enum):
    """How far the wall clock can be believed."""

    SYNCHRONISED = "synchronised"
    UNSYNCHRONISED = "unsynchronised"  # no time service has set it, or not for long
    JUMPED = "jumped"  # it was stepped a short while ago: times before and after don't compare


class _Timex(ctypes.Structure):
    """struct timex of adjtimex(2), with room for every architecture's padding."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_byte * 256),
    )


def kernel_synchronised() -> bool | None:
    """Whether a time service keeps the clock right, as the kernel knows it (adjtimex(2)).

    Returns:
        None when the kernel does not tell.
    """
    try:
        answer, timex = -1, _Timex()
        answer = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.byref(timex))
    except (OSError, AttributeError):
        pass
    if answer >= 0:
        return answer != _TIME_ERROR and not timex.status & _STA_UNSYNC
    # Not allowed to ask: systemd's own service leaves a file.
    return True if _TIMESYNCD.exists() else None


def _since_boot() -> float:
    """Seconds since boot, those of suspension included."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class WallClock:
    """Watches the wall clock for jumps, and asks whether it is synchronised.

    Args:
        wall: Seconds since the epoch.
        steady: Seconds on a clock that is never set.
        synchronised: Whether a time service keeps the wall clock right; None when unknown, which
            is not believed.
    """

    def __init__(
        self,
        wall: Callable[[], float] = time.time,
        steady: Callable[[], float] = _since_boot,
        synchronised: Callable[[], bool | None] = kernel_synchronised,
    ) -> None:
        self._wall = wall
        self._steady = steady
        self._synchronised = synchronised
        self._offset: float | None = None  # of the wall clock to the steady one
        self._jumped_at: float | None = None
        self._asked_at: float | None = None
        self._answer = False
        self.jumps = 0

    def look(self) -> ClockQuality:
        """The quality now; call every second or so, from one thread."""
        now, wall = self._steady(), self._wall()
        offset = wall - now
        if self._offset is not None and abs(offset - self._offset) >= _JUMP_SECONDS:
            self.jumps += 1
            self._jumped_at, self._asked_at = now, None
            log.warning("the wall clock jumped by %+.1f s", offset - self._offset)
        # What it is slewed by between two looks is no jump.
        self._offset = offset
        if self._asked_at is None or now - self._asked_at >= _ASK_SECONDS:
            self._asked_at, self._answer = now, bool(self._synchronised())
        return self.quality

    @property
    def quality(self) -> ClockQuality:
        """The clock's quality, as the latest look found it; from any thread."""
        jumped = self._jumped_at
        if jumped is not None and self._steady() - jumped < _RECENT_SECONDS:
            return ClockQuality.JUMPED
        return ClockQuality.SYNCHRONISED if self._answer else ClockQuality.UNSYNCHRONISED


#: This process's: `look` is called by the service, `quality` read by who tells times.
WALL_CLOCK = WallClock()


def utc(seconds: float) -> str:
    """Seconds since the epoch as ISO 8601, UTC, in milliseconds: `2025-03-01T12:00:00.000Z`."""
    moment = datetime.fromtimestamp(seconds, tz=timezone.utc)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
