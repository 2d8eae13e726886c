"""The benchmark's page: a heatmap, histograms and ROC curves, worst misses."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from agent.recordings.model import Machine
from agent.report.page import Page
from export.benchmark.summary import HEADINGS, Line, NotRun, lines, published, row
from export.figures import draw_machine
from export.report.beside import show_beside
from export.report.clips import show_decisions, show_ranking
from export.report.misses import show_worst
from export.report.opening import open_with_verdict, show_verdicts
from export.results import Evaluation
from export.wording import percent_within, title

# Recordings of each kind shown of a machine.
_WORST = 2
# A harmonic mean so far from chance has the full colour.
_FULL = 0.3


def write_benchmark(
    evaluation: Evaluation,
    machines: Sequence[Machine],
    left: Sequence[NotRun],
    out: Path,
    *,
    data: str,
    notes: Sequence[str],
    channel: int | None = None,
) -> Path:
    """Write `report.html`, which needs no other file.

    Args:
        evaluation: What was found.
        machines: With their recordings.
        left: Presets that were not run.
        out: Folder to write into.
        data: What was evaluated, for people.
        notes: Remarks on the figures.
        channel: Channel of multi-channel recordings; None averages.

    Returns:
        The page.
    """
    page = Page("auscult benchmark", heading=f"Benchmark on {data}")
    found = lines(evaluation)
    open_with_verdict(page, evaluation, machines)
    show_verdicts(page, evaluation, machines)
    page.heading("Harmonic mean of each machine, per cent")
    page.heatmap(
        ("machine", *(title(line.system) for line in found)),
        [
            [
                (machine, None),
                *(
                    (percent_within(line.machines[machine]), _shade(line.machines[machine].mean))
                    for line in found
                ),
            ]
            for machine in evaluation.machines
        ],
    )
    page.text("In brackets the 95 % bootstrap interval; ± the spread over seeds.", note=True)
    page.heading("Over all machines")
    page.table(("system", *HEADINGS), [_without_machines(line, evaluation) for line in found])
    for note in notes:
        page.text(note, note=True)
    show_beside(page, evaluation, machines)
    if left:
        page.heading("Not run here")
        page.table(
            ("preset", "needs", "command", "published"),
            [(o.name, ", ".join(o.files), o.command, published(o.published)) for o in left],
        )
    if evaluation.failures:
        page.heading("Failed")
        page.table(
            ("machine", "system", "reason"),
            [(f.machine, f.system or "all", f.reason) for f in evaluation.failures],
        )
    for machine in machines:
        _machine(page, evaluation, machine, out, channel)
    return page.write(out / "report.html")


def _without_machines(line: Line, evaluation: Evaluation) -> list[str]:
    texts = row(line, evaluation.machines)
    return [texts[0], *texts[1 + len(evaluation.machines) :]]


def _machine(
    page: Page, evaluation: Evaluation, machine: Machine, out: Path, channel: int | None
) -> None:
    if draw_machine(evaluation, machine.name, out / "figures") is None:
        return
    page.heading(machine.name)
    chosen = evaluation.most_telling(machine.name)
    outcome = next(iter(evaluation.of(chosen, machine.name).values()))
    show_decisions(page, chosen, outcome, scores=len(evaluation.machines) > 1)
    show_worst(page, chosen, outcome, machine, _WORST, channel=channel)
    show_ranking(page, evaluation, machine.name)


def _shade(mean: float | None) -> float | None:
    return None if mean is None else (mean - 0.5) / _FULL
