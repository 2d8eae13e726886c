"""Published figures for people: the tables of the reports that a preset follows."""

from __future__ import annotations

from collections.abc import Iterator

from rich.table import Table

from trainer.published.records import PublishedSystem, PublishedTable, load_reports

DATA = "DCASE 2025 development set, per cent"
HEADINGS = {
    "auc_source": "AUC source",
    "auc_target": "AUC target",
    "pauc": "pAUC",
    "hmean": "hmean",
    "ap": "AP",
}


def columns_of(preset: str) -> Iterator[tuple[str, PublishedTable, PublishedSystem]]:
    """Report, table and column of every published figure of a preset."""
    for number, report in load_reports().items():
        for table in report.tables:
            for system in table.systems:
                if system.preset == preset:
                    yield number, table, system


def published_tables(preset: str) -> Iterator[tuple[str, Table]]:
    """Every published figure of what a preset follows: a title and a table a column of a report.

    Args:
        preset: The preset's name.
    """
    for number, table, system in columns_of(preset):
        if not system.rows:
            continue
        title = f"report {number}, table {table.number}, {system.name}: {DATA}"
        shown = Table(box=None, padding=(0, 2, 0, 0))
        shown.add_column("machine")
        for figure in table.figures:
            shown.add_column(HEADINGS[figure], justify="right")
        for machine, row in system.rows.items():
            shown.add_row(machine, *(f"{value:.{table.decimals}f}" for value in row))
        yield title, shown


def published_json(preset: str) -> list[dict[str, object]]:
    """The published figures of a preset, for a JSON file."""
    return [
        {
            "report": number,
            "table": table.number,
            "system": system.name,
            "figures": list(table.figures),
            "rows": {machine: list(row) for machine, row in system.rows.items()},
            **({"weights": list(system.weights)} if system.weights else {}),
            **({"millions": list(system.millions)} if system.millions else {}),
        }
        for number, table, system in columns_of(preset)
    ]
