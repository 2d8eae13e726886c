"""Where a user's caches lie, and how much of the disk they may take."""

from __future__ import annotations

import contextlib
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from agent.core.errors import ConfigError

# How much each cache may take, megabytes; 0 keeps nothing.
LIMIT = "AUSCULT_CACHE_MB"
DEFAULT_MB = 1024
_MOST_MB = 1e9
_SHARE = 0.1
# Folder of the graphs that the workstation exported, in `cache_home`.
GRAPHS = "graphs"


def cache_home() -> Path:
    """`$XDG_CACHE_HOME/auscult`, or `~/.cache/auscult`; it may not be there yet."""
    given = os.environ.get("XDG_CACHE_HOME", "")
    try:
        base = Path(given) if given.startswith("/") else Path("~/.cache").expanduser()
    except RuntimeError:  # a user without a home
        base = Path("/nonexistent")
    return base / "auscult"


def cache_limit() -> int:
    """Bytes that each cache may take: as `AUSCULT_CACHE_MB` says.

    Where that says nothing it is 1024 MB, but no more than a tenth of what the disk has free (with
    what the cache takes now): a device's disk has other uses.

    Raises:
        ConfigError: That is no number of megabytes.
    """
    text = os.environ.get(LIMIT, "").strip()
    if not text:
        return round(min(DEFAULT_MB * 1e6, _SHARE * _room(cache_home())))
    try:
        megabytes = float(text)
    except ValueError:
        megabytes = -1.0
    if not 0 <= megabytes < _MOST_MB:
        raise ConfigError(
            f"'{text}' is no number of megabytes",
            where=f"${LIMIT}",
            remedy=f"Set it to how much a cache may take, such as {DEFAULT_MB}; 0 keeps nothing.",
        )
    return round(megabytes * 1e6)


def _room(folder: Path) -> int:
    """Bytes that are free where a folder is, or will be, and those that it takes itself."""
    place = folder
    while not place.exists() and place != place.parent:
        place = place.parent
    try:
        free = shutil.disk_usage(place).free
    except OSError:
        free = 0
    return free + folder_size(folder).bytes


@dataclass(frozen=True, slots=True)
class FolderSize:
    """How much a folder holds: entries right below it, and bytes of all files."""

    count: int
    bytes: int


def folder_size(folder: Path) -> FolderSize:
    """How much a folder holds; nothing where there is none, or what goes meanwhile."""
    count = total = 0
    try:
        for entry in folder.iterdir():
            count += 1
            for path in (entry, *entry.rglob("*")):
                with contextlib.suppress(OSError):
                    total += path.stat().st_size if path.is_file() else 0
    except OSError:
        pass
    return FolderSize(count, total)


def remove_folder(folder: Path) -> None:
    """Remove a folder of a cache; what is written there meanwhile may stay."""
    shutil.rmtree(folder, ignore_errors=True)
