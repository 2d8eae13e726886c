"""Scores of a machine over time, as coarse as a screen needs."""

from __future__ import annotations

from typing import Any, TypeAlias

Row: TypeAlias = dict[str, Any]


def point(row: Any) -> Row:
    """A stretch as the page draws it."""
    return {
        "start": row.start, "seconds": row.step, "windows": row.windows, "judged": row.judged,
        "exceeded": row.exceeded, "median": row.median, "maximum": row.maximum,
    }  # fmt: skip


def merged(rows: list[Row], seconds: int) -> list[Row]:
    """Neighbours as one; of their medians the one in the middle."""
    found: dict[float, list[Row]] = {}
    for row in rows:
        found.setdefault(row["start"].timestamp() // seconds, []).append(row)
    made = []
    for group in found.values():
        medians = sorted(row["median"] for row in group if row["median"] is not None)
        maxima = [row["maximum"] for row in group if row["maximum"] is not None]
        made.append(
            {
                "start": group[0]["start"], "seconds": seconds,
                "windows": sum(row["windows"] for row in group),
                "judged": sum(row["judged"] for row in group),
                "exceeded": sum(row["exceeded"] for row in group),
                "median": medians[(len(medians) - 1) // 2] if medians else None,
                "maximum": max(maxima) if maxima else None,
            }
        )  # fmt: skip
    return made
