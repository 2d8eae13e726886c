"""`auscult benchmark`: the results page, repeated on a DCASE download."""

from __future__ import annotations

from pathlib import Path

import click

from agent.commands.options import Written
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
    help="Preset name, or a .yaml; may be given repeatedly. [default: every preset]",
)
@click.option(
    "--seed",
    "seeds",
    multiple=True,
    type=SEEDS,
    default=(0, 1, 2),
    show_default="0, 1, 2",
    help="May be given repeatedly; presets with nothing random in them take the first alone.",
)
@click.option(
    "--out",
    type=Written(file=False),
    default=Path("out/benchmark"),
    show_default=True,
    help="Folder for all results; called again with it, finished cells are not repeated.",
)
@click.option(
    "--key",
    "key_path",
    type=click.Path(path_type=Path),
    help="Answers of an evaluation set: a key file, or the folder of the published ground truth.",
)
@click.option("--compare-float", is_flag=True, help="Also export and score float32 bundles.")
@weights_option
@channel_option
@click.option(
    "--jobs",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Processes on this computer; its processors are divided among them.",
)
@click.option(
    "--ray", "address", metavar="ADDRESS", help="Run on the Ray cluster at this address instead."
)
@click.option(
    "--keep/--discard",
    default=False,
    show_default=True,
    help="Leave runs and bundles in --out/work.",
)
@split_option
@cut_option
@resamples_option
def benchmark(
    data: Path,
    names: tuple[str, ...],
    presets: tuple[str, ...],
    seeds: tuple[int, ...],
    out: Path,
    key_path: Path | None,
    compare_float: bool,
    weights: Path | None,
    channel: int | None,
    jobs: int,
    address: str | None,
    keep: bool,
    split: str,
    cut: str | None,
    resamples: int,
) -> None:
    """Train, export and score presets on every machine of a DCASE download (2020 to 2026).

    Killed anywhere, the same command goes on where it was. Presets whose checkpoint is absent are
    named with the command that runs them. The floors (loudness, log-mel) stand last. Exit code 1
    when something failed.
    """
    import shlex
    import sys
    from datetime import datetime, timezone

    from rich.console import Console
    from rich.markup import escape

    from agent import __version__
    from agent.core.cores import usable_cores
    from agent.core.errors import ConfigError
    from agent.core.progress import busy, progress_bar
    from agent.core.storage import write_atomic, write_json
    from agent.verdict.report import write_csv

    with busy("loading what trains and exports"):
        import export.bundle  # noqa: F401
    from export.benchmark.executor import Executor, Here, Processes, RayCluster, load_ray
    from export.benchmark.report import write_benchmark
    from export.benchmark.run import Settings, run_benchmark
    from export.benchmark.sets import find_benchmark
    from export.benchmark.summary import NotRun, benchmark_json, closing_table, markdown
    from export.benchmark.truth import read_truth
    from export.builder import needs_all
    from export.evaluate import choose_systems
    from export.published import beside, beside_json, beside_table
    from export.report import clips
    from export.results import Precision
    from export.splitting import asked_cut
    from export.tables import decisions_table, headline_line, notes
    from export.verdicts import CSV_HEADINGS, csv_table
    from trainer.defaults import absent_weights
    from trainer.preset_file import load_preset, preset_names

    if address is not None and jobs > 1:
        raise click.UsageError("--jobs and --ray exclude each other.")
    moment = asked_cut(split, cut)
    processors = usable_cores()
    executor: Executor = Here() if jobs == 1 else Processes(jobs)
    if address is not None:
        load_ray()
        executor = RayCluster(address)
    chosen: list[str] = []
    left: list[NotRun] = []
    for name in presets or preset_names():
        preset = load_preset(name)
        files = tuple(absent_weights(preset, weights))
        if files:
            command = f"auscult benchmark {shlex.quote(str(data))} --preset {shlex.quote(name)}"
            left.append(NotRun(preset.name, files, f"{command} --weights FOLDER", preset.published))
        else:
            chosen.append(name)
    precisions: list[Precision] = ["int8", "float32"] if compare_float else ["int8"]
    systems = choose_systems(chosen, seeds, precisions)
    told = Console(stderr=True)
    truth = None if key_path is None else read_truth(key_path)
    with progress_bar(told) as progress:
        found = find_benchmark(
            data,
            names,
            truth=truth,
            cut=moment,
            everyone=any(needs_all(system.preset) for system in systems),
            channel=channel,
            progress=progress,
        )
    for failure in found.failures:
        told.print(f"[red]{escape(failure.machine)}: left out[/red]: {escape(failure.reason)}")
    for machine in found.machines:
        for rejected in machine.rejected:
            told.print(f"left out: {escape(f'{rejected.path}: {rejected.reason}')}")
    if not found.machines:
        raise ConfigError(
            "; ".join(f"{f.machine}: {f.reason}" for f in found.failures),
            where=data,
            remedy="No machine is left to run.",
        )
    out.mkdir(parents=True, exist_ok=True)
    settings = Settings(
        out=out.absolute(),
        weights=None if weights is None else weights.absolute(),
        channel=channel,
        resamples=resamples,
        threads=1 if address is not None else max(1, processors // jobs),
        keep=keep,
    )
    evaluation = run_benchmark(found, systems, settings, executor, told)
    compared, remark = beside(evaluation, found.machines)
    about = {
        "data": str(data),
        "command": shlex.join(["auscult", "benchmark", *sys.argv[2:]]),
        "auscult_version": __version__,
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "bootstrap": {"resamples": resamples, "seed": 0, "level": 0.95},
        **beside_json(compared, remark),
        **found.divided.about(),
    }
    remarks = [*found.divided.notes, *notes(evaluation), *([remark] if remark else [])]
    write_json(out / "results.json", benchmark_json(evaluation, left, about, found.machines))
    write_csv(out / "decisions.csv", CSV_HEADINGS, csv_table(evaluation, found.machines))
    write_csv(out / "clips.csv", clips.CSV_HEADINGS, clips.csv_table(evaluation))
    write_atomic(out / "results.md", markdown(evaluation, left, about).encode())
    with busy("writing the report"):
        write_benchmark(
            evaluation, found.machines, left, out, data=str(data), notes=remarks, channel=channel
        )
    console = Console()
    if not console.is_terminal:
        console.width = max(console.width, 160)
    console.print(closing_table(evaluation))
    console.print(decisions_table(evaluation, found.machines))
    for comparison in compared:
        console.print(beside_table(comparison))
    for one in left:
        console.print(
            f"not run here: {one.name} needs {', '.join(one.files)}: {escape(one.command)}",
            highlight=False,
        )
    for note in remarks:
        console.print(f"note: {escape(note)}", highlight=False)
    for failure in evaluation.failures:
        where = f"{failure.machine}, {failure.system}" if failure.system else failure.machine
        console.print(f"[red]failed[/red]: {escape(f'{where}: {failure.reason}')}")
    console.print(
        f"written to {escape(str(out))}: report.html, results.json, results.md, "
        "decisions.csv, clips.csv",
        highlight=False,
    )
    console.print(headline_line(evaluation, found.machines), highlight=False)
    if evaluation.failures:
        raise click.exceptions.Exit(1)
