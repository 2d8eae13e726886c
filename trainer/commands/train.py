"""`auscult train`: recordings of a healthy machine to a run folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from agent.commands.options import Written
from agent.core.program import next_command
from agent.core.text import plural, shown
from trainer.commands.options import SEEDS, channel_option, untypical_option, weights_option

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent.recordings.model import Machine


@click.command()
@click.argument("data", type=click.Path(path_type=Path))
@click.option(
    "--preset",
    help="Preset name, or a .yaml; default: auscult_small where its checkpoint is in --weights, "
    "else auscult_scratch, which needs none.",
)
@click.option("--machine", default=None, help="Which machine of DATA; needed when it has several.")
@click.option("--out", required=True, type=Written(), help="Run folder to write.")
@click.option("--seed", type=SEEDS, default=0, show_default=True, help="Random seed.")
@weights_option
@channel_option
@click.option(
    "--on-bad",
    type=click.Choice(["skip", "refuse"]),
    default="skip",
    show_default=True,
    help="What to do with recordings that cannot be used.",
)
@untypical_option
@click.option(
    "--select/--no-select",
    "select",
    default=None,
    help="Choose the scorer (and the encoder, where the preset lists several) for this machine "
    "from its healthy sound; default: where the preset has a `selection`.",
)
@click.option("--resume", is_flag=True, help="Go on where an interrupted training of RUN stopped.")
@click.option("--force", is_flag=True, help="Replace the run, or interrupted training, in --out.")
@click.option(
    "--accelerator",
    type=click.Choice(["auto", "cpu", "cuda"]),
    default="auto",
    show_default=True,
    help="Where to train; auto takes CUDA where there is some.",
)
@click.option(
    "--devices",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Processes on this computer, a device each. Under torchrun its own numbers count.",
)
@click.option(
    "--nodes",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Computers; start more than one through torchrun.",
)
def train(
    data: Path,
    preset: str | None,
    machine: str | None,
    out: Path,
    seed: int,
    weights: Path | None,
    channel: int | None,
    on_bad: str,
    untypical: str,
    select: bool | None,
    resume: bool,
    force: bool,
    accelerator: str,
    devices: int,
    nodes: int,
) -> None:
    """Learn a healthy machine's sound from the recordings in DATA.

    DATA is a folder with `normal/` (and, if you have them, `idle/`, `noise/`, `test/normal/`,
    `test/anomaly/`), or a DCASE machine folder, or the parent of several.
    """
    from rich.console import Console
    from rich.markup import escape

    from agent.calibrate.fit_cache import FitCache
    from agent.core.errors import AuscultError
    from agent.core.fourier import use_scipy
    from agent.core.interrupt import stopped_like_interrupt
    from agent.core.progress import busy, progress_bar
    from agent.core.storage import write_json
    from agent.encode.embedding_cache import EmbeddingCache
    from agent.hygiene.bands import band_note
    from agent.hygiene.examine import Examiner
    from agent.hygiene.facts import FactsCache
    from agent.hygiene.stage import inspect_machine, refuse_untypical
    from agent.hygiene.tell import print_notes
    from agent.learn.rehearsal import DECISIONS
    from agent.recordings.load import load_machines
    from agent.recordings.summary import print_summary
    from agent.verdict.report import rehearsal_json, rehearsal_words

    with busy("loading what trains"):
        import trainer.learn  # noqa: F401
    from trainer.decisions.rehearsal import rehearse
    from trainer.defaults import default_preset
    from trainer.fit.classify import CHECKPOINT
    from trainer.fit.engine import Placement, make_engine, under_torchrun
    from trainer.graph.graph_cache import GraphCache
    from trainer.learn import train_machine
    from trainer.preset_file import load_preset
    from trainer.report.training import write_report
    from trainer.run import load_run, refuse_present
    from trainer.selection.report import selection_table
    from trainer.selection.usual import with_selection

    if resume and force:
        raise click.UsageError("give either --resume or --force")
    if not force:
        refuse_present(out, CHECKPOINT, resume=resume)
    why = ""
    if preset is None:
        preset, why = default_preset(weights)
    recipe = with_selection(load_preset(preset), select)
    fabric = None
    if recipe.training.kind == "classify" or devices * nodes > 1 or under_torchrun():
        # Further processes begin here, each from the top of this command.
        placement = Placement(accelerator=accelerator, devices=devices, nodes=nodes)  # type: ignore[arg-type]
        fabric = make_engine(recipe.training, placement)
        fabric.launch()
    first = fabric is None or fabric.is_global_zero
    console = Console(stderr=True, quiet=not first)
    if why:
        console.print(f"preset {preset} ({escape(why)})", highlight=False)
    everyone = recipe.training.classes.machines == "all"
    use_scipy()
    examiner = Examiner(FactsCache.of_user(), machine)
    with progress_bar(console) as progress:
        machines = load_machines(
            data,
            (machine,) if machine and not everyone and recipe.selection is None else (),
            on_bad="refuse" if on_bad == "refuse" else "skip",
            channel=channel,
            progress=progress,
            inspector=examiner.inspect,
        )
        chosen = _chosen(machines, machine, data)
        others = [other for other in machines if other is not chosen]
        inspection = inspect_machine(
            chosen,
            channel=channel,
            untypical=untypical,  # type: ignore[arg-type]  # click allows no other
            progress=progress,
            known=examiner.measured(channel),
        )
    chosen = inspection.machine
    print_notes(inspection, console, everything=False)
    refuse_untypical(inspection)
    print_summary([chosen, *others], console, window_seconds=recipe.window.seconds)
    if everyone and not others:
        console.print(
            "[yellow]the preset's classes are of all machines, but this one is alone: give the "
            "folder that holds them all, and --machine[/]"
        )
    try:
        with stopped_like_interrupt(), progress_bar(console) as progress:
            record = train_machine(
                chosen,
                recipe,
                out,
                seed=seed,
                weights=weights,
                channel=channel,
                hygiene=inspection.record,
                others=others,
                fabric=fabric,
                resume=resume,
                progress=progress,
            )
    except KeyboardInterrupt:
        if first and (out / CHECKPOINT).is_dir():
            console.print(
                f"stopped; to go on in {escape(shown(out))}: the same command with --resume",
                highlight=False,
            )
        raise
    if not first:
        return
    rehearsal = None
    try:
        record, encoder = load_run(out)
        if record.hygiene is not None and (
            note := band_note(record.hygiene.conditions, encoder.sample_rate, encoder.views)
        ):
            console.print(f"[yellow]bandwidth[/] {escape(note)}", highlight=False)
        with progress_bar(console) as progress:
            rehearsal = rehearse(
                record,
                encoder,
                record.to_machine(),
                progress,
                cache=EmbeddingCache.of_user(),
                graphs=GraphCache.of_user(),
                fits=FitCache.of_user(),
            )
    except AuscultError as fault:
        # The run is whole: that nothing can be said of a threshold is said, and no reason to stop.
        console.print(f"[yellow]no threshold could be tried: {escape(str(fault))}[/]")
    report: Path | None = None
    try:
        with progress_bar(console) as progress:
            task = progress.add_task("writing the report", total=1)
            report = write_report(out, record, inspection, rehearsal)
            progress.advance(task)
    except (OSError, ValueError) as fault:
        # The run is written: a page that fails must not take the training with it.
        console.print(f"[yellow]no report: {escape(str(fault))}[/]", highlight=False)
    if sum(r.role == "normal" for r in record.recordings) < 2:
        console.print(
            "[yellow]one healthy recording: unless it lasts minutes, export has nothing to compare "
            "it with and finds no threshold. Record the machine more than once[/]"
        )
    if record.classes:
        console.print(
            f"learnt {plural(record.classes, 'class', 'classes')}: {escape(record.class_rule)}"
        )
    if record.selection is not None:
        console.print(selection_table(record.selection, console.width))
        console.print(f"chosen: {escape(record.selection.note)}", highlight=False)
    if rehearsal is not None and rehearsal.clips:
        found = rehearsal_json(rehearsal.figures, rehearsal.ruling)
        write_json(out / DECISIONS, found)
        if rehearsal.agreement is not None and rehearsal.agreement.ruined:
            console.print(f"[bold red]{escape(rehearsal.agreement.ruined)}[/]", highlight=False)
        console.print(escape(rehearsal_words(rehearsal.figures)), highlight=False)
        console.print(f"verdict: {escape(rehearsal.ruling.text())}", highlight=False)
    if rehearsal is not None and rehearsal.promised is not None:
        colour = "red" if rehearsal.promised.hollow else "default"
        console.print(f"[{colour}]{escape(rehearsal.promised.words())}[/{colour}]", highlight=False)
    console.print(f"trained {record.machine} with {recipe.name} in {record.seconds:.0f} s: {out}")
    if report is not None:
        console.print(f"look and listen: {report}", highlight=False)
    told = next_command("export", out, "--out", f"{record.machine}.bundle")
    console.print(escape(told), highlight=False, soft_wrap=True)
    if record.best_epochs:
        epochs = ", ".join(map(str, record.best_epochs))
        console.print(
            f"kept the weights of epoch {epochs}, the lowest loss on {len(record.held_out)} "
            "training recordings that were held out"
        )


def _chosen(machines: Sequence[Machine], name: str | None, data: Path) -> Machine:
    """The one machine that is trained."""
    from agent.core.errors import ConfigError

    found = [machine for machine in machines if name is None or machine.name == name]
    if len(found) == 1:
        return found[0]
    names = ", ".join(machine.name for machine in machines)
    if not found:
        raise ConfigError(f"there is no machine '{name}'", where=data, remedy=f"It holds {names}.")
    raise ConfigError(
        f"holds {len(machines)} machines: {names}",
        where=data,
        remedy="A bundle is for one machine: choose it with --machine.",
    )
