"""Puts a bundle in place so that the one before can be put back."""

from __future__ import annotations

import logging
import os
import shutil
from pathlib import Path

from agent.bundle.manifest import MANIFEST
from agent.bundle.seal import new_bundle
from agent.core.errors import AuscultError

log = logging.getLogger(__name__)


def keep(place: Path, before: Path) -> None:
    """Keep the bundle that is in place, so that it can be put back; no bundle keeps nothing.

    Args:
        place: The bundle's folder.
        before: Where to keep it; what was kept there is replaced.

    Raises:
        OSError: The disk refuses it.
    """
    shutil.rmtree(before, ignore_errors=True)
    if not (place / MANIFEST).is_file():
        return
    before.mkdir(parents=True)
    for path in sorted(place.iterdir()):
        if path.is_file() and not path.is_symlink() and path.name != MANIFEST:
            link_or_copy(path, before / path.name)
    shutil.copyfile(place / MANIFEST, before / MANIFEST)


def put_back(before: Path, place: Path) -> None:
    """Put back what was kept, or nothing where there was none."""
    try:
        if (before / MANIFEST).is_file():
            with new_bundle(place) as draft:
                for path in before.iterdir():
                    link_or_copy(path, draft / path.name)
        else:
            shutil.rmtree(place, ignore_errors=True)
    except (AuscultError, OSError) as fault:
        log.error("%s: the bundle before cannot be put back: %s", place, fault)  # noqa: TRY400 - in words
    else:
        shutil.rmtree(before, ignore_errors=True)


def link_or_copy(source: Path, target: Path) -> None:
    """A file under another name; copied where the disk has no links, or is another.

    Raises:
        OSError: The disk refuses it.
    """
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
