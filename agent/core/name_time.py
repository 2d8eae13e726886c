"""When a recording was made, as far as its name or its file tells."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path, PurePath

# 20260302_234228.253481, 2026-03-02T23-42-28, 2026-03-02 23:42, 20260302: never part of a longer
# number, so that a running number is no date.
_TIME = re.compile(
    r"(?<!\d)(?P<year>(?:19|20)\d\d)(?P<dash>[-_.]?)(?P<month>\d\d)(?P=dash)(?P<day>\d\d)"
    r"(?:[T_\- ]?(?P<hour>\d\d)[-:_.h]?(?P<minute>\d\d)(?:[-:_.m]?(?P<second>\d\d)"
    r"(?P<fraction>\.\d{1,9})?)?)?(?!\d)"
)


def name_time(name: str | PurePath) -> datetime | None:
    """When a recording was made by its name; None where that does not tell.

    The file's own name is read first, then the folders it lies in, the nearest first: a folder a
    day is as good. Times are the recorder's own, without a zone; they are only ever compared.

    Args:
        name: File name or path; a path as long as its folders are meant to be read.
    """
    for part in reversed(PurePath(name).parts):
        for found in _TIME.finditer(part):
            moment = _moment(found)
            if moment is not None:
                return moment
    return None


def file_time(path: Path) -> datetime:
    """When a file was last changed (UTC, without a zone).

    Copying may set that to the day of the copy, so it is believed only where names tell nothing.

    Raises:
        OSError: The file is gone.
    """
    return datetime.fromtimestamp(path.stat().st_mtime, tz=timezone.utc).replace(tzinfo=None)


def all_name_times(names: Sequence[str | PurePath]) -> list[datetime] | None:
    """The times of all names; None unless every one tells."""
    found = [name_time(name) for name in names]
    known = [moment for moment in found if moment is not None]
    return known if found and len(known) == len(found) else None


def _moment(found: re.Match[str]) -> datetime | None:
    try:
        return datetime(  # noqa: DTZ001 - recorders name no zone
            int(found["year"]),
            int(found["month"]),
            int(found["day"]),
            int(found["hour"] or 0),
            int(found["minute"] or 0),
            int(found["second"] or 0),
            int(float(found["fraction"] or 0) * 1e6),
        )
    except ValueError:
        return None
