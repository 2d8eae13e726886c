"""`auscult pretrained`: what checkpoints there are, whether a file is one, and how to get it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from agent.commands.options import Written, json_option

if TYPE_CHECKING:
    from trainer.zoo.catalogue import Published


@click.group()
def pretrained() -> None:
    """Pre-trained checkpoints: list them, check a file, fetch one."""


@pretrained.command("list")
@json_option("It")
def list_(json_path: Path | None) -> None:
    """List the published checkpoints: encoder, licence, length, source."""
    from dataclasses import asdict
    from itertools import groupby

    from rich.console import Console
    from rich.table import Table

    from trainer.zoo.catalogue import CATALOGUE

    console = Console()
    for family, entries in groupby(CATALOGUE, key=lambda entry: entry.family):
        rows = list(entries)
        first = rows[0]
        by_hand = "" if first.url else "; to be downloaded by hand"
        licence = f"{first.licence}{by_hand}"
        console.print(f"[bold]{family}[/bold]: {licence}; {first.page}", soft_wrap=True)
        table = Table.grid(padding=(0, 2))
        table.add_column(no_wrap=True, min_width=max(len(entry.name) for entry in rows) + 2)
        for entry in rows:
            table.add_row(f"  {entry.name}", entry.size, f"{entry.megabytes} MB")
        console.print(table)
    console.print(
        "\nLengths follow from the number of values. Presets name a checkpoint as encoder.weights; "
        "put it in the folder given by --weights or AUSCULT_WEIGHTS."
    )
    if json_path:
        data = {"checkpoints": [{**asdict(e), "megabytes": e.megabytes} for e in CATALOGUE]}
        json_path.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")


@pretrained.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@json_option("It")
def check(files: tuple[Path, ...], json_path: Path | None) -> None:
    """Say what FILES are, and whether each is whole. Ends with 1 when one is not.

    Every tensor's name, shape and values are looked at. Nothing a file holds is ever run.
    """
    found = [_inspect_or_tell(file) for file in files]
    if json_path:
        json_path.write_text(json.dumps({"files": found}, indent=1) + "\n", encoding="utf-8")
    if not all(entry["whole"] for entry in found):
        sys.exit(1)


@pretrained.command()
@click.argument("name")
@click.option(
    "--to",
    "folder",
    required=True,
    envvar="AUSCULT_WEIGHTS",
    type=Written(file=False),
    help="Folder of checkpoints.",
)
@click.option("--url", default="", help="Take it from here instead of from its authors.")
@click.option(
    "--accept-licence", is_flag=True, help="You have read the weights' licence and accept it."
)
def fetch(name: str, folder: Path, url: str, accept_licence: bool) -> None:
    """Download the checkpoint NAME (see `list`), continuing where an earlier try broke off."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    from agent.core.errors import ConfigError
    from trainer.zoo import fetch as fetching
    from trainer.zoo.catalogue import CATALOGUE, find

    entry = find(name)
    if entry is None:
        raise ConfigError(
            f"there is no checkpoint '{name}'",
            remedy=f"Choose one of {', '.join(e.name for e in CATALOGUE)}.",
        )
    _agree(entry, accept_licence)
    target = folder / entry.file
    if target.is_file():
        click.echo(f"{target} is there already.")
    else:
        console = Console(stderr=True)
        with Progress(
            TextColumn(entry.name),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        ) as progress:
            task = progress.add_task(entry.name, total=None)
            target = fetching.fetch(
                entry,
                folder,
                url=url,
                watch=lambda have, total: progress.update(task, completed=have, total=total),
            )
    if not _inspect(target)["whole"]:
        sys.exit(1)


def _agree(entry: Published, accepted: bool) -> None:
    """Show the terms of weights that aren't free, and have them accepted."""
    from agent.core.errors import ConfigError
    from trainer.zoo.families import FAMILIES

    family = FAMILIES.get(entry.family)
    terms = family.terms if family else ""
    click.echo(f"Licence of {entry.name}: {entry.licence} ({entry.page})")
    if not terms:
        return
    click.echo(terms)
    if accepted:
        return
    if not sys.stdin.isatty():
        raise ConfigError(
            f"the licence of {entry.name} must be accepted before it is downloaded",
            remedy="Read it, then give --accept-licence.",
        )
    click.confirm("Have you read it, and do you accept it?", abort=True)


def _inspect_or_tell(file: Path) -> dict[str, Any]:
    """Check one of several files: one that can't be read must not hide the others."""
    from agent.core.errors import AuscultError

    try:
        return _inspect(file)
    except AuscultError as fault:
        click.echo(str(fault), err=True)
        return {"file": str(file), "whole": False, "faults": [fault.problem]}


def _inspect(file: Path) -> dict[str, Any]:
    """Check one file and tell what was found."""
    from agent.bundle.seal import file_record
    from trainer.zoo.checkpoints import read_checkpoint
    from trainer.zoo.fetch import recorded
    from trainer.zoo.identify import check as check_checkpoint

    known = recorded(file)
    if known and file.is_file() and (digest := file_record(file).sha256) != known:
        click.echo(f"{file}: HAS CHANGED since it was downloaded")
        fault = f"its SHA-256 is {digest}, but {known} was recorded when it was downloaded"
        click.echo(f"  {fault}. Fetch it again.")
        return {"file": str(file), "whole": False, "faults": [fault]}
    checkpoint = read_checkpoint(file)
    if "features.0.0.weight" in checkpoint.tensors:
        return _inspect_mn04(file, len(checkpoint.tensors))
    report = check_checkpoint(checkpoint)
    identity = report.identity
    click.echo(f"{file}: {identity.family.title} {identity.size or '(no published size)'}")
    click.echo(
        f"  {report.tensors} tensors ({report.layout}, {', '.join(report.dtypes)}), "
        f"{report.parameters:,} values used, {len(report.ignored)} tensors not needed"
    )
    if identity.family.terms:
        click.echo(f"  {identity.family.terms}")
    for fault in report.faults:
        click.echo(f"  NOT WHOLE: {fault}")
    if report.unknown:
        click.echo(f"  {len(report.unknown)} tensors of unknown purpose: {report.unknown[0]}...")
    if not report.faults:
        click.echo("  whole: no tensor missing, none of another shape, all finite")
    click.echo(
        f"  SHA-256 {report.sha256}"
        + (", as when it was downloaded" if known else " (none known to compare it with)")
    )
    return {
        "file": str(file),
        "whole": not report.faults,
        "faults": list(report.faults),
        "encoder": identity.family.name,
        "size": identity.size,
        "layout": report.layout,
        "tensors": report.tensors,
        "values": report.parameters,
        "not_needed": list(report.ignored),
        "unknown": list(report.unknown),
        "sha256": report.sha256,
    }


def _inspect_mn04(file: Path, tensors: int) -> dict[str, Any]:
    """What a file of EfficientAT's mn04 holds; its own reader checks every tensor."""
    from agent.bundle.seal import file_record
    from trainer.encoders.mn04 import Mn04
    from trainer.zoo.catalogue import find

    Mn04(window_seconds=10.0).load_published(file)
    digest, entry = file_record(file).sha256, find("mn04_as_mAP_432")
    assert entry is not None
    same = "the published one" if digest == entry.sha256 else "not the published one's"
    click.echo(f"{file}: EfficientAT mn04\n  {tensors} tensors, whole\n  SHA-256 {digest}, {same}")
    return {
        "file": str(file),
        "whole": True,
        "faults": [],
        "encoder": "mn04",
        "size": "",
        "tensors": tensors,
        "sha256": digest,
    }
