"""`auscult why`: what was heard in a stretch, and why there was no alarm (or one)."""

from __future__ import annotations

import time
from datetime import datetime
from pathlib import Path

import click

from agent.commands.options import config_option, json_option, write_given

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}


def _moment(_: click.Context, param: click.Parameter, value: str) -> float:
    """Seconds since the epoch of ISO 8601 (local time unless it says otherwise), or of `-90m`."""
    try:
        if value == "now":
            return time.time()
        if value.startswith("-") and value[-1] in _UNITS:
            return time.time() - float(value[1:-1]) * _UNITS[value[-1]]
        return datetime.fromisoformat(value.replace("Z", "+00:00")).timestamp()
    except ValueError as fault:
        raise click.BadParameter(
            f"{value!r} is no time such as 2026-11-29T10:30, -90m, -2h or now", param=param
        ) from fault


@click.command(short_help="Say what was heard in a stretch, and why there was no alarm.")
@config_option()
@click.option("--machine", help="The machine.  [default: the only one]")
@click.option(
    "--from", "begin", default="-1h", show_default=True, callback=_moment,
    help="From: ISO 8601, or -90m, -2h, -1d from now.",
)  # fmt: skip
@click.option("--to", "end", default="now", show_default=True, callback=_moment, help="Up to.")
@json_option("It")
def why(
    config_path: Path, machine: str | None, begin: float, end: float, json_path: Path | None
) -> None:
    """Say what was heard of a machine in a stretch of time, and what held an alarm back.

    It was idle, muted, shelved, could not be judged, or evidence did not suffice. Seconds are kept
    for an hour, minutes for a month, hours for years; the running agent writes once a minute.
    """
    import sqlite3
    from dataclasses import asdict

    from agent.config.agent import load_config
    from agent.core.errors import AuscultError
    from agent.history.store import PastFile
    from agent.history.why import why_of

    config = load_config(config_path)
    meant = config.machine(machine)
    path = config.state_path / "history" / "history.db"
    if not path.is_file():
        raise AuscultError(
            "there is no history",
            where=path,
            remedy="It is kept with the device's page: `web: {enabled: true}`.",
        )
    if end <= begin:
        raise AuscultError("--to is not after --from")
    file = PastFile(path)
    try:
        found = why_of(file, meant.name, begin, end, meant.decide)
    except (OSError, sqlite3.Error) as fault:
        raise AuscultError(f"the past cannot be read: {fault}", where=path) from fault
    finally:
        file.close()
    write_given(json_path, asdict(found))
    click.echo(f"{meant.name}: {found.text}")
    for event in found.events:
        click.echo(f"  {event}")
