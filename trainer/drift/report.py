"""The table of what each monitor said."""

from __future__ import annotations

from rich.table import Table

from trainer.drift.charts import Trace


def charts_table(traces: dict[str, Trace], tolerant: dict[str, Trace], *, count: int) -> Table:
    """First warning, share of the sequence left then, and warnings in its first half.

    Args:
        traces: The monitors by name.
        tolerant: Charts that were given DtMM's allowance for healthy change.
        count: Steps of the sequence.
    """
    table = Table(title="Drift monitors")
    table.add_column("monitor")
    for name in ("first warning", "left then", "warnings", "in first half", "largest / limit"):
        table.add_column(name, justify="right")
    rows = {**traces, **{f"{name}, same allowance": made for name, made in tolerant.items()}}
    for name, made in rows.items():
        first = made.warnings[0] if made.warnings else None
        table.add_row(
            name,
            "none" if first is None else str(first),
            "" if first is None else f"{100 * (count - 1 - first) / count:.1f} %",
            str(len(made.warnings)),
            str(sum(at < count / 2 for at in made.warnings)),
            f"{made.ratio.max():.2f}" if len(made.ratio) else "",
        )
    return table
