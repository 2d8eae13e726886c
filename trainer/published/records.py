"""`configs/reports.yaml`: the tables of the reports, read and checked.

Figures stand there in per cent, as the reports print them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import Field, TypeAdapter, ValidationError, model_validator

from agent.core.errors import ConfigError
from agent.core.schema import Strict, explain

# In a wheel the file lies inside this package's parent; in a checkout beside it.
_PLACES = (
    Path(__file__).parent.parent / "configs" / "reports.yaml",
    Path(__file__).parent.parent.parent / "configs" / "reports.yaml",
)
# The row that a report itself makes of all machines.
ALL = "all"
# DCASE 2025 Task 2, development set: what all of the tables are of.
MACHINES = ("ToyCar", "ToyTrain", "bearing", "fan", "gearbox", "slider", "valve")


class PublishedSystem(Strict):
    """One column of a report's table."""

    name: Annotated[str, Field(description="As the report calls it")]
    preset: Annotated[str | None, Field(description="Preset that follows it; null for none")] = None
    rows: Annotated[
        dict[str, tuple[float, ...]],
        Field(description="Figures of each machine, and of `all`, per cent"),
    ] = {}
    weights: Annotated[
        tuple[float, ...], Field(description="Coefficients of a table of ensembles")
    ] = ()
    millions: Annotated[
        tuple[float, ...], Field(description="Values of the network, and of those that are trained")
    ] = ()


class PublishedTable(Strict):
    """A table of a report."""

    number: Annotated[int, Field(ge=1, description="Its number in the report")]
    caption: Annotated[str, Field(description="Its caption")]
    figures: Annotated[
        tuple[str, ...], Field(description="auc_source, auc_target, pauc, hmean: what rows hold")
    ] = ()
    decimals: Annotated[int, Field(ge=0, description="Digits after the point, as printed")] = 2
    members: Annotated[
        tuple[str, ...], Field(description="Systems that the coefficients of an ensemble are of")
    ] = ()
    systems: tuple[PublishedSystem, ...]

    @model_validator(mode="after")
    def _whole(self) -> PublishedTable:
        for system in self.systems:
            for machine, row in system.rows.items():
                if machine not in {*MACHINES, ALL}:
                    raise ValueError(f"{system.name}: there is no machine '{machine}'")
                if len(row) != len(self.figures):
                    raise ValueError(f"{system.name}, {machine}: {len(self.figures)} figures")
            if len(system.weights) != len(self.members):
                raise ValueError(f"{system.name}: {len(self.members)} weights")
        return self


class Report(Strict):
    """A report: what it printed, and what of it a preset holds."""

    title: Annotated[str, Field(description="Title")]
    authors: Annotated[str, Field(description="Authors, and where they are")]
    presets: Annotated[tuple[str, ...], Field(description="Presets that follow it")]
    submitted: Annotated[
        tuple[str, ...], Field(description="Presets of the systems it submitted; empty for all")
    ] = ()
    notes: Annotated[
        tuple[str, ...],
        Field(description="Where it contradicts itself or another, or needs what nobody published"),
    ] = ()
    tables: tuple[PublishedTable, ...]
    settings: Annotated[
        dict[str, dict[str, Any]],
        Field(description="Settings that its text gives, by preset and dotted path"),
    ] = {}


@dataclass(frozen=True, slots=True)
class Cell:
    """One published figure.

    Attributes:
        report: The report's number, `001`.
        table: Its table's number.
        system: The column, as the report calls it.
        machine: The machine, or `all`.
        figure: auc_source, auc_target, pauc or hmean.
        value: Per cent.
        decimals: Digits it was printed with.
    """

    report: str
    table: int
    system: str
    machine: str
    figure: str
    value: float
    decimals: int


@cache
def load_reports() -> dict[str, Report]:
    """All reports by number.

    Raises:
        ConfigError: The file is missing or a field of it is wrong.
    """
    path = next((place for place in _PLACES if place.is_file()), _PLACES[0])
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
        return TypeAdapter(dict[str, Report]).validate_python(data)
    except OSError as fault:
        raise ConfigError(f"cannot be read: {fault.strerror}", where=path) from fault
    except ValidationError as fault:
        raise ConfigError(explain(fault), where=path) from fault


def find_report(number: str) -> Report:
    """A report by its number, `001` or `1`.

    Raises:
        ConfigError: There is none of that number.
    """
    reports = load_reports()
    wanted = number.zfill(3)
    if wanted not in reports:
        raise ConfigError(
            f"there is no report {number}", remedy=f"Choose one of {', '.join(reports)}."
        )
    return reports[wanted]


def cells_of(preset: str, number: str | None = None) -> list[Cell]:
    """Every published figure of what a preset follows, in the order of the tables.

    Args:
        preset: The preset's name.
        number: Of one report alone; None for all.
    """
    return [
        cell
        for report, found in load_reports().items()
        if number is None or report == number.zfill(3)
        for table in found.tables
        for system in table.systems
        if system.preset == preset
        for cell in _cells(report, table, system)
    ]


def _cells(report: str, table: PublishedTable, system: PublishedSystem) -> Iterator[Cell]:
    for machine, row in system.rows.items():
        for figure, value in zip(table.figures, row, strict=True):
            yield Cell(report, table.number, system.name, machine, figure, value, table.decimals)


def development_score(preset: str) -> float | None:
    """The official score of the development set that follows from a preset's figures, per cent.

    The harmonic mean over the three areas of every machine; the report's own where it prints that
    alone; None where the figures do not give it. Of several reports the first.
    """
    areas = {"auc_source", "auc_target", "pauc"}
    for number in load_reports():
        cells = cells_of(preset, number)
        own = [cell for cell in cells if cell.machine != ALL and cell.figure in areas]
        if len(own) == len(areas) * len(MACHINES):
            return len(own) / sum(1 / cell.value for cell in own)
        told = [cell.value for cell in cells if cell.machine == ALL and cell.figure == "hmean"]
        if told:
            return told[0]
    return None


def reports_of(preset: str) -> list[str]:
    """Numbers of the reports that a preset follows, ascending."""
    return [number for number, report in load_reports().items() if preset in report.presets]
