"""One page, one table and one JSON file on all machines of a plant, the worst first."""

from __future__ import annotations

import csv
import io
import os
from collections import Counter
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from agent import __version__
from agent.core.storage import write_atomic, write_json
from agent.core.text import plural
from agent.report.page import TONES, Number, fill
from plant.learn.build import Built
from plant.learn.figures import LEVELS
from plant.learn.task import Outcome

_COLUMNS = (
    "machine", "state", "level", "verdict", "judged_on", "faults", "found", "healthy",
    "false_alarms", "hmean", "threshold", "caveat", "recordings", "hours", "preset", "precision",
    "bytes", "signed", "digest", "seconds", "node", "finished", "reason",
)  # fmt: skip
# Levels at which a machine's bundle may be deployed.
_FIT = ("usable", "good")
# Letters of a verdict that are shown before it is opened.
_LONG = 240
_PAGE = Path(__file__).with_name("summary.html")


def write_summary(built: Built, plant: str) -> Path:
    """Write `summary.html`, `summary.csv` and `summary.json`.

    Args:
        built: What was built.
        plant: The plant's name.

    Returns:
        The page.
    """
    rows = [row_of(one) for one in built.outcomes]
    counts = Counter(str(row["level"]) for row in rows)
    encoders = {row["encoder_sha256"] for row in rows if row.get("encoder_sha256")}
    told: dict[str, Any] = {
        "plant": plant,
        "made": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "version": __version__,
        "levels": {level: counts[level] for level in LEVELS if counts[level]},
        "encoders": len(encoders),
        "shared_bytes": built.shared_bytes,
        "machines": rows,
    }
    write_json(built.out / "summary.json", told)
    write_atomic(built.out / "summary.csv", _csv(rows).encode())
    for row, outcome in zip(rows, built.outcomes, strict=True):
        row.update(_links(outcome, built.out), **_look(row))
    path = built.out / "summary.html"
    write_atomic(path, fill(_PAGE, opening=_opening(told), **told).encode())
    return path


def row_of(outcome: Outcome) -> dict[str, Any]:
    """One machine, flat."""
    failed = outcome.state == "failed"
    figures: Mapping[str, Any] = (
        {"level": "failed", "verdict": outcome.reason} if failed else outcome.figures
    )
    told = outcome.model_dump(mode="json", exclude={"figures", "recipe", "content", "attempt"})
    blank = dict.fromkeys((*_COLUMNS, "encoder_sha256", "notes", "record", "false_alarm_share"))
    return {**blank, **told, **figures}


def _opening(told: Mapping[str, Any]) -> dict[str, Any]:
    """The first screen: what became of them all, and three numbers."""
    rows, levels = told["machines"], told["levels"]
    worst = rows[0]["tone"] if rows else ""
    fit = sum(levels.get(level, 0) for level in _FIT)
    built = sum(row["digest"] is not None for row in rows)
    encoders = plural(told["encoders"], "different encoder")
    return {
        "tone": worst,
        "text": f"Of {plural(len(rows), 'machine')}: "
        + ", ".join(f"{count} {level}" for level, count in levels.items()),
        "numbers": (
            Number("Fit to deploy", f"{fit} of {len(rows)}", "usable or good"),
            Number("Bundles", f"{built} of {len(rows)}", f"{encoders} in them"),
            Number(
                "Saved on the disk", f"{told['shared_bytes'] / 1e6:.1f} MB", "equal files, once"
            ),
        ),
    }


def _look(row: Mapping[str, Any]) -> dict[str, str]:
    """How a machine's card looks: its tone, and its verdict with what is long folded away."""
    verdict = str(row["verdict"] or "")
    short = verdict
    if len(verdict) > _LONG:
        short = verdict[:_LONG].rpartition(" ")[0] + " …"
    return {
        "tone": TONES.get(str(row["level"]), "bad"),
        "short": short,
        "rest": verdict if short != verdict else "",
    }


def _links(outcome: Outcome, out: Path) -> dict[str, Any]:
    """Where log and report of a machine are, from the page; none where there is none."""
    report = out / "machines" / outcome.machine / "evaluation" / "report.html"
    log = out / "logs" / f"{outcome.machine}.log"
    return {
        "log": os.path.relpath(log, out) if log.is_file() else None,
        "report": os.path.relpath(report, out) if report.is_file() else None,
    }


def _csv(rows: list[dict[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, _COLUMNS, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
