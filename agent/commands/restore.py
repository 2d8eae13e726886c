"""`auscult restore`: a dead device's work on a new one."""

from __future__ import annotations

from pathlib import Path

import click

from agent.commands.options import config_option


@click.command(short_help="Put a backup in place, on this device or a new one.")
@click.argument("archive", metavar="FILE", type=click.Path(path_type=Path, exists=True))
@config_option("The agent's configuration; the backup's is put there if there is none.")
@click.option(
    "--force",
    is_flag=True,
    help="Do so though the state holds something: that is moved aside within it.",
)
def restore(archive: Path, config_path: Path, *, force: bool) -> None:
    """Put what `auscult backup` has saved in FILE in place. Stop the agent first.

    FILE is checked as a whole before anything is touched. Bundles that are there already are left
    as they are. Secrets (broker's and page's passwords, certificates) are in no backup.
    """
    from agent.backup.restore import restore as put_back
    from agent.core.program import next_command
    from agent.core.progress import busy

    with busy("checking it, and putting it back"):
        done = put_back(archive, config_path, force=force)
    manifest = done.manifest
    click.echo(
        f"{done.config.state_path}: {len(manifest.files)} files of {manifest.device}, "
        f"saved {manifest.created} by auscult {manifest.auscult_version}"
    )
    if done.wrote_config:
        click.echo(f"{config_path}: written, as there was none")
    if done.before is not None:
        click.echo(f"what was there before is in {done.before}")
    for bundle in done.kept:
        click.echo(f"{bundle}: left as it is")
    if manifest.device != done.config.device_name:
        click.echo(
            f"This device is called {done.config.device_name}, the other was {manifest.device}: "
            "set `device` to keep its topics and its past."
        )
    click.echo("Put passwords and certificates in place, then look whether all is well.")
    click.echo(next_command("doctor", "--config", config_path))
