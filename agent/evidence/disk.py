"""How much may be written, and what is removed to stay below it."""

from __future__ import annotations

import contextlib
import logging
import shutil
from collections import defaultdict
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

from agent.config.evidence import EvidenceConfig
from agent.core.errors import AuscultError
from agent.evidence.record import (
    FEEDBACK,
    SEEN,
    WINDOW_PREFIX,
    alarm_folder,
    read_feedback,
)

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


class Rank(IntEnum):
    """What goes first where there is too much."""

    WINDOW = 0  # one that a person answered, no alarm
    PENDING_WINDOW = 1  # it waits to join the bank
    SEEN = 2  # an alarm that was acknowledged or answered
    PENDING = 3  # an alarm that waits to join the bank
    UNSEEN = 4  # an alarm that nobody has acknowledged


@dataclass(frozen=True, slots=True)
class Kept:
    """One alarm's folder, or one answered window's."""

    folder: Path
    machine: str
    modified: float
    size: int
    rank: Rank


def survey(root: Path) -> list[Kept]:
    """Every folder of evidence below `root`, the oldest first. Links are not followed."""
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
                    if file.name not in {FEEDBACK, SEEN}
                ]
                modified = max((time_ for _, time_ in sizes), default=folder.stat().st_mtime)
            except OSError:
                continue  # removed by hand just now
            size = sum(size for size, _ in sizes)
            found.append(Kept(folder, machine.name, modified, size, _rank(folder)))
    return sorted(found, key=lambda kept: kept.modified)


def mark_seen(root: Path, machine: str, alarm_id: str) -> None:
    """Remember that an alarm was acknowledged; without evidence of it, or on a full disk, not.

    Args:
        root: `evidence/` in the state directory.
        machine: The machine.
        alarm_id: The alarm.
    """
    with contextlib.suppress(OSError, AuscultError):
        folder = alarm_folder(root, machine, alarm_id)
        if folder.is_dir():
            (folder / SEEN).touch()


def make_room(root: Path, machine: str, most: int) -> None:
    """See that one more answered window of a machine may be kept.

    Args:
        root: `evidence/` in the state directory.
        machine: The machine.
        most: Such windows that it may have.

    Raises:
        AuscultError: So many wait to join the bank.
    """
    windows = [
        kept
        for kept in survey(root)
        if kept.machine == machine and kept.rank <= Rank.PENDING_WINDOW
    ]
    done = [kept for kept in windows if kept.rank is Rank.WINDOW]
    surplus = len(windows) + 1 - most
    if surplus > len(done):
        raise AuscultError(
            f"{len(windows)} answered windows of '{machine}' wait to join the bank: no more fit",
            remedy="Accept some (`auscult bank accept`), or remove their folders in evidence/.",
        )
    for kept in done[: max(0, surplus)]:
        shutil.rmtree(kept.folder, ignore_errors=True)
        log.info("evidence removed: %s", kept.folder)


def _rank(folder: Path) -> Rank:
    try:
        feedback = read_feedback(folder)
    except AuscultError:
        feedback = None
    pending = feedback is not None and feedback.verdict == "normal" and feedback.accepted is None
    if folder.name.startswith(WINDOW_PREFIX):
        return Rank.PENDING_WINDOW if pending else Rank.WINDOW
    if pending:
        return Rank.PENDING
    return Rank.UNSEEN if feedback is None and not (folder / SEEN).exists() else Rank.SEEN


def prune(
    root: Path,
    config: EvidenceConfig,
    *,
    keep: Path | None = None,
    now: float | None,
) -> int:
    """Remove what is too old, too much for a machine, or too much for the disk.

    Windows that a person answered have a number of their own and yield to the disk first; of alarms
    those go first that somebody has seen, and last those that nobody has acknowledged.

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
    left = [kept for kept in everything if kept.folder not in doomed]
    by_kind: dict[tuple[str, bool], list[Kept]] = defaultdict(list)
    for kept in left:
        by_kind[kept.machine, kept.rank <= Rank.PENDING_WINDOW].append(kept)
    for (_, windows), of_machine in by_kind.items():
        surplus = len(of_machine) - (config.keep_windows if windows else config.keep_alarms)
        # What is being written counts, and stays.
        ranked = sorted(
            (kept for kept in of_machine if kept.folder != keep),
            key=lambda kept: (kept.rank, kept.modified),
        )
        doomed.update((kept.folder, None) for kept in ranked[: max(0, surplus)])
    allowed = config.disk_share * shutil.disk_usage(root).total if everything else 0
    left = [kept for kept in everything if kept.folder not in doomed]
    total = sum(kept.size for kept in left)
    for kept in sorted(left, key=lambda kept: (kept.rank, kept.modified)):
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
