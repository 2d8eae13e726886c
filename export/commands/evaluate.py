"""`auscult evaluate`: presets compared on recordings whose answers are known."""

from __future__ import annotations

from pathlib import Path

import click

from agent.commands.options import Written, json_option
from trainer.commands.options import (
    SEEDS,
    channel_option,
    cut_option,
    machines_option,
    resamples_option,
    split_option,
    weights_option,
)


@click.command()
@click.argument("data", type=click.Path(path_type=Path))
@machines_option
@click.option(
    "--preset",
    "presets",
    multiple=True,
    help="Preset name, or a .yaml; repeat it to set several side by side. Default, as of `train`: "
    "auscult_small where its checkpoint is in --weights, else auscult_scratch, which needs none.",
)
@click.option(
    "--seed",
    "seeds",
    multiple=True,
    type=SEEDS,
    default=(0,),
    show_default="0",
    help="Repeat it to train with several seeds: the table shows mean and standard deviation.",
)
@json_option("The results")
@click.option(
    "--out",
    type=Written(file=False),
    help="Folder for report.html, results.json, score files, pictures, runs and bundles. "
    "[default: out/evaluate-<date and time>]",
)
@click.option(
    "--float", "as_float", is_flag=True, help="Export float32 bundles in place of INT8 ones."
)
@click.option(
    "--compare-float", is_flag=True, help="Show the INT8 and the float32 bundle side by side."
)
@weights_option
@channel_option
@click.option(
    "--reuse",
    is_flag=True,
    help="Take up runs and bundles in --out made from the same inputs by the same version.",
)
@click.option(
    "--keep/--discard",
    default=True,
    show_default=True,
    help="Leave runs and bundles in --out/work.",
)
@split_option
@cut_option
@resamples_option
def evaluate(
    data: Path,
    names: tuple[str, ...],
    presets: tuple[str, ...],
    seeds: tuple[int, ...],
    json_path: Path | None,
    out: Path | None,
    as_float: bool,
    compare_float: bool,
    weights: Path | None,
    channel: int | None,
    reuse: bool,
    keep: bool,
    split: str,
    cut: str | None,
    resamples: int,
) -> None:
    """Train, export and score presets on the machines in DATA, as DCASE Task 2 does.

    Prints a machine a row: AUC of the source and the target domain, pAUC, their harmonic mean and
    its 95 % interval, in per cent; in the last row the official score over all machines. The
    floors (loudness, log-mel) stand last in every table: what does not beat them has learnt
    nothing. A second table says what each threshold does: faults found, false alarms, a verdict.
    Exit code 1 when a machine failed.
    """
    import json
    import shutil
    from datetime import datetime, timezone

    from rich.console import Console
    from rich.markup import escape

    from agent import __version__
    from agent.calibrate.fit_cache import FitCache
    from agent.core.errors import AuscultError, ConfigError
    from agent.core.fourier import use_scipy
    from agent.core.progress import busy, progress_bar
    from agent.encode.embedding_cache import EmbeddingCache
    from agent.hygiene.examine import Examiner
    from agent.hygiene.facts import FactsCache
    from agent.hygiene.stage import inspect_machine
    from agent.hygiene.tell import print_notes
    from agent.recordings.load import find_machines, load_machines
    from agent.verdict.report import write_csv

    with busy("loading what trains and exports"):
        import export.bundle  # noqa: F401
    from export.builder import BundleBuilder, needs_all
    from export.evaluate import Options, choose_systems
    from export.evaluate import evaluate as run
    from export.published import beside, beside_json, beside_table
    from export.report import clips
    from export.report.evaluation import write_report
    from export.results import Precision
    from export.results_json import evaluation_json
    from export.splitting import asked_cut, divide
    from export.tables import decisions_table, headline_line, notes, results_tables
    from export.verdicts import CSV_HEADINGS, csv_table
    from trainer.defaults import default_preset
    from trainer.graph.graph_cache import GraphCache

    if as_float and compare_float:
        raise click.UsageError("--float and --compare-float exclude each other.")
    if reuse and out is None:
        raise click.UsageError("--reuse needs --out: the folder whose runs are to be taken up.")
    moment = asked_cut(split, cut)
    precisions: list[Precision] = ["float32"] if as_float else ["int8"]
    if compare_float:
        precisions.append("float32")
    told = Console(stderr=True)
    if not presets:
        preset, why = default_preset(weights)
        told.print(f"preset {preset} ({escape(why)})", highlight=False)
        presets = (preset,)
    systems = choose_systems(presets, seeds, precisions)
    started = datetime.now(timezone.utc)
    out = out or Path("out") / f"evaluate-{started.astimezone():%Y%m%d-%H%M%S}"
    with progress_bar(told) as progress:
        use_scipy()
        examiner = Examiner(FactsCache.of_user())
        machines = load_machines(
            data, names, channel=channel, progress=progress, inspector=examiner.inspect
        )
        known = examiner.measured(channel)
        inspections = [
            inspect_machine(one, channel=channel, untypical="keep", progress=progress, known=known)
            for one in machines
        ]
        # Not tested, but learnt from where a preset's classes are of all machines.
        others = []
        if any(needs_all(system.preset) for system in systems):
            for name in sorted(set(find_machines(data)) - {one.name for one in machines}):
                try:
                    others += load_machines(data, [name], channel=channel, progress=progress)
                except AuscultError as fault:  # noqa: PERF203 - one machine must not end it
                    told.print(f"not learnt from: {escape(str(fault))}", highlight=False)
    machines = [one.machine for one in inspections]
    for one in inspections:
        print_notes(one, told, everything=False)
    if not machines:
        raise ConfigError("holds no machine", where=data, remedy="Give a folder of recordings.")
    for machine in machines:
        for rejected in machine.rejected:
            told.print(f"left out: {escape(f'{rejected.path}: {rejected.reason}')}")
    divided = divide(machines, moment)
    machines = divided.machines
    for line in divided.notes:
        told.print(escape(line), highlight=False)
    workshop = BundleBuilder(
        out / "work",
        weights=weights,
        channel=channel,
        reuse=reuse,
        machines=(*machines, *others),
        cache=EmbeddingCache.of_user(),
        frozen=GraphCache.of_user(),
        fits=FitCache.of_user(),
        hygiene={one.machine.name: one.record for one in inspections},
    )
    found = run(machines, systems, workshop, Options(out, channel, resamples), told)
    found.failures.extend(divided.failures)
    compared, remark = beside(found, machines)
    remarks = [*divided.notes, *notes(found), *([remark] if remark else [])]

    about = {
        "data": str(data),
        "auscult_version": __version__,
        "created": started.isoformat(timespec="seconds"),
        "bootstrap": {"resamples": resamples, "seed": 0, "level": 0.95},
        **beside_json(compared, remark),
        **divided.about(),
    }
    text = json.dumps(evaluation_json(found, about, machines), indent=2, allow_nan=False) + "\n"
    for path in (out / "results.json", json_path):
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    write_csv(out / "decisions.csv", CSV_HEADINGS, csv_table(found, machines))
    write_csv(out / "clips.csv", clips.CSV_HEADINGS, clips.csv_table(found))
    with progress_bar(told) as progress:
        report = write_report(
            found,
            machines,
            workshop,
            out,
            data=str(data),
            notes=remarks,
            channel=channel,
            progress=progress,
        )
    if not keep:
        shutil.rmtree(workshop.folder, ignore_errors=True)

    console = Console()
    width = console.width if console.is_terminal else max(console.width, 160)
    console.width = width
    for table in results_tables(found, width):
        console.print(table)
    console.print(decisions_table(found, machines))
    for comparison in compared:
        console.print(beside_table(comparison))
    for note in remarks:
        console.print(f"note: {escape(note)}", highlight=False)
    for failure in found.failures:
        where = f"{failure.machine}, {failure.system}" if failure.system else failure.machine
        console.print(f"[red]failed[/red]: {escape(f'{where}: {failure.reason}')}")
    console.print(
        f"written to {escape(str(out))}: {report.name}, results.json, decisions.csv, "
        "clips.csv, scores/, figures/",
        highlight=False,
    )
    console.print(headline_line(found, machines), highlight=False)
    if found.failures:
        raise click.exceptions.Exit(1)
