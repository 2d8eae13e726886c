"""How long collected sound is kept: what a bank has taken in yields first, the rest only if told.

A session that no bank knows may be all there is of a state of the machine. It is never removed
unless the configuration says so, and then not without a warning that names it.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from agent.bundle.manifest import GATE_ROWS, ROWS
from agent.bundle.plain import ROWS_LIMIT, plain_bytes
from agent.collect.segment import drop_draft
from agent.collect.session import SESSION, segment_of
from agent.config.collect import CollectConfig
from agent.core.errors import BundleError

log = logging.getLogger(__name__)

_DAY = 86_400.0


@dataclass(frozen=True, slots=True)
class Stored:
    """One session on the disk.

    Attributes:
        folder: Its folder.
        machine: Its machine.
        modified: When it was last written to, seconds since the epoch.
        size: Bytes.
    """

    folder: Path
    machine: str
    modified: float
    size: int


@dataclass(frozen=True, slots=True)
class Pruned:
    """What was done.

    Attributes:
        added: Sessions removed that a bank had taken in.
        unused: Sessions removed that none had.
        left: Bytes of all sessions that remain.
        allowed: Bytes that they may take.
    """

    added: int
    unused: int
    left: int
    allowed: float


def survey_sessions(root: Path) -> list[Stored]:
    """Every session below `collected/`, the oldest first. Links are not followed."""
    found = []
    for place in root.glob(f"*/*/*/{SESSION}") if root.is_dir() else ():
        folder = place.parent
        if any(part.is_symlink() for part in (folder, *folder.parents[:2])):
            continue
        try:
            stats = [file.lstat() for file in folder.iterdir()]
        except OSError:
            continue  # removed by hand just now
        found.append(
            Stored(
                folder,
                folder.parent.parent.name,
                max(stat.st_mtime for stat in stats),
                sum(stat.st_size for stat in stats),
            )
        )
    return sorted(found, key=lambda stored: stored.modified)


def drop_leftovers(root: Path, *, now: float, busy: Iterable[Path] = ()) -> None:
    """Remove the drafts that recordings cut off by a crash left, and folders that held no more.

    Args:
        root: `collected/` in the state directory.
        now: Seconds since the epoch. What was written to within a day may be under way.
        busy: Folders being written.
    """
    spared = set(busy)
    for folder in root.glob("*/*/*") if root.is_dir() else ():
        if folder in spared or any(part.is_symlink() for part in (folder, *folder.parents[:2])):
            continue
        try:
            written = max(one.lstat().st_mtime for one in (folder, *folder.iterdir()))
            if now - written > _DAY:
                drop_draft(folder)
                if not any(folder.iterdir()):
                    folder.rmdir()
        except OSError as fault:
            log.debug("%s: %s", folder, fault)


def sessions_in_banks(bundles: Iterable[Path]) -> set[str]:
    """Names of the sessions that bundles' banks and idle gates hold rows of.

    Args:
        bundles: Folders of bundles, and folders of numbered versions of them.
    """
    found: set[str] = set()
    for bundle in bundles:
        for rows in (ROWS, GATE_ROWS):
            for place in (bundle / rows, *sorted(bundle.glob(f"[0-9]*/{rows}"))):
                found.update(_sessions(place))
    return found


def prune_collected(
    root: Path,
    config: CollectConfig,
    in_bank: Callable[[str], set[str]],
    *,
    now: float | None,
    busy: Iterable[Path] = (),
) -> Pruned:
    """Remove what is too old or too much.

    Args:
        root: `collected/` in the state directory.
        config: The limits.
        in_bank: By a machine's name, the sessions its banks hold.
        now: Seconds since the epoch; None when the clock cannot be believed: then nothing is too
            old.
        busy: Folders being written, never removed.
    """
    spared = set(busy)
    sessions = [one for one in survey_sessions(root) if one.folder not in spared]
    known = {machine: in_bank(machine) for machine in {one.machine for one in sessions}}
    added = [one for one in sessions if one.folder.name in known[one.machine]]
    others = [one for one in sessions if one not in added]
    doomed: dict[Path, Stored] = {}
    for group, days in ((added, config.keep_days), (others, config.keep_unused_days)):
        for one in group:
            if days is not None and now is not None and now - one.modified > days * _DAY:
                doomed[one.folder] = one
    allowed = _allowed(root, config)
    left = sum(one.size for one in sessions if one.folder not in doomed)
    yielding = [*added, *(others if config.keep_unused_days is not None else ())]
    for one in yielding:
        if left > allowed and one.folder not in doomed:
            doomed[one.folder] = one
            left -= one.size
    for one in doomed.values():
        _remove(one, added=one in added)
    gone = sum(one in added for one in doomed.values())
    return Pruned(gone, len(doomed) - gone, left, allowed)


def _allowed(root: Path, config: CollectConfig) -> float:
    share = config.disk_share * shutil.disk_usage(root).total if root.is_dir() else float("inf")
    return share if config.max_bytes is None else min(share, config.max_bytes)


def _remove(session: Stored, *, added: bool) -> None:
    shutil.rmtree(session.folder, ignore_errors=True)
    if added:
        log.info("collected sound removed, a bank has taken it in: %s", session.folder)
    else:
        log.warning("collected sound removed that was in no bank: %s", session.folder)


def _sessions(rows: Path) -> Iterator[str]:
    """Sessions that a file's rows came from; nothing when it cannot be read."""
    try:
        found = json.loads(plain_bytes(rows, ROWS_LIMIT))
    except (OSError, ValueError, RecursionError, BundleError):
        return
    for row in found if isinstance(found, list) else ():
        source = row.get("source") if isinstance(row, dict) else None
        place = segment_of(source) if isinstance(source, str) else None
        if place is not None:
            yield place[0]
