"""`auscult train`: recordings of a healthy machine to a run folder."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("data", type=click.Path(path_type=Path))
@click.option(
    "--preset", default="spectral_shape", show_default=True, help="Preset name, or a .yaml."
)
@click.option("--machine", default=None, help="Which machine of DATA; needed when it has several.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Run folder to write.")
@click.option("--seed", default=0, show_default=True, help="Random seed.")
@click.option(
    "--weights",
    type=click.Path(path_type=Path),
    envvar="AUSCULT_WEIGHTS",
    help="Folder of pre-trained checkpoints, or the file itself.",
)
@click.option("--channel", type=int, default=None, help="Channel to read; default: the average.")
@click.option(
    "--on-bad",
    type=click.Choice(["skip", "refuse"]),
    default="skip",
    show_default=True,
    help="What to do with recordings that cannot be used.",
)
def train(
    data: Path,
    preset: str,
    machine: str | None,
    out: Path,
    seed: int,
    weights: Path | None,
    channel: int | None,
    on_bad: str,
) -> None:
    """Learn a healthy machine's sound from the recordings in DATA.

    DATA is a folder with `normal/` (and, if you have them, `idle/`, `noise/`, `test/normal/`,
    `test/anomaly/`), or a DCASE machine folder, or the parent of several.
    """
    from rich.console import Console
    from rich.markup import escape

    from agent.errors import ConfigError
    from trainer.learn import train_machine
    from trainer.preset import load_preset
    from trainer.progress import progress_bar
    from trainer.recordings.load import load_machines
    from trainer.recordings.summary import print_summary
    from trainer.report.training import write_report

    recipe = load_preset(preset)
    console = Console(stderr=True)
    with progress_bar(console) as progress:
        machines = load_machines(
            data,
            (machine,) if machine else (),
            on_bad="refuse" if on_bad == "refuse" else "skip",
            channel=channel,
            progress=progress,
        )
    if len(machines) != 1:
        names = ", ".join(m.name for m in machines)
        raise ConfigError(
            f"holds {len(machines)} machines: {names}",
            where=data,
            remedy="A bundle is for one machine: choose it with --machine.",
        )
    print_summary(machines, console)
    with progress_bar(console) as progress:
        record = train_machine(
            machines[0], recipe, out, seed=seed, weights=weights, channel=channel, progress=progress
        )
    report = write_report(out, record)
    if sum(r.role == "normal" for r in record.recordings) < 2:
        console.print(
            "[yellow]one healthy recording: unless it lasts minutes, export has nothing to compare "
            "it with and finds no threshold. Record the machine more than once[/]"
        )
    if record.classes:
        console.print(f"learnt {record.classes} classes: {escape(record.class_rule)}")
    console.print(f"trained {record.machine} with {recipe.name} in {record.seconds:.0f} s: {out}")
    console.print(f"look and listen: {report}", highlight=False)
    console.print(f"next: auscult export {out} --out {out}-bundle", highlight=False)
