"""Finding audio files and folders as people lay them out."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from agent.capture.files import is_audio


def audio_files(folder: Path) -> Iterator[Path]:
    """Every recording in a folder and its sub-folders, sorted by path; hidden ones left out.

    Links to folders are followed (recordings often lie on another disk), each folder once.
    """
    found: list[Path] = []
    seen: set[tuple[int, int]] = set()
    for place, folders, names in os.walk(folder, followlinks=True):
        status = Path(place).stat()
        if (status.st_dev, status.st_ino) in seen:
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [Path(place) / name for name in names if is_audio(Path(name))]
    yield from sorted(found)


def subfolders(folder: Path) -> dict[str, Path]:
    """The folders in a folder by lower-case name, hidden ones left out, sorted."""
    return {
        path.name.lower(): path
        for path in sorted(folder.iterdir())
        if path.is_dir() and not path.name.startswith(".")
    }
