"""`auscult inspect`: are these recordings fit to be learnt from?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from agent.commands.options import Written
from agent.core.program import next_command
from trainer.commands.options import channel_option, machines_option

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent.hygiene.stage import Inspection


@click.command(short_help="Check recordings before training.")
@click.argument("data", type=click.Path(path_type=Path))
@machines_option
@channel_option
@click.option(
    "--out",
    type=Written(file=False),
    help="Folder for inspect.html, inspect.json, inspect.csv.  [default: inspect-<name of DATA>]",
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

    from agent.core.fourier import use_scipy
    from agent.core.progress import progress_bar
    from agent.core.storage import write_json
    from agent.hygiene.examine import Examiner
    from agent.hygiene.facts import FactsCache
    from agent.hygiene.stage import inspect_machine
    from agent.hygiene.tell import print_notes
    from agent.recordings.load import load_machines
    from agent.recordings.summary import print_summary
    from agent.report.machine import COLUMNS, csv_rows, heard_of
    from agent.verdict.report import write_csv
    from trainer.hygiene.page import write_page

    use_scipy()
    console = Console()
    console.width = console.width if console.is_terminal else max(console.width, 120)
    with progress_bar(Console(stderr=True)) as progress:
        examiner = Examiner(FactsCache.of_user())
        machines = load_machines(
            data, names, channel=channel, progress=progress, inspector=examiner.inspect
        )
        known = examiner.measured(channel)
        found = [
            inspect_machine(machine, channel=channel, progress=progress, known=known)
            for machine in machines
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
    write_csv(
        out / "inspect.csv",
        ("machine", *COLUMNS),
        [
            [one.machine.name, *row]
            for one in found
            for row in csv_rows(heard_of(one, None), one, None)
        ],
    )
    console.print(f"look and listen: {escape(str(page))}", highlight=False, soft_wrap=True)
    serious = any(note.serious for one in found for note in one.record.notes)
    refused = any(one.refused for one in found)
    console.print(escape(_next(data, found, refused=refused)), highlight=False, soft_wrap=True)
    if refused or (strict and serious):
        raise click.exceptions.Exit(1)


def _next(data: Path, found: Sequence[Inspection], *, refused: bool) -> str:
    """What to type next: training, and what becomes of the recordings that it would refuse."""
    words: list[object] = ["train", data]
    if len(found) > 1:
        words += ["--machine", found[0].machine.name]
    if refused:
        words += ["--untypical", "leave-out"]
    name = found[0].machine.name if found else "machine"
    return next_command(*words, "--out", f"runs/{name}")
