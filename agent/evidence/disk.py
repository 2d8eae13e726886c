"""How much may be written, and what is removed to stay below it."""

from __future__ import annotations

import logging
import shutil
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from agent.config.evidence import EvidenceConfig
from agent.core.errors import AuscultError
from agent.evidence.record import FEEDBACK, read_feedback

log = logging.getLogger(__name__)

_DAY = 86400.0


def has_room(folder: Path, free_share: float, *, more: int = 0) -> bool:
    """Whether a disk has a share of it free even after writing so many bytes more.

    Args:
        folder: A folder on it; the nearest that exists is asked.
        free_share: Share of the disk to leave free.
        more: Bytes about to be written.
    """
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    usage = shutil.disk_usage(folder)
    return usage.free - more >= free_share * usage.total


@dataclass(frozen=True, slots=True)
class Kept:
    """One alarm's folder."""

    folder: Path
    machine: str
    modified: float
    size: int
    pending: bool


def survey(root: Path) -> list[Kept]:
    """Every alarm's folder below `root`, the oldest first. Links are not followed."""
    found = []
    for machine in sorted(root.iterdir()) if root.is_dir() else ():
        if machine.is_symlink() or not machine.is_dir():
            continue
        for folder in machine.iterdir():
            if folder.is_symlink() or not folder.is_dir():
                continue
            try:
                sizes = [
                    (file.lstat().st_size, file.lstat().st_mtime)
                    for file in folder.iterdir()
                    if file.name != FEEDBACK
                ]
                modified = max((time_ for _, time_ in sizes), default=folder.stat().st_mtime)
            except OSError:
                continue  # removed by hand just now
            size = sum(size for size, _ in sizes)
            found.append(Kept(folder, machine.name, modified, size, _pending(folder)))
    return sorted(found, key=lambda kept: kept.modified)


def _pending(folder: Path) -> bool:
    try:
        feedback = read_feedback(folder)
    except AuscultError:
        return False
    return feedback is not None and feedback.verdict == "normal" and feedback.accepted is None


def prune(
    root: Path,
    config: EvidenceConfig,
    *,
    keep: Path | None = None,
    now: float | None,
) -> int:
    """Remove what is too old, too much for a machine, or too much for the disk.

    What waits for acceptance into the bank is counted last among its machine's, but ages and yields
    to the disk as the rest does.

    Args:
        root: `evidence/` in the state directory.
        config: The limits.
        keep: A folder being written, never removed.
        now: Seconds since the epoch; None when the clock cannot be believed: then nothing is too
            old.

    Returns:
        Alarms whose evidence was removed.
    """
    everything = survey(root)
    doomed: dict[Path, None] = {}
    for kept in everything:
        if now is not None and now - kept.modified > config.keep_days * _DAY:
            doomed[kept.folder] = None
    by_machine: dict[str, list[Kept]] = defaultdict(list)
    for kept in everything:
        if kept.folder not in doomed:
            by_machine[kept.machine].append(kept)
    for of_machine in by_machine.values():
        surplus = len(of_machine) - config.keep_alarms
        ranked = sorted(of_machine, key=lambda kept: (kept.pending, kept.modified))
        doomed.update((kept.folder, None) for kept in ranked[: max(0, surplus)])
    allowed = config.disk_share * shutil.disk_usage(root).total if everything else 0
    left = [kept for kept in everything if kept.folder not in doomed]
    total = sum(kept.size for kept in left)
    for kept in left:
        if total <= allowed:
            break
        if kept.folder != keep:
            doomed[kept.folder] = None
            total -= kept.size
    gone = [folder for folder in doomed if folder != keep]
    for folder in gone:
        shutil.rmtree(folder, ignore_errors=True)
        log.info("evidence removed: %s", folder)
    return len(gone)
