"""Puts a past that was kept with raw scores (version 1) on the scale that people see.

A row knows the raw threshold then in force, not the healthy median; the median of what was heard
below that threshold while it was in force stands for it. Such rows are marked as estimated. Where
even that isn't known (a threshold of 0 or below, hardly anything heard), the scores are left out.
"""

from __future__ import annotations

import sqlite3
from collections import defaultdict

import numpy as np

from agent.core.scale import Scale, scale_of

# Steps heard below a threshold whose median is believed.
_FEWEST = 10
_COLUMNS = "step, machine, start, scored, score_sum, score_min, score_max, threshold, exceeded"
_UPDATE = """
UPDATE past SET scored = ?, score_sum = ?, score_min = ?, score_max = ?, threshold = 1.0,
  estimated = 1 WHERE step = ? AND machine = ? AND start = ?
"""


def to_scale(db: sqlite3.Connection) -> None:
    """Bring a file of version 1 to version 2; within a transaction of the caller's.

    Args:
        db: The file.

    Raises:
        sqlite3.Error: The disk is full or gone.
    """
    db.execute("ALTER TABLE past ADD COLUMN estimated INTEGER NOT NULL DEFAULT 0")
    rows = db.execute(
        f"SELECT {_COLUMNS} FROM past WHERE threshold IS NOT NULL"  # noqa: S608 - our own names
    ).fetchall()
    quiet: dict[tuple[str, float], list[float]] = defaultdict(list)
    for _, machine, _, scored, total, _, _, threshold, exceeded in rows:
        if scored and not exceeded:
            quiet[machine, threshold].append(total / scored)
    scales = {(row[1], row[7]): _scale(row[7], quiet.get((row[1], row[7]), [])) for row in rows}
    db.executemany(_UPDATE, (_row(row, scales[row[1], row[7]]) for row in rows))
    db.execute("PRAGMA user_version = 2")


def _scale(threshold: float, quiet: list[float]) -> Scale | None:
    """What scores under a threshold are told on; None when that cannot be known."""
    if len(quiet) >= _FEWEST and (median := float(np.median(quiet))) < threshold:
        return Scale(median, threshold, threshold, threshold)
    return scale_of(threshold, None) if threshold > 0.0 else None


def _row(
    row: tuple[int, str, int, int, float, float | None, float | None, float, int],
    scale: Scale | None,
) -> tuple[object, ...]:
    step, machine, start, scored, total, least, most, _, _ = row
    if scale is None:
        return (0, 0.0, None, None, step, machine, start)
    mean = scale.of(total / scored) if scored else 0.0
    return (scored, scored * mean, scale.maybe(least), scale.maybe(most), step, machine, start)
