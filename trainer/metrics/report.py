"""The figures as JSON (fractions) and as a table for people (per cent)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich.table import Table

from trainer.metrics.summary import FIGURES, Interval, MachineFigures, Official

HEADINGS = {"auc_source": "AUC source", "auc_target": "AUC target", "pauc": "pAUC", "ap": "AP"}


def machine_json(machine: MachineFigures) -> dict[str, Any]:
    """One machine's figures for a JSON file, fractions; null where a figure does not exist."""
    found: dict[str, Any] = {name: getattr(machine, name) for name in FIGURES}
    found["interval"] = list(machine.intervals["hmean"])
    found["intervals"] = {name: list(bounds) for name, bounds in machine.intervals.items()}
    found["clips"] = machine.clips
    if len(machine.sections) > 1:
        found["sections"] = {name: asdict(own.auc) for name, own in machine.sections.items()}
    if machine.decisions:
        found["decisions"] = {name: asdict(own) for name, own in machine.decisions.items()}
    return found


def metrics_json(
    machines: Sequence[MachineFigures], total: Official, *, resamples: int, seed: int
) -> dict[str, Any]:
    """What `auscult metrics --json` writes."""
    return {
        "machines": {machine.machine: machine_json(machine) for machine in machines},
        "official": total.value,
        "interval": list(total.interval),
        "bootstrap": {"resamples": resamples, "seed": seed, "level": 0.95},
    }


def percent(value: float | None) -> str:
    """A fraction in per cent with two decimals, `-` where there is none."""
    return "-" if value is None else f"{100 * value:.2f}"


def bounded(value: float | None, bounds: Interval | None) -> str:
    """A fraction in per cent, with its interval where it has one: `58.73 [55.1, 61.9]`."""
    if value is None or bounds is None:
        return percent(value)
    return f"{percent(value)} [{100 * bounds[0]:.1f}, {100 * bounds[1]:.1f}]"


def metrics_table(machines: Sequence[MachineFigures], total: Official) -> Table:
    """A machine a row, each figure with its interval, the official score in the last row."""
    table = Table(title="AUC in %, 95 % bootstrap intervals", show_footer=True)
    table.add_column("machine", footer="all", no_wrap=True)
    for heading in HEADINGS.values():
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column(
        "hmean", justify="right", no_wrap=True, footer=bounded(total.value, total.interval)
    )
    table.add_column("clips", justify="right", footer=str(sum(m.clips for m in machines)))
    for machine in machines:
        table.add_row(
            machine.machine,
            *(bounded(getattr(machine, name), machine.intervals.get(name)) for name in FIGURES),
            str(machine.clips),
        )
        if len(machine.sections) > 1:
            for section, own in machine.sections.items():
                areas = (getattr(own.auc, name) for name in FIGURES)
                table.add_row(f"  section {section}", *map(percent, areas), "", style="dim")
    return table


def decisions_table(machines: Sequence[MachineFigures]) -> Table | None:
    """Precision, recall, F1 and false alarms of each domain; None without decision files."""
    if not any(machine.decisions for machine in machines):
        return None
    table = Table(title="Decisions, %")
    table.add_column("machine", no_wrap=True)
    table.add_column("domain")
    for heading in ("precision", "recall", "F1", "false alarms", "clips"):
        table.add_column(heading, justify="right")
    for machine in machines:
        for domain, quality in machine.decisions.items():
            table.add_row(
                machine.machine,
                domain,
                percent(quality.precision),
                percent(quality.recall),
                percent(quality.f1),
                percent(quality.false_alarm_rate),
                str(quality.clips),
            )
    return table
