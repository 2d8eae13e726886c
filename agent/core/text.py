"""Numbers and times as they are told to people."""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import PurePath


def plural(number: int, one: str, many: str = "") -> str:
    """A number of things: `1 recording`, `2 recordings`.

    Args:
        number: How many.
        one: The word for one of them.
        many: The word for several; with an s when left out.
    """
    return f"{number} {one if number == 1 else many or one + 's'}"


def shown(path: str | PurePath) -> str:
    """A path that any output takes: what is no UTF-8 in its name is escaped."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def local_time(time: str) -> str:
    """An ISO 8601 time to the minute, by this device's clock and zone; unchanged if it is none."""
    try:
        return f"{datetime.fromisoformat(time.replace('Z', '+00:00')).astimezone():%Y-%m-%d %H:%M}"
    except ValueError:
        return time


def local_minute(seconds: float) -> str:
    """Seconds since the epoch to the minute, by this device's clock and zone."""
    return f"{datetime.fromtimestamp(seconds).astimezone():%Y-%m-%d %H:%M}"


def ordinal(number: int) -> str:
    """`1st`, `2nd`, `3rd`, `4th`, `11th`, `21st`."""
    teen = 10 <= number % 100 <= 20
    return f"{number}{'th' if teen else {1: 'st', 2: 'nd', 3: 'rd'}.get(number % 10, 'th')}"


def lasting(seconds: float) -> str:
    """A time as people say it: `40 s`, `12 minutes`, `3 hours`, `2 days`."""
    for size, word in ((86_400.0, "day"), (3600.0, "hour"), (60.0, "minute")):
        if seconds >= 2 * size or (word == "day" and seconds >= size):
            return plural(round(seconds / size), word)
    return f"{seconds:.0f} s"
