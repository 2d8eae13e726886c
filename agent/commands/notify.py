"""`auscult notify`: sends a test message to each address that is notified of alarms."""

from __future__ import annotations

from pathlib import Path

import click

from agent.commands.options import config_option


@click.command(short_help="Send a test message to everybody who is notified.")
@config_option()
@click.option("--check", is_flag=True, help="Only see whether the addresses can be understood.")
def notify(config_path: Path, *, check: bool) -> None:
    """Send a test message to each address of `notify`, those of its escalation too.

    Says for each whether it went out, and ends with 1 when one did not. Addresses are named by file
    and line, since they hold passwords.
    """
    from agent.config.agent import load_config
    from agent.core.errors import ConfigError
    from agent.core.progress import busy
    from agent.notify.publisher import read_addresses
    from agent.notify.send import send

    config = load_config(config_path)
    if config.notify is None:
        raise ConfigError(
            f"{config_path}: it has no section 'notify'",
            remedy="Add one: see docs/guide/notifications.md.",
        )
    files = [config.notify.urls_file]
    if config.notify.escalation is not None:
        files.append(config.notify.escalation.urls_file)
    failed = False
    for file in dict.fromkeys(files):
        found = read_addresses(file)
        title, text = f"{config.device_name}: test", "auscult can notify you here."
        with busy("looking at the addresses" if check else "sending"):
            answers = list(send(found, title, text, check=check))
        for number, why in enumerate(answers, start=1):
            done = "understood" if check else "sent"
            click.echo(f"{file}: address {number}: {f'failed: {why}' if why else done}")
            failed |= bool(why)
    if failed:
        raise SystemExit(1)
