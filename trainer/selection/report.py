"""A selection as a table for people."""

from __future__ import annotations

from rich.markup import escape
from rich.table import Table

from trainer.metrics.report import percent
from trainer.selection.record import SelectionRecord

_SHOWN = 12


def selection_table(record: SelectionRecord) -> Table:
    """The best candidates and the preset's own, best first; figures in per cent."""
    table = Table(
        title=f"Made-up faults from {record.windows} healthy windows, official score in %",
        caption="own: the preset's; beats own: share of resamples of the healthy recordings",
        title_justify="left",
    )
    table.add_column("candidate")
    kinds = list(record.judged[0].kinds)
    for heading in ("all", *kinds, "AUC source", "AUC target", "beats own"):
        table.add_column(heading, justify="right")
    order = sorted(range(len(record.judged)), key=lambda i: -record.judged[i].figure)
    shown = order[:_SHOWN]
    shown += [i for i in dict.fromkeys((record.chosen, 0)) if i not in shown]
    for place in shown:
        judged = record.judged[place]
        name = escape(judged.name) + (" (own)" if place == 0 else "")
        table.add_row(
            name,
            percent(judged.figure),
            *(percent(judged.kinds.get(kind)) for kind in kinds),
            percent(judged.auc_source),
            percent(judged.auc_target),
            "-" if judged.better is None else f"{judged.better:.0%}",
            style="bold" if place == record.chosen else "",
        )
    if len(shown) < len(order):
        table.add_section()
        table.add_row(f"... {len(order) - len(shown)} more in run.json", style="dim")
    return table
