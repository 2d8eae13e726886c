"""`auscult audit`: which commands came to an agent, from where, and what became of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from agent.commands.options import config_option, json_option, write_given_text

if TYPE_CHECKING:
    from agent.request.audit import AuditEntry


@click.command(short_help="List the commands that an agent was given.")
@config_option()
@click.option(
    "--last",
    type=click.IntRange(min=1),
    default=50,
    show_default=True,
    help="How many, the latest.",
)
@click.option("--machine", help="Of this machine alone.")
@click.option("--refused", is_flag=True, help="Only those that were not carried out.")
@json_option("Them, an object a line,")
def audit(
    config_path: Path, last: int, machine: str | None, json_path: Path | None, *, refused: bool
) -> None:
    """List the commands that came over MQTT and from the page, the latest last.

    Each with its time, where it came from, who asked by their own word, and what became of it. The
    trail lies in the state directory, audit/commands.jsonl, some ten megabytes at most.
    """
    from collections import deque

    from agent.config.agent import load_config
    from agent.request.audit import AuditTrail

    trail = AuditTrail(load_config(config_path).state_path / "audit")
    wanted = (
        entry
        for entry in trail.read()
        if (machine is None or entry.machine == machine)
        and not (refused and entry.outcome == "done")
    )
    found = deque(wanted, maxlen=last)
    if not found:
        click.echo(f"no command is in {trail.path}", err=True)
    for entry in found:
        click.echo(_line(entry))
    lines = [entry.model_dump_json(exclude_defaults=True) + "\n" for entry in found]
    write_given_text(json_path, "".join(lines))


def _line(entry: AuditEntry) -> str:
    from agent.core.text import local_time, visible

    who = " ".join(part for part in (entry.way, entry.client) if part)
    what = " ".join(part for part in (entry.command, entry.machine) if part)
    asked = ", ".join(f"{name} {value}" for name, value in entry.fields.items())
    why = f": {entry.error}" if entry.error else ""
    more = f" ({entry.left_out} refused before it are not listed)" if entry.left_out else ""
    return visible(
        f"{local_time(entry.time)}\t{who}\t{entry.operator or '-'}\t{what}\t{asked or '-'}\t"
        f"{entry.outcome}{why}{more}",
        keep="\t",
    )
