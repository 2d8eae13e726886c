"""Numbers and times as they are told to people."""

from __future__ import annotations

import os
import re
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


# What a terminal, or a reader of lines, would act upon: controls, separators of lines, and marks
# that change the direction of what follows.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]")
_USER = re.compile(r"(?<=://)[^/@\s'\"]+@")
_SECRET = re.compile(
    r"(?i)([?&](?:[a-z0-9_-]*(?:token|passw(?:or)?d|passwd|pwd|secret|key|auth|signature|sig))=)"
    r"[^&\s'\"#]+"
)


def visible(text: str, *, keep: str = "") -> str:
    """Text that does nothing but say something: control characters are escaped.

    Args:
        text: From whoever.
        keep: Those that stay.
    """
    return _CONTROL.sub(lambda found: found[0] if found[0] in keep else ascii(found[0])[1:-1], text)


def redacted(text: str) -> str:
    """Text whose addresses have no secrets: `rtsp://user:password@host/?token=...`."""
    return _SECRET.sub(r"\1***", _USER.sub("", text))


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


def natural_key(name: str) -> list[tuple[int, int, str]]:
    """Sorts names as people number them: 2 before 10."""
    parts = re.split(r"([0-9]+)", name)
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts]
