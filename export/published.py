"""The reports' figures beside ours, cell by cell, where the data are those they are of."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from rich.markup import escape
from rich.table import Table

from agent.recordings.model import Machine
from export.results import Evaluation, System
from export.wording import title
from trainer.metrics.auc import harmonic_mean
from trainer.metrics.report import HEADINGS
from trainer.published.dataset import likeness
from trainer.published.records import ALL, MACHINES, PublishedSystem, PublishedTable
from trainer.published.show import columns_of

_NONE = "-"


@dataclass(frozen=True, slots=True)
class BesideCell:
    """One published figure and ours.

    Attributes:
        machine: The machine, or `all`.
        figure: auc_source, auc_target, pauc or hmean.
        published: Per cent.
        ours: Per cent, the mean over seeds; None where there is none.
    """

    machine: str
    figure: str
    published: float
    ours: float | None

    @property
    def difference(self) -> float | None:
        """Ours minus theirs, points; None where there is nothing of ours."""
        return None if self.ours is None else self.ours - self.published


@dataclass(frozen=True, slots=True)
class Beside:
    """A column of a report's table beside one of our systems.

    Attributes:
        report: The report's number.
        table: Its table's.
        column: What the report calls the system.
        system: What ours is called.
        figures: Of the columns.
        machines: Of the rows.
        decimals: Digits the report prints.
        cells: By row, then figure.
    """

    report: str
    table: int
    column: str
    system: str
    figures: tuple[str, ...]
    machines: tuple[str, ...]
    decimals: int
    cells: tuple[BesideCell, ...]

    @property
    def title(self) -> str:
        """What it is, for people."""
        return (
            f"{self.system} beside report {self.report}, table {self.table}, {self.column}: "
            "ours, published, difference, per cent"
        )

    def rows(self) -> Iterator[list[str]]:
        """Texts, a row a machine; each cell `ours published difference`."""
        wide = len(self.figures)
        for place, machine in enumerate(self.machines):
            own = self.cells[place * wide : (place + 1) * wide]
            yield [machine, *(_text(cell, self.decimals) for cell in own)]


def beside(evaluation: Evaluation, machines: Sequence[Machine]) -> tuple[list[Beside], str]:
    """Every comparison that an evaluation allows, and what to know of them.

    Args:
        evaluation: What was found.
        machines: With their recordings, which tell whether they are the challenge's.

    Returns:
        Comparisons in the order of the systems, and a remark (empty when none is due); nothing of
        either where the data set is another one.
    """
    alike = likeness(machines)
    if not alike.machines:
        return [], ""
    found = [
        compare(evaluation, system, alike.machines, *column)
        for system in evaluation.systems
        for column in columns_of(system.preset.name)
        if column[2].rows
    ]
    return found, alike.remark if found else ""


def compare(
    evaluation: Evaluation,
    system: System,
    alike: Sequence[str],
    report: str,
    table: PublishedTable,
    column: PublishedSystem,
) -> Beside:
    """One of our systems beside one column of a report's table.

    Args:
        evaluation: What was found.
        system: Ours.
        alike: Machines whose published figures may stand beside ours.
        report: The report's number.
        table: Its table.
        column: The table's column.
    """
    rows = [name for name in column.rows if name == ALL or name in alike]
    cells = tuple(
        BesideCell(name, figure, column.rows[name][place], _ours(evaluation, system, name, figure))
        for name in rows
        for place, figure in enumerate(table.figures)
    )
    return Beside(
        report=report,
        table=table.number,
        column=column.name,
        system=title(system),
        figures=table.figures,
        machines=tuple(rows),
        decimals=table.decimals,
        cells=cells,
    )


def _ours(evaluation: Evaluation, system: System, machine: str, figure: str) -> float | None:
    """Our figure, per cent; of all machines only where each of the seven has one."""
    if machine != ALL:
        if machine not in evaluation.machines:
            return None
        mean = evaluation.figure(system, machine, figure).mean
        return None if mean is None else 100 * mean
    means = [
        evaluation.figure(system, name, figure).mean if name in evaluation.machines else None
        for name in MACHINES
    ]
    known = [mean for mean in means if mean is not None]
    if len(known) < len(MACHINES):
        return None
    if figure == "hmean" and set(evaluation.complete(system)) == set(MACHINES):
        total = evaluation.official(system).mean
        return None if total is None else 100 * total
    return 100 * harmonic_mean(known)


def _text(cell: BesideCell, decimals: int) -> str:
    theirs = f"{cell.published:.{decimals}f}"
    if cell.ours is None or cell.difference is None:
        return f"{_NONE:>5} {theirs:>6} {_NONE:>6}"
    return f"{cell.ours:5.{decimals}f} {theirs:>6} {cell.difference:+6.{decimals}f}"


def beside_table(one: Beside) -> Table:
    """A comparison for the terminal."""
    table = Table(title=escape(one.title), title_justify="left")
    table.add_column("machine", no_wrap=True)
    for figure in one.figures:
        table.add_column(HEADINGS.get(figure, figure), justify="right", no_wrap=True)
    for row in one.rows():
        table.add_row(*row)
    return table


def beside_rows(found: Sequence[Beside]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """All comparisons as one long table: headings, and a row a cell."""
    headings = (
        "system",
        "report",
        "column",
        "machine",
        "figure",
        "ours",
        "published",
        "difference",
    )
    rows: list[tuple[str, ...]] = [
        (
            one.system,
            f"{one.report}, table {one.table}",
            one.column,
            cell.machine,
            HEADINGS.get(cell.figure, cell.figure),
            _NONE if cell.ours is None else f"{cell.ours:.{one.decimals}f}",
            f"{cell.published:.{one.decimals}f}",
            _NONE if cell.difference is None else f"{cell.difference:+.{one.decimals}f}",
        )
        for one in found
        for cell in one.cells
    ]
    return headings, rows


def beside_json(found: Sequence[Beside], remark: str) -> dict[str, Any]:
    """For a JSON file: a list of cells, per cent; nothing where nothing can be compared."""
    if not found:
        return {}
    return {
        "published": {
            "remark": remark,
            "cells": [
                {
                    "system": one.system,
                    "report": one.report,
                    "table": one.table,
                    "column": one.column,
                    "machine": cell.machine,
                    "figure": cell.figure,
                    "ours": cell.ours,
                    "published": cell.published,
                    "difference": cell.difference,
                }
                for one in found
                for cell in one.cells
            ],
        }
    }
