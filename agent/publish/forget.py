"""The outbox is bounded: delivered events are forgotten, the oldest first."""

from __future__ import annotations

import sqlite3

from agent.publish.file import OutboxFile

# Delivered events remain as a record of what was told, and to know an event that comes twice.
_DELIVERED_KEPT = 1000
_PRUNE_STEP = 100


def forget_some(file: OutboxFile, delivered: int, max_bytes: int) -> int:
    """Forget some delivered events, if there are too many or the file is too large.

    Args:
        file: The outbox's.
        delivered: Delivered events in it.
        max_bytes: Its size is to be no more than this, bytes.

    Returns:
        How many were forgotten; 0 when it is within the bounds, or holds none that are delivered.

    Raises:
        sqlite3.Error: The disk refused.
        OSError: Likewise.
    """
    surplus = delivered - _DELIVERED_KEPT
    within = surplus < _PRUNE_STEP and used_bytes(file.database()) <= max_bytes
    if delivered <= 0 or within:
        return 0
    with file.transaction() as db:
        gone = db.execute(
            "DELETE FROM event WHERE seq IN (SELECT seq FROM event "
            "WHERE delivered IS NOT NULL ORDER BY seq LIMIT ?)",
            (max(_PRUNE_STEP, surplus),),
        ).rowcount
    file.database().execute("PRAGMA incremental_vacuum").fetchall()
    return max(0, gone)


def used_bytes(db: sqlite3.Connection) -> int:
    """Bytes of the file that hold something."""
    ((pages,),) = db.execute("PRAGMA page_count").fetchall()
    ((free,),) = db.execute("PRAGMA freelist_count").fetchall()
    ((size,),) = db.execute("PRAGMA page_size").fetchall()
    return int((pages - free) * size)
