"""The report of an evaluation: figures, pictures, embeddings, and the worst misses to listen to."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.progress import Progress

from agent.core.progress import stage
from agent.recordings.model import Machine
from agent.report.charts import loss_chart
from agent.report.page import Page
from export.builder import BundleBuilder
from export.figures import draw_machine
from export.report.beside import show_beside
from export.report.clips import show_decisions, show_ranking, show_table
from export.report.embedding_map import map_of
from export.report.misses import show_worst
from export.report.opening import open_with_verdict, show_verdicts
from export.results import Evaluation
from export.verdicts import candidate
from export.wording import bounds, percent, percent_within
from trainer.metrics.report import HEADINGS
from trainer.metrics.summary import FIGURES
from trainer.run import load_record

# Recordings of each kind shown for each machine.
_WORST = 3


def write_report(
    evaluation: Evaluation,
    machines: Sequence[Machine],
    workshop: BundleBuilder,
    out: Path,
    *,
    data: str,
    notes: Sequence[str] = (),
    channel: int | None = None,
    progress: Progress | None = None,
) -> Path:
    """Write `report.html` and `figures/<machine>.png`.

    Args:
        evaluation: What was found.
        machines: With their recordings.
        workshop: Holds the runs and bundles still.
        out: Folder to write into.
        data: What was evaluated, for people.
        notes: Remarks from the table.
        channel: Channel of multi-channel recordings; None averages.
        progress: Where to show progress.

    Returns:
        The page.
    """
    page = Page("auscult evaluate", heading=f"How well {data} is judged")
    best = candidate(evaluation)
    open_with_verdict(page, evaluation, machines)
    total = evaluation.official(best)
    if total.mean is not None:
        page.text(
            f"{best.name} ranks with an official score of {percent_within(total)} over "
            f"{len(evaluation.complete(best))} of {len(evaluation.machines)} machines "
            "(50 is chance)."
        )
    if not evaluation.beats_floors(best):
        page.text("No system beats the floors: what was trained has learnt nothing of use here.")
    show_verdicts(page, evaluation, machines)
    page.heading("All figures, in per cent")
    page.table(*_overview(evaluation))
    for note in notes:
        page.text(note, note=True)
    advance = stage(progress, "writing the report", len(machines))
    for machine in machines:
        _machine(page, evaluation, machine, workshop, out, channel)
        advance()
    show_beside(page, evaluation, machines)
    if evaluation.failures:
        page.heading("Failed")
        page.table(
            ("machine", "system", "reason"),
            [(f.machine, f.system or "all", f.reason) for f in evaluation.failures],
        )
    page.text("The same for programs: results.json, decisions.csv, clips.csv.", note=True)
    return page.write(out / "report.html")


def _overview(evaluation: Evaluation) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    headings = (
        "system", "machine", *HEADINGS.values(), "harmonic mean", "95 % interval"
    )  # fmt: skip
    rows: list[tuple[str, ...]] = []
    for system in evaluation.systems:
        name = f"{system.name} (floor)" if system.preset.floor else system.name
        for machine in evaluation.complete(system):
            figures = [evaluation.figure(system, machine, key) for key in FIGURES]
            rows.append((name, machine, *map(percent, figures), bounds(figures[-1]) or "-"))
        total = evaluation.official(system)
        rows.append(
            (name, "official score", *[""] * len(HEADINGS), percent(total), bounds(total) or "-")
        )
    return headings, rows


def _machine(
    page: Page,
    evaluation: Evaluation,
    machine: Machine,
    workshop: BundleBuilder,
    out: Path,
    channel: int | None,
) -> None:
    if draw_machine(evaluation, machine.name, out / "figures") is None:
        return
    page.heading(machine.name)
    system = evaluation.most_telling(machine.name)
    seed, outcome = next(iter(evaluation.of(system, machine.name).items()))
    show_decisions(page, system, outcome, scores=len(evaluation.machines) > 1)
    show_worst(page, system, outcome, machine, _WORST, channel=channel)
    show_table(page, outcome)
    show_ranking(page, evaluation, machine.name)
    place = workshop.place(machine, system, seed)
    curve = load_record(place / "run").losses
    if curve:
        page.chart(
            f"Mean loss of each epoch of {system.name}, seed {seed}",
            loss_chart(curve),
            size="small",
        )
    found = map_of(place / f"bundle-{system.precision}", machine, channel=channel)
    if found is not None:
        page.chart(
            f"Embeddings of {system.name} on their principal plane, which holds "
            f"{100 * found.share:.0f} % of their variance",
            found.chart,
            size="tall",
        )
