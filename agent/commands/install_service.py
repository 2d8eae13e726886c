"""`auscult install-service`: have systemd start the agent, and keep it running."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from agent.config.agent import AgentConfig

_FOLDER = Path("/etc/auscult")


@click.command(name="install-service", short_help="Have systemd run the agent.")
@click.option(
    "--config",
    "config_path",
    type=click.Path(path_type=Path),
    help="The agent's configuration.  [default: /etc/auscult/agent.yaml, or NAME.yaml]",
)
@click.option("--instance", metavar="NAME", help="Install auscult@NAME, one of several agents.")
@click.option("--user", help="Run as this user.  [default: one that systemd makes up]")
@click.option(
    "--unit-dir",
    type=click.Path(path_type=Path),
    default=Path("/etc/systemd/system"),
    show_default=True,
    help="Where the unit is written.",
)
@click.option("--no-enable", is_flag=True, help="Write the unit only.")
@click.option("--force", is_flag=True, help="Replace a unit that was changed by hand.")
@click.option("--dry-run", is_flag=True, help="Show the unit, and change nothing.")
def install_service(
    config_path: Path | None,
    instance: str | None,
    user: str | None,
    unit_dir: Path,
    *,
    no_enable: bool,
    force: bool,
    dry_run: bool,
) -> None:
    """Write a systemd unit for this installation of auscult, and enable it.

    It is not started: the commands to do so are shown. A unit changed by hand is never overwritten.
    """
    from agent.config.agent import load_config
    from agent.core.errors import AuscultError, ConfigError
    from agent.doctor.unit import (
        PLAIN,
        TEMPLATE,
        Installation,
        out_of_reach,
        own_command,
        packaged,
        render,
        write_unit,
    )

    unit = PLAIN if instance is None else TEMPLATE
    service = "auscult" if instance is None else f"auscult@{instance}"
    path = (config_path or _FOLDER / f"{instance or 'agent'}.yaml").absolute()
    if instance is not None and path.name != f"{instance}.yaml":
        raise ConfigError(
            f"the configuration of instance '{instance}' must be called {instance}.yaml",
            where=path,
            remedy="Rename it.",
        )
    config = load_config(path)
    command = own_command()
    written = path if instance is None else path.with_name("%i.yaml")
    text = render(unit, Installation(command, written, user, _systemd_version()))
    problems = [*out_of_reach(_needed(command, path, config), user=user), *_page(config, user)]
    if dry_run:
        click.echo(text, nl=False)
        for problem in problems:
            click.echo(f"# {problem}", err=True)
        return
    if problems:
        raise AuscultError(
            "the service could not read what it needs: " + "; ".join(problems),
            remedy="Install below /opt and configure below /etc/auscult, or give --user",
        )
    target = unit_dir / unit
    theirs = None if target.exists() else packaged(unit, text)
    if theirs is not None:
        click.echo(f"{theirs}: came with the package, and is as it should be")
    else:
        new = write_unit(target, text, force=force)
        click.echo(f"{target}: {'written' if new else 'is as it should be'}")
    if not no_enable:
        _systemctl("daemon-reload")
        _systemctl("enable", "--quiet", service)
        click.echo(f"{service}: enabled, starts with this device")
    _say_next(service, path, config, instance)


def _needed(command: tuple[str, ...], path: Path, config: AgentConfig) -> list[Path]:
    from agent import __file__ as package

    needed = [Path(command[0]), Path(sys.executable), Path(package), path]
    for machine in config.machines:
        if machine.bundle is not None:
            needed += [machine.bundle, machine.bundle / "manifest.json"]
    if config.bundles.public_key is not None:
        needed.append(config.bundles.public_key)
    return needed


def _page(config: AgentConfig, user: str | None) -> list[str]:
    """What the service's page would lack."""
    from importlib.util import find_spec

    from agent.doctor.unit import CREDENTIALS, PAGE_PASSWORD

    if not config.web.enabled:
        return []
    found = []
    if find_spec("starlette") is None or find_spec("uvicorn") is None:
        found.append("web.enabled: the page is not installed (pip install 'auscult[web]')")
    secret = config.web.password_file
    if secret is not None and user is None and CREDENTIALS not in str(secret):
        found.append(
            f"{secret}: the service has a user of its own, who shall read no password file: use "
            f"`password_file: {CREDENTIALS}/{PAGE_PASSWORD}`"
        )
    return found


def _systemd_version() -> int:
    """Version of systemd; 0 where there is none."""
    try:
        told = subprocess.run(
            ["systemctl", "--version"],  # noqa: S607 - the system's own
            capture_output=True, text=True, timeout=10, check=True,
        ).stdout  # fmt: skip
        return int(told.split()[1].partition("~")[0].partition(".")[0])
    except (OSError, subprocess.SubprocessError, ValueError, IndexError):
        return 0


def _systemctl(*words: str) -> None:
    from agent.core.errors import AuscultError

    program = shutil.which("systemctl")
    if program is None:
        raise AuscultError(
            "there is no systemctl on this device",
            remedy="Give --no-enable to write the unit all the same",
        )
    done = subprocess.run([program, *words], capture_output=True, text=True, check=False)  # noqa: S603 - fixed words
    if done.returncode:
        raise AuscultError(
            f"`systemctl {' '.join(words)}` failed: {done.stderr.strip() or done.returncode}",
            remedy="Mend that and run it again, or give --no-enable",
        )


def _say_next(service: str, path: Path, config: AgentConfig, instance: str | None) -> None:
    from agent.doctor.unit import CREDENTIALS, PAGE_PASSWORD, PASSWORD, own_command

    sudo = "" if os.geteuid() == 0 else "sudo "
    click.echo("Next:")
    if config.mqtt is not None and config.mqtt.username is not None:
        password = path.parent / (f"{PASSWORD}-{instance}" if instance else PASSWORD)
        if not password.exists():
            click.echo(f"  {sudo}install -m 600 /dev/stdin {password}   # the broker's password")
            click.echo(
                f"    and in {path.name}: password_file: ${{CREDENTIALS_DIRECTORY}}/{PASSWORD}"
            )
    if config.web.enabled and config.web.password_file is not None:
        secret = path.parent / (f"{PAGE_PASSWORD}-{instance}" if instance else PAGE_PASSWORD)
        if CREDENTIALS in str(config.web.password_file) and not secret.exists():
            click.echo(f"  {sudo}install -m 600 /dev/stdin {secret}   # the page's password")
    command = " ".join(own_command())
    click.echo(f"  {sudo}{command} doctor --service {service} --config {path}")
    click.echo(f"  {sudo}systemctl start {service}")
    click.echo(f"  systemctl status {service}; journalctl -f -u {service}")
