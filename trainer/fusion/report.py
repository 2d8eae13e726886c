"""A fusion told: tables for people, JSON for programs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rich.markup import escape
from rich.table import Table

from trainer.fusion.fuse import Fused
from trainer.fusion.search import Nested, Objective
from trainer.metrics.report import bounded, metrics_json, percent

_LEFT_OUT = {
    "machine": "machines that did not choose the weights",
    "section": "sections that did not choose the weights",
    "clip": "clips that did not choose the weights (halves)",
}


_OBJECTIVES: dict[Objective, str] = {
    "official": "official score",
    "auc": "AUC of both domains",
    "pauc": "pAUC",
}


def fusion_tables(fused: Fused) -> Iterator[Table]:
    """The systems beside their fusion; then what searched weights are worth elsewhere."""
    table = Table(title="Official score, %, 95 % bootstrap interval", title_justify="left")
    table.add_column("system", no_wrap=True)
    table.add_column("weight", justify="right")
    table.add_column("all machines", justify="right", no_wrap=True)
    weights = [""] * len(fused.systems)
    if fused.weights is not None:
        weights = [f"{weight:.3g}" for weight in fused.weights]
    for system, weight, alone in zip(fused.systems, weights, fused.alone, strict=True):
        table.add_row(escape(system.name), weight, bounded(alone.value, alone.interval))
    table.add_section()
    tuned = " (chosen by these very clips)" if fused.searched else ""
    offline = " (offline only)" if fused.offline else ""
    table.add_row(
        f"fused: {_method(fused)}{offline}{tuned}",
        "",
        bounded(fused.total.value, fused.total.interval),
        style="dim" if fused.searched else "bold",
    )
    yield table
    if fused.searched is not None:
        yield _nested_table(fused)


def _nested_table(fused: Fused) -> Table:
    assert fused.searched is not None
    table = Table(
        title=f"What the searched weights are worth on what did not choose them, "
        f"{_OBJECTIVES[fused.searched.objective]}, %",
        title_justify="left",
    )
    table.add_column("judged on", no_wrap=True)
    for heading in ("searched weights", "equal weights", "best alone, chosen alike"):
        table.add_column(heading, justify="right")
    for system in fused.systems:
        table.add_column(f"{escape(system.name)} alone", justify="right")
    for nested in fused.searched.nested:
        spread = "" if nested.spread is None else f" ± {percent(nested.spread)}"
        table.add_row(
            _LEFT_OUT[nested.by],
            f"[bold]{percent(nested.figure)}[/]{spread}",
            percent(nested.equal),
            percent(nested.best_alone),
            *map(percent, nested.alone),
        )
    return table


def fusion_notes(fused: Fused) -> list[str]:
    """What a reader of the tables must know besides."""
    notes = []
    if fused.offline:
        notes.append(
            "test-rank ranks each clip among the whole test set: for reports only, no device can "
            "do it, and the challenge's rules forbid normalising by test statistics"
        )
    if fused.searched is None:
        return notes
    nested = fused.searched.nested
    if not nested:
        notes.append(
            "too few clips to judge the weights on any that did not choose them: take equal "
            "weights, or score more machines"
        )
        return notes
    first = nested[0]
    reported = f"report {percent(first.figure)}, not {percent(fused.searched.figure)}"
    notes.append(f"{reported}: the latter is of the clips that chose the weights")
    if first.figure <= max(first.equal, first.best_alone):
        better = "equal weights do" if first.equal >= first.best_alone else "one system alone does"
        notes.append(f"the search gains nothing: on {_LEFT_OUT[first.by]}, {better} as well")
    return notes


def fusion_json(fused: Fused, *, resamples: int, seed: int) -> dict[str, Any]:
    """What `auscult fuse` writes to `fusion.json`; figures are fractions."""
    names = [system.name for system in fused.systems]
    found: dict[str, Any] = {
        "method": fused.method,
        "normalize": fused.normalize,
        "offline_only": fused.offline,
        "systems": {
            system.name: {
                "folder": str(system.folder),
                "weight": None if fused.weights is None else float(fused.weights[place]),
                "official": fused.alone[place].value,
                "interval": list(fused.alone[place].interval),
            }
            for place, system in enumerate(fused.systems)
        },
        "fused": metrics_json(fused.machines, fused.total, resamples=resamples, seed=seed),
        "search": None,
    }
    if fused.searched is not None:
        found["search"] = {
            "figure_on_the_clips_that_chose": fused.searched.figure,
            "objective": fused.searched.objective,
            "step": fused.searched.step,
            "tried": fused.searched.tried,
            "nested": {nested.by: _nested_json(nested, names) for nested in fused.searched.nested},
        }
    return found


def _nested_json(nested: Nested, names: list[str]) -> dict[str, Any]:
    return {
        "figure": nested.figure,
        "spread": nested.spread,
        "equal_weights": nested.equal,
        "best_alone": nested.best_alone,
        "alone": dict(zip(names, nested.alone, strict=True)),
        "weights_mean": dict(zip(names, map(float, nested.weights.mean(axis=0)), strict=True)),
        "weights_deviation": dict(zip(names, map(float, nested.weights.std(axis=0)), strict=True)),
    }


def _method(fused: Fused) -> str:
    name = fused.method.replace("_", "-")
    return name if fused.normalize is None else f"{name} of {fused.normalize}"
