"""A report's own tables, ours beside the published figures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from rich.markup import escape
from rich.table import Table

from export.published import Beside, beside_rows, compare
from export.reproduce.plan import Plan
from export.reproduce.run import Reproduced
from trainer.metrics.report import HEADINGS, machine_json
from trainer.published.records import ALL, MACHINES, PublishedTable

_LEGEND = "ours / published (difference), per cent"


def comparisons(plan: Plan, found: Reproduced, alike: Sequence[str]) -> list[Beside]:
    """Every column of the report's tables that has figures, beside the system of ours it is.

    Args:
        plan: The report's.
        found: What was found.
        alike: Machines whose published figures may stand beside ours.
    """
    systems = {system.name: system for system in found.evaluation.systems}
    return [
        compare(found.evaluation, systems[name], alike, plan.number, table, column)
        for table in plan.report.tables
        for column in table.systems
        if column.rows and (name := plan.columns.get((table.number, column.name), "")) in systems
    ]


def report_tables(plan: Plan, compared: Sequence[Beside]) -> Iterator[Table]:
    """The tables in the report's order and form: systems side by side, machines and figures below.

    Args:
        plan: The report's.
        compared: From `comparisons`.
    """
    for table in plan.report.tables:
        if table.members:
            yield _coefficients(table)
            continue
        own = {one.column: one for one in compared if one.table == table.number}
        yield _table(plan, table, own)


def _table(plan: Plan, table: PublishedTable, own: dict[str, Beside]) -> Table:
    shown = Table(
        title=f"report {plan.number}, table {table.number}: {escape(table.caption)}; {_LEGEND}",
        title_justify="left",
    )
    shown.add_column("machine", no_wrap=True)
    shown.add_column("metric", no_wrap=True)
    for column in table.systems:
        shown.add_column(escape(column.name), justify="right", no_wrap=True)
    rows = [
        name for name in (*MACHINES, ALL) if any(name in column.rows for column in table.systems)
    ]
    for name in rows:
        for place, figure in enumerate(table.figures):
            cells = []
            for column in table.systems:
                if name not in column.rows:
                    cells.append("")
                    continue
                theirs = f"{column.rows[name][place]:.{table.decimals}f}"
                cells.append(_cell(own.get(column.name), name, figure, theirs))
            heading = HEADINGS.get(figure, figure)
            shown.add_row(name if place == 0 else "", heading, *cells)
    return shown


def _cell(one: Beside | None, machine: str, figure: str, theirs: str) -> str:
    found = (
        None
        if one is None
        else next((c for c in one.cells if (c.machine, c.figure) == (machine, figure)), None)
    )
    if one is None or found is None or found.ours is None or found.difference is None:
        return f"- / {theirs}"
    digits = one.decimals
    return f"{found.ours:.{digits}f} / {theirs} ({found.difference:+.{digits}f})"


def _coefficients(table: PublishedTable) -> Table:
    shown = Table(title=f"table {table.number}: {escape(table.caption)}", title_justify="left")
    shown.add_column("system", no_wrap=True)
    for member in table.members:
        shown.add_column(escape(member), justify="right")
    for system in table.systems:
        shown.add_row(system.name, *(f"{weight:g}" for weight in system.weights))
    return shown


def markdown(plan: Plan, compared: Sequence[Beside], notes: Sequence[str]) -> str:
    """The comparison as a page: every cell a row, then the remarks."""
    headings, rows = beside_rows(compared)
    lines = [headings, ["---"] * len(headings), *rows]
    grid = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    remarks = "\n".join(f"- {note}" for note in notes)
    return f"# Report {plan.number}: {plan.report.title}\n\n{grid}\n\n{remarks}\n"


def weighed_json(found: Reproduced) -> list[dict[str, Any]]:
    """Every system that weighs finished scores, for a JSON file: weights and figures."""
    return [
        {
            "system": name,
            "seed": seed,
            "weights": {
                system.name: float(weight)
                for system, weight in zip(done.systems, done.weights, strict=True)
            },
            "searched_for": None if done.searched is None else done.searched.objective,
            "elsewhere": {}
            if done.searched is None
            else {nested.by: nested.figure for nested in done.searched.nested},
            "machines": {figures.machine: machine_json(figures) for figures in done.machines},
            "official": done.total.value,
        }
        for (name, seed), done in found.fused.items()
        if done.weights is not None
    ]
