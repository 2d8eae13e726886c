"""`auscult doctor`: is everything in order for the agent to run here, and if not, what to mend?"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path

import click

_COLOURS = {"ok": "green", "warn": "yellow", "fail": "red"}


@click.command(short_help="Check microphone, bundle, broker, disk, clock and permissions.")
@click.option(
    "--config",
    "config_path",
    type=click.Path(path_type=Path),
    default=Path("/etc/auscult/agent.yaml"),
    show_default=True,
    help="The agent's configuration.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
def doctor(config_path: Path, *, as_json: bool) -> None:
    """Check everything that the agent needs, and say what to mend.

    Run it as the user that the agent runs as: permissions are judged for who asks. A running agent
    may hold its microphone; stop it first. Ends with code 1 when something must be mended.
    """
    from agent.health.examine import examine
    from agent.health.finding import Grade

    findings = []
    for finding in examine(config_path):
        findings.append(finding)
        if not as_json:
            word = click.style(f"{finding.grade.value.upper():4}", fg=_COLOURS[finding.grade.value])
            click.echo(f"{word}  {finding.name}: {finding.text}")
            if finding.remedy:
                click.echo(f"      -> {finding.remedy}")
    failed = sum(finding.grade is Grade.FAIL for finding in findings)
    if as_json:
        click.echo(json.dumps([asdict(finding) for finding in findings], indent=1))
    elif failed:
        click.echo(f"{failed} of {len(findings)} checks failed")
    if failed:
        sys.exit(1)
