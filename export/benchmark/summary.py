"""What a benchmark found in one row a system: for the terminal, for JSON and to paste in docs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from rich.markup import escape
from rich.table import Table
from scipy.stats import hmean

from agent.recordings.model import Machine
from export.results import Evaluation, Summary, System
from export.results_json import evaluation_json
from export.wording import percent, percent_within, title

HEADINGS = ("official", "arithmetic", "harmonic", "seconds", "MB", "published")


@dataclass(frozen=True, slots=True)
class NotRun:
    """A preset that was left out.

    Attributes:
        name: Preset.
        files: Checkpoints that are absent.
        command: Runs it, once they are there.
        published: Its report's figures.
    """

    name: str
    files: tuple[str, ...]
    command: str
    published: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Line:
    """One system over all machines.

    Attributes:
        system: Which.
        machines: Harmonic mean of each machine, by name; without mean where it failed.
        official: The challenge's one number (Omega): the harmonic mean over every area of every
            section of every machine.
        arithmetic: Arithmetic mean of the machines' harmonic means.
        harmonic: Harmonic mean of them.
        seconds: Training, export and scoring of a machine, mean; None when nothing ran.
        megabytes: Size of the largest bundle, 1e6 bytes.
        count: Machines that the means are over.
    """

    system: System
    machines: dict[str, Summary]
    official: Summary
    arithmetic: Summary
    harmonic: Summary
    seconds: float | None
    megabytes: float | None
    count: int


def lines(evaluation: Evaluation) -> list[Line]:
    """A line a system, floors last."""
    return [_line(evaluation, system) for system in evaluation.systems]


def _line(evaluation: Evaluation, system: System) -> Line:
    complete = evaluation.complete(system)
    outcomes = [o for machine in complete for o in evaluation.of(system, machine).values()]
    ranked = [
        [outcome.figures.hmean for outcome in evaluation.of(system, machine).values()
         if outcome.figures is not None]
        for machine in complete
    ]  # fmt: skip
    by_seed = list(zip(*ranked, strict=True))
    return Line(
        system=system,
        machines={m: evaluation.figure(system, m, "hmean") for m in evaluation.machines},
        official=evaluation.official(system),
        arithmetic=_over([float(np.mean(own)) for own in by_seed]) if complete else Summary(None),
        harmonic=_over([float(hmean(own)) for own in by_seed]) if complete else Summary(None),
        seconds=float(np.mean([o.seconds for o in outcomes])) if outcomes else None,
        megabytes=max(o.bundle_bytes for o in outcomes) / 1e6 if outcomes else None,
        count=len(complete),
    )


def _over(values: Sequence[float]) -> Summary:
    spread = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return Summary(float(np.mean(values)), spread)


def published(figures: dict[str, Any]) -> str:
    """Published figures in words; empty where there are none."""
    parts = []
    for data, own in figures.items():
        if isinstance(own, dict):
            told = ", ".join(f"{name} {value}" for name, value in own.items())
        else:
            told = json.dumps(own)
        parts.append(f"{data}: {told}")
    return "; ".join(parts)


def row(line: Line, machines: Sequence[str]) -> list[str]:
    """The texts of a line: name, each machine, then `HEADINGS`."""
    return [
        title(line.system),
        *(percent(line.machines[machine]) for machine in machines),
        percent_within(line.official),
        percent(line.arithmetic),
        percent(line.harmonic),
        "-" if line.seconds is None else f"{line.seconds:.1f}",
        "-" if line.megabytes is None else f"{line.megabytes:.2f}",
        published(line.system.preset.published) or "-",
    ]


def closing_table(evaluation: Evaluation) -> Table:
    """The table that ends a run."""
    table = Table(title="harmonic mean in per cent, mean ± spread over seeds", title_justify="left")
    table.add_column("system", no_wrap=True)
    for name in (*evaluation.machines, *HEADINGS[:-1]):
        table.add_column(escape(name), justify="right", no_wrap=True)
    for line in lines(evaluation):
        table.add_row(*(escape(text) for text in row(line, evaluation.machines)[:-1]))
    return table


def markdown(evaluation: Evaluation, left: Sequence[NotRun], about: dict[str, Any]) -> str:
    """The page to paste in docs."""
    head = ("system", *evaluation.machines, *HEADINGS)
    rows = [row(line, evaluation.machines) for line in lines(evaluation)]
    seeds = len({seed for system in evaluation.systems for seed in system.seeds})
    spread = f", mean ± standard deviation over {seeds} seeds where training is random"
    parts = [
        f"`{about['command']}`, auscult {about['auscult_version']}, {about['created']}.",
        (
            "Machines: harmonic mean of AUC source, AUC target and pAUC, per cent"
            f"{spread if seeds > 1 else ''}. Official: one "
            "harmonic mean over every area of all machines, with its 95 % bootstrap interval. "
            "Seconds: training, export and scoring of one machine and seed; embeddings that "
            "another preset had computed are taken from the cache. MB: the bundle."
        ),
        _grid(head, rows),
    ]
    if about.get("published"):
        told = about["published"]["cells"]
        parts += ["Beside what the reports published, per cent:", _grid(*_beside(told))]
    if left:
        cells = [
            (one.name, "not run here", ", ".join(one.files), f"`{one.command}`",
             published(one.published) or "-")
            for one in left
        ]  # fmt: skip
        parts.append(_grid(("preset", "", "needs", "command", "published"), cells))
    if evaluation.failures:
        told = [(f.machine, f.system or "all", f.reason) for f in evaluation.failures]
        parts.append(_grid(("failed", "system", "reason"), told))
    return "\n\n".join(parts) + "\n"


def _beside(cells: Sequence[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Published cells and ours as a table: headings and rows."""
    head = ["system", "report", "machine", "figure", "ours", "published", "difference"]

    def number(value: float | None, sign: str = "") -> str:
        return "-" if value is None else f"{value:{sign}.2f}"

    rows = [
        [
            cell["system"],
            f"{cell['report']}, {cell['column']}",
            cell["machine"],
            cell["figure"],
            number(cell["ours"]),
            number(cell["published"]),
            number(cell["difference"], "+"),
        ]
        for cell in cells
    ]
    return head, rows


def _grid(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    texts = [[cell.replace("|", "\\|").replace("\n", " ") for cell in line] for line in rows]
    marks = ["---"] * len(head)
    return "\n".join("| " + " | ".join(line) + " |" for line in (head, marks, *texts))


def benchmark_json(
    evaluation: Evaluation,
    left: Sequence[NotRun],
    about: dict[str, Any],
    machines: Sequence[Machine] = (),
) -> dict[str, Any]:
    """The evaluation as JSON, with means over machines, cost, and what was not run beside it."""
    found = evaluation_json(evaluation, about, machines)
    for line in lines(evaluation):
        found["presets"][line.system.name].update(
            arithmetic_mean=line.arithmetic.mean,
            harmonic_mean=line.harmonic.mean,
            machines_counted=line.count,
            seconds_a_machine=line.seconds,
            bundle_megabytes=line.megabytes,
            published=line.system.preset.published,
        )
    found["not_run"] = [
        {"preset": o.name, "needs": list(o.files), "command": o.command, "published": o.published}
        for o in left
    ]
    return found
