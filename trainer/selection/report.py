"""A selection as a table for people."""

from __future__ import annotations

from rich.markup import escape
from rich.table import Table

from trainer.selection.record import JudgedRecord, SelectionRecord

_SHOWN = 12
# Columns of a console in which the kinds of made-up fault have room as well.
_WIDE = 120


def selection_table(record: SelectionRecord, width: int) -> Table:
    """The best candidates and the preset's own, best first; figures in per cent.

    Args:
        record: The selection.
        width: Of the console, columns.
    """
    table = Table(
        title=f"Found of the faults made up from {record.windows} healthy windows, %",
        caption="beats own: share of resamples of the healthy recordings in which it beats the "
        "preset's own",
        title_justify="left",
    )
    table.add_column("candidate")
    kinds = list(record.judged[0].kinds) if width >= _WIDE else []
    for heading in ("score", "AUC s", "AUC t", "beats own", *kinds):
        table.add_column(heading, justify="right", no_wrap=True)
    alike = len({judged.encoder.model_dump_json() for judged in record.judged}) == 1
    order = sorted(range(len(record.judged)), key=lambda i: -record.judged[i].figure)
    shown = order[:_SHOWN]
    shown += [i for i in dict.fromkeys((record.chosen, 0)) if i not in shown]
    for place in shown:
        judged = record.judged[place]
        table.add_row(
            _name(judged, alike=alike) + (" (own)" if place == 0 else ""),
            *(_percent(v) for v in (judged.figure, judged.auc_source, judged.auc_target)),
            "" if judged.better is None else f"{judged.better:.0%}",
            *(_percent(judged.kinds.get(kind)) for kind in kinds),
            style="bold" if place == record.chosen else "",
        )
    if len(shown) < len(order):
        table.add_section()
        table.add_row(f"... {len(order) - len(shown)} more in run.json", style="dim")
    return table


def _name(judged: JudgedRecord, *, alike: bool) -> str:
    return escape(judged.name.rpartition(", ")[2] if alike else judged.name)


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}"
