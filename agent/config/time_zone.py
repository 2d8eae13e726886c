"""Time zones by name in the configuration."""

from __future__ import annotations

from typing import Annotated
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator


def known_zone(name: str) -> str:
    """The name of a time zone that this device knows.

    Raises:
        ValueError: There is none of that name.
    """
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as fault:
        raise ValueError(
            f"there is no time zone {name!r}: give one such as Europe/Berlin"
        ) from fault
    return name


TimeZone = Annotated[str, AfterValidator(known_zone)]
