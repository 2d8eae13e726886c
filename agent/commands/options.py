"""Options that several commands have, spelt once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

INSTALLED = Path("/etc/auscult/agent.yaml")


def config_option(
    help_: str = "The agent's configuration.", *, installed: bool = False
) -> Callable[[Any], Any]:
    """`--config`, given to the command as `config_path`.

    Args:
        help_: What it is for.
        installed: Left out, it is that of the installed service; else it has to be given.
    """
    kind = click.Path(path_type=Path)
    if installed:
        return click.option(
            "--config", "config_path", type=kind, default=INSTALLED, show_default=True, help=help_
        )
    return click.option("--config", "config_path", type=kind, required=True, help=help_)
