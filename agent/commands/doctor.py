"""`auscult doctor`: is everything in order for the agent to run here, and if not, what to mend?"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import NoReturn

import click

from agent.commands.options import config_option, json_option, write_given, write_given_text
from agent.core.program import next_command

_COLOURS = {"ok": "green", "warn": "yellow", "fail": "red"}


@click.command(short_help="Check microphone, bundle, broker, disk, clock and permissions.")
@config_option()
@click.option(
    "--service",
    metavar="UNIT",
    help="Check as this service's user, with its rights (`auscult`, `auscult@NAME`); needs root.",
)
@json_option("The findings")
def doctor(config_path: Path, service: str | None, json_path: Path | None) -> None:
    """Check everything that the agent needs, and say what to mend.

    Permissions are judged for who asks: with --service, for an installed service. A running agent
    may hold its microphone; stop it first. Ends with code 1 when something must be mended.
    """
    if service is not None:
        _as_service(service, config_path.absolute(), json_path)
    from agent.core.progress import busy
    from agent.doctor.examine import examine
    from agent.doctor.finding import Grade

    findings = []
    checks = iter(examine(config_path))
    while True:
        with busy("looking"):
            finding = next(checks, None)
        if finding is None:
            break
        findings.append(finding)
        word = click.style(f"{finding.grade.value.upper():4}", fg=_COLOURS[finding.grade.value])
        click.echo(f"{word}  {finding.name}: {finding.text}")
        if finding.remedy:
            click.echo(f"      -> {finding.remedy}")
    failed = sum(finding.grade is Grade.FAIL for finding in findings)
    write_given(json_path, [asdict(finding) for finding in findings])
    if failed:
        click.echo(f"{failed} of {len(findings)} checks failed")
    elif service is None:
        click.echo(next_command("run", "--config", config_path))
    if failed:
        sys.exit(1)


def _as_service(service: str, config_path: Path, json_path: Path | None) -> NoReturn:
    """Run this very command again, in the surroundings that systemd gives to the service."""
    from agent.core.errors import AuscultError
    from agent.doctor.unit import own_command, surroundings

    name = service.removesuffix(".service")
    unit = subprocess.run(  # noqa: S603 - no shell is involved
        ["systemctl", "cat", f"{name}.service"],  # noqa: S607 - the system's own
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if unit.returncode:
        raise AuscultError(
            "there is no such service", where=name, remedy="See `auscult install-service`."
        )
    properties = [
        f"--property={line}" for line in surroundings(unit.stdout, name.partition("@")[2])
    ]
    words = [*own_command(), "doctor", "--config", str(config_path)]
    words += [] if json_path is None else ["--json", "-"]
    done = subprocess.run(  # noqa: S603 - the unit's own settings
        ["systemd-run", "--quiet", "--pipe", "--wait", "--collect", *properties, *words],  # noqa: S607
        check=False, text=True, stdout=None if json_path is None else subprocess.PIPE,
    )  # fmt: skip
    write_given_text(json_path, done.stdout or "")
    sys.exit(done.returncode)
