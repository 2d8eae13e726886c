"""`auscult backup`: a device's work as one file."""

from __future__ import annotations

from pathlib import Path

import click

from agent.commands.options import Written, config_option


@click.command(short_help="Save a device's work (state, key, grown banks, answers) to a file.")
@click.argument("target", metavar="FILE", type=Written(folder=False))
@config_option()
@click.option(
    "--with-sound",
    is_flag=True,
    help="Recorded sound too: evidence's clips, and collected recordings.",
)
def backup(target: Path, config_path: Path, *, with_sound: bool) -> None:
    """Save what a device has learnt to FILE (tar.gz), also while its agent runs.

    In it are the configuration, alarms as they stand, events not yet delivered, the past, what
    people answered, baselines, bundles, grown banks and the device's key: keep FILE as you keep
    keys. Recorded sound is left out unless asked for. `auscult restore` puts it on a new device.
    """
    from rich.console import Console

    from agent.backup.save import save
    from agent.config.agent import load_config

    config = load_config(config_path)
    with Console(stderr=True).status("saving") as status:
        saved = save(
            config,
            config_path,
            target,
            sound=with_sound,
            progress=lambda name: status.update(f"saving {name}"),
        )
    click.echo(f"{target}: {saved.files} files, {saved.size / 1e6:.1f} MB before compression")
    if saved.left:
        click.echo(f"{saved.left} files of recorded sound are left out (--with-sound)")
    if saved.key:
        click.echo("It holds this device's private key: keep it as you keep keys.")
