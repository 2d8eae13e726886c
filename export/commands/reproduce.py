"""`auscult reproduce`: all systems of one report, ending in that report's own tables."""

from __future__ import annotations

from pathlib import Path

import click

from agent.commands.options import Written
from trainer.commands.options import (
    SEEDS,
    channel_option,
    machines_option,
    resamples_option,
    weights_option,
)


@click.command()
@click.argument("report")
@click.argument("data", type=click.Path(path_type=Path))
@weights_option
@machines_option
@click.option(
    "--seed", "seeds", multiple=True, type=SEEDS, default=(0,), show_default="0",
    help="May be given repeatedly: figures are means over the seeds.",
)  # fmt: skip
@click.option(
    "--out",
    type=Written(file=False),
    help="Folder for everything; called again with it, what is finished is taken up. "
    "[default: out/reproduce-REPORT]",
)
@click.option(
    "--presets",
    "folder",
    metavar="FOLDER",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Files named as presets of the report take their place, e.g. with a smaller encoder.",
)
@click.option(
    "--bundles",
    is_flag=True,
    help="Make a bundle of each ensemble, which holds all its models, in place of weighing "
    "finished scores.",
)
@click.option(
    "--rehearse",
    is_flag=True,
    help="Try the whole path in minutes: tiny encoders of random values (no --weights), few "
    "epochs, windows of two seconds; everything that is shortened is printed.",
)
@click.option(
    "--epochs",
    type=click.IntRange(min=1),
    help="Epochs of a rehearsal's trainings. [default: 2]",
)
@click.option(
    "--made-up",
    is_flag=True,
    help="Rehearse on a made-up set in the challenge's layout, written to DATA where nothing is.",
)
@click.option("--float", "as_float", is_flag=True, help="Float32 bundles in place of INT8 ones.")
@channel_option
@click.option(
    "--keep/--discard", default=True, show_default=True,
    help="Leave runs and bundles in --out/work.",
)  # fmt: skip
@resamples_option
def reproduce(
    report: str,
    data: Path,
    weights: Path | None,
    names: tuple[str, ...],
    seeds: tuple[int, ...],
    out: Path | None,
    folder: Path | None,
    bundles: bool,
    rehearse: bool,
    epochs: int | None,
    made_up: bool,
    as_float: bool,
    channel: int | None,
    keep: bool,
    resamples: int,
) -> None:
    """Train, export and score every system of REPORT (000 to 004) on a DCASE 2025 download.

    DATA holds the development set, and the additional training set where there is one: its
    machines are learnt from where a preset's classes are of all machines. Killed anywhere, the same
    command goes on where it was. It ends in the report's own tables, ours beside the published
    figures. Exit code 1 when something failed.
    """
    import json
    import shutil
    from dataclasses import replace
    from datetime import datetime, timezone

    from rich.console import Console
    from rich.markup import escape

    from agent import __version__
    from agent.calibrate.fit_cache import FitCache
    from agent.core.errors import ConfigError
    from agent.core.progress import progress_bar
    from agent.core.storage import write_atomic
    from agent.encode.embedding_cache import EmbeddingCache
    from export.builder import BundleBuilder
    from export.evaluate import Options
    from export.published import beside_json
    from export.reproduce.data import find_material
    from export.reproduce.plan import plan as plan_report
    from export.reproduce.rehearse import REMARK, Rehearsal, make_up
    from export.reproduce.run import reproduce as run
    from export.reproduce.run import systems_of
    from export.reproduce.tables import comparisons, markdown, report_tables, weighed_json
    from export.results_json import evaluation_json
    from export.tables import notes, results_tables
    from trainer.defaults import absent_weights
    from trainer.graph.graph_cache import GraphCache

    if (made_up or epochs is not None) and not rehearse:
        raise click.UsageError("--made-up and --epochs are of a rehearsal: give --rehearse.")
    rehearsal = None
    if rehearse:
        rehearsal = Rehearsal() if epochs is None else Rehearsal(epochs=epochs)
    plan = plan_report(report, presets=folder, bundles=bundles, rehearsal=rehearsal)
    absent = {
        preset.name: files for preset in plan.trained if (files := absent_weights(preset, weights))
    }
    if absent:
        files = sorted({name for own in absent.values() for name in own})
        raise ConfigError(
            f"report {plan.number} needs checkpoints that are not there: {', '.join(files)} "
            f"(for {', '.join(absent)})",
            where="--weights" if weights is None else weights,
            remedy="`auscult pretrained list` says where they are.",
        )
    what = "rehearse" if rehearse else "reproduce"
    out = out or Path("out") / f"{what}-{plan.number}"
    out.mkdir(parents=True, exist_ok=True)
    told = Console(stderr=True)
    for line in plan.shortened:
        told.print(f"shortened: {escape(line)}", highlight=False, soft_wrap=True)
    if rehearsal is not None and made_up:
        fresh = make_up(data, rehearsal)
        told.print(
            f"{escape(str(data))}: {'made up now' if fresh else 'there already, taken as it is'}",
            highlight=False,
        )
    with progress_bar(told) as progress:
        material = find_material(data, names, channel=channel, progress=progress)
    for line in material.notes:
        told.print(f"note: {escape(line)}", highlight=False)
    systems = systems_of(plan, seeds, "float32" if as_float else "int8")
    workshop = BundleBuilder(
        out / "work",
        weights=weights,
        channel=channel,
        reuse=True,
        machines=material.everyone,
        cache=EmbeddingCache.of_user(),
        graphs=GraphCache(out / "work" / "graphs"),
        frozen=GraphCache.of_user(),
        fits=FitCache.of_user(),
    )
    started = datetime.now(timezone.utc)
    found = run(plan, material.tested, systems, workshop, Options(out, channel, resamples), told)
    compared = comparisons(plan, found, material.alike)
    remarks = [*material.notes, *notes(found.evaluation), *plan.report.notes]
    if rehearse:
        remarks.insert(0, REMARK)
    about = {
        "report": plan.number,
        "data": str(data),
        "shortened": list(plan.shortened),
        "auscult_version": __version__,
        "created": started.isoformat(timespec="seconds"),
        "bootstrap": {"resamples": resamples, "seed": 0, "level": 0.95},
        "weighed": weighed_json(found),
        **beside_json(compared, "; ".join(material.notes)),
    }
    own = replace(found.evaluation, systems=tuple(systems))
    results = evaluation_json(own, about, material.tested)
    text = json.dumps(results, indent=2, allow_nan=False) + "\n"
    write_atomic(out / "results.json", text.encode())
    write_atomic(out / "report.md", markdown(plan, compared, remarks).encode())
    if not keep:
        shutil.rmtree(workshop.folder, ignore_errors=True)

    console = Console()
    console.width = console.width if console.is_terminal else max(console.width, 220)
    for table in results_tables(found.evaluation, console.width):
        console.print(table)
    for table in report_tables(plan, compared):
        console.print(table)
    for entry in weighed_json(found):
        if entry["searched_for"]:
            shares = ", ".join(f"{name} {weight:g}" for name, weight in entry["weights"].items())
            console.print(
                f"{entry['system']}: {shares}, searched for {entry['searched_for']} on the very "
                "clips that are judged, as the report does",
                highlight=False,
            )
    for note in remarks:
        console.print(f"note: {escape(note)}", highlight=False)
    for failure in found.evaluation.failures:
        console.print(
            f"[red]failed[/red]: {escape(f'{failure.machine}, {failure.system}: {failure.reason}')}"
        )
    console.print(
        f"written to {escape(str(out))}: report.md, results.json, scores/"
        + (", work/ (runs and bundles)" if keep else ""),
        highlight=False,
    )
    if found.evaluation.failures:
        raise click.exceptions.Exit(1)
