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
