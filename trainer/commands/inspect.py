"""`auscult inspect`: are these recordings fit to be learnt from?"""

from __future__ import annotations

from pathlib import Path

import click

from trainer.commands.options import channel_option, machines_option


@click.command(short_help="Check recordings before training.")
@click.argument("data", type=click.Path(path_type=Path))
@machines_option
@channel_option
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder for inspect.html and inspect.json.  [default: inspect-<name of DATA>]",
)
@click.option(
    "--strict",
    is_flag=True,
    help="End with code 1 also for mixtures and duplicates, not only for untypical recordings.",
)
def inspect(
    data: Path, names: tuple[str, ...], channel: int | None, out: Path | None, strict: bool
) -> None:
    """Say of the recordings in DATA what would make a detector worthless, before any training.

    Duplicates, recordings unlike all others, mixtures of rates, bandwidths, codecs and channels,
    dead or cancelling channels, levels, and what is missing to promise what. Writes a page with
    the most untypical recordings to listen to. `auscult train` checks the same. Ends with code 1
    when training would refuse.
    """
    from rich.console import Console
    from rich.markup import escape

    from agent.core.progress import progress_bar
    from agent.core.storage import write_json
    from agent.hygiene.stage import inspect_machine
    from agent.hygiene.tell import print_notes
    from agent.recordings.load import load_machines
    from agent.recordings.summary import print_summary
    from trainer.hygiene.page import write_page

    console = Console()
    console.width = console.width if console.is_terminal else max(console.width, 120)
    with progress_bar(Console(stderr=True)) as progress:
        machines = load_machines(data, names, channel=channel, progress=progress)
        found = [
            inspect_machine(machine, channel=channel, progress=progress) for machine in machines
        ]
    print_summary([one.machine for one in found], console)
    for one in found:
        print_notes(one, console, everything=True)
    out = out or Path(f"inspect-{data.absolute().name}")
    page = write_page(found, out / "inspect.html", channel)
    write_json(
        out / "inspect.json",
        {
            one.machine.name: {
                **one.record.model_dump(mode="json"),
                "left_out": {
                    path.path.relative_to(one.machine.root).as_posix(): path.reason
                    for path in one.machine.rejected
                },
            }
            for one in found
        },
    )
    console.print(f"look and listen: {escape(str(page))}", highlight=False, soft_wrap=True)
    serious = any(note.serious for one in found for note in one.record.notes)
    if any(one.refused for one in found) or (strict and serious):
        raise click.exceptions.Exit(1)
