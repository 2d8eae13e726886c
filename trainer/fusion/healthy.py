"""Healthy scores as files beside a system's result files, so that its scores can be normalised.

healthy_score_<machine>_section_<s>_train.csv     recording, score     no header

Each score is that of a healthy training recording as if it had never been heard. Nothing of a test
set enters: normalising with its statistics would need the whole test set before the first decision.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from agent.calibrate.limits import HealthyScores
from agent.score.scorer import Floats
from trainer.metrics.auc import MetricsError
from trainer.metrics.names import read_rows

HEALTHY = "healthy_score"
_FILE = re.compile(rf"^{HEALTHY}_(?P<machine>.+)_section_(?P<section>\d+)_train\.csv$")


def write_healthy(folder: Path, machine: str, healthy: HealthyScores, clip: str) -> list[Path]:
    """Write a bundle's healthy scores, recording by recording.

    Args:
        folder: Where the system's result files are.
        machine: Name of the machine.
        healthy: Leave-one-recording-out scores of its windows.
        clip: `mean` or `max`: how windows make a recording's score.

    Returns:
        The files written, one for each section.
    """
    values, rows = healthy.known()
    reduce = np.mean if clip == "mean" else np.max
    windows: dict[str, dict[str, list[float]]] = {}
    for value, row in zip(values, rows, strict=True):
        own = windows.setdefault(row.section or "00", {})
        own.setdefault(row.group, []).append(float(value))
    written = []
    for section, recordings in sorted(windows.items()):
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{HEALTHY}_{machine}_section_{section}_train.csv"
        with path.open("w", encoding="utf-8", newline="") as file:
            lines = [(name, repr(float(reduce(own)))) for name, own in recordings.items()]
            csv.writer(file, lineterminator="\n").writerows(lines)
        written.append(path)
    return written


def read_healthy(folder: Path) -> dict[str, Floats]:
    """Healthy scores of each machine over all its sections, ascending.

    Returns:
        By machine; empty when the folder has no such files.

    Raises:
        MetricsError: A line is not `recording,score` with a finite score.
    """
    found: dict[str, list[float]] = {}
    for path in sorted(folder.glob(f"{HEALTHY}_*.csv")):
        match = _FILE.match(path.name)
        if match is None:
            raise MetricsError(
                "is not named as a file of healthy scores",
                where=path,
                remedy=f"Name it {HEALTHY}_<machine>_section_<two digits>_train.csv.",
            )
        values = found.setdefault(match["machine"], [])
        for number, row in read_rows(path):
            values.append(_score(row, f"{path}, line {number}"))
    return {machine: np.sort(np.asarray(values)) for machine, values in found.items() if values}


def _score(row: Sequence[str], where: str) -> float:
    try:
        value = float(row[1]) if len(row) == 2 else math.nan
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise MetricsError(
            f"is not `recording,score`: {','.join(row)!r}",
            where=where,
            remedy="Every score must be a finite number.",
        )
    return value
