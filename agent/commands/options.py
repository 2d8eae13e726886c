"""Options that several commands have, spelt once: they mean the same everywhere."""

from __future__ import annotations

import contextlib
import functools
import io
import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from agent.core.errors import BundleError, ConfigError
from agent.core.storage import check_writable

HERE, INSTALLED = Path("agent.yaml"), Path("/etc/auscult/agent.yaml")
STDOUT = "-"
_JSON = frozenset({"", ".json", ".jsonl", ".txt"})


class Written(click.Path):
    """A path that a command writes to: one that cannot be written is refused before the work.

    Args:
        file: Whether a file may be there.
        folder: Whether a folder may be there.
    """

    def __init__(self, *, file: bool = True, folder: bool = True) -> None:
        super().__init__(file_okay=file, dir_okay=folder, allow_dash=not folder, path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Hold what was typed against the disk."""
        path = super().convert(value, param, ctx)
        if str(path) != STDOUT:
            try:
                check_writable(Path(os.fsdecode(path)))
            except BundleError as fault:
                self.fail(str(fault), param, ctx)
        return path


def default_config() -> Path:
    """The configuration where none is named: that of this folder, else the installed service's."""
    return HERE if HERE.is_file() else INSTALLED


def found_config() -> Path | None:
    """The configuration that a command takes when none is named; None where there is none."""
    found = default_config()
    return found if found.is_file() else None


def config_option(help_: str = "The agent's configuration.") -> Callable[[Any], Any]:
    """`--config`, given to the command as `config_path`; the default is one for all commands.

    Args:
        help_: What it is for.
    """
    return click.option(
        "--config",
        "config_path",
        type=click.Path(path_type=Path),
        default=default_config,
        help=f"{help_}  [default: {HERE} here, else {INSTALLED}]",
    )


def json_option(what: str = "It all") -> Callable[[Any], Any]:
    """`--json [FILE]`, given to the command as `json_path`, a file to write or None.

    Alone, or with `-`, JSON is all that is printed on the standard output: what the command would
    print there for people is left out.

    Args:
        what: What is written, to begin a sentence.
    """
    option = click.option(
        "--json",
        "json_path",
        metavar="[FILE]",
        is_flag=False,
        flag_value=STDOUT,
        type=Written(folder=False),
        callback=_no_recording,
        help=f"{what} as JSON, to FILE too; alone, or with '-', in place of what is printed.",
    )

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(command)
        def run(*args: Any, json_path: Path | None, **options: Any) -> Any:
            if json_path is None or str(json_path) != STDOUT:
                return command(*args, json_path=json_path, **options)
            with tempfile.TemporaryDirectory(prefix="auscult-") as folder:
                place = Path(folder) / "printed.json"
                try:
                    with contextlib.redirect_stdout(io.StringIO()):
                        return command(*args, json_path=place, **options)
                finally:
                    # Also of a command that ends with another code than 0.
                    if place.is_file():
                        click.echo(place.read_text(encoding="utf-8"), nl=False)

        return option(run)

    return decorate


def write_given(json_path: Path | None, data: Any) -> None:
    """Write what `--json` asks for; nothing for None."""
    if json_path is not None:
        text = json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False)
        write_given_text(json_path, text + "\n")


def write_given_text(json_path: Path | None, text: str) -> None:
    """Write JSON that is text already, such as lines; nothing for None.

    Raises:
        ConfigError: It cannot be written there.
    """
    if json_path is not None:
        try:
            json_path.parent.mkdir(parents=True, exist_ok=True)
            json_path.write_text(text, encoding="utf-8")
        except OSError as fault:
            raise ConfigError(
                f"cannot be written: {fault.strerror}",
                where=json_path,
                remedy="Give another --json FILE.",
            ) from fault


def _no_recording(
    _context: click.Context, _option: click.Parameter, value: Path | None
) -> Path | None:
    """Refuse to take an argument for FILE: `--json today.wav` would write over a recording."""
    if value is not None and value.suffix.lower() not in _JSON and value.exists():
        raise click.BadParameter(
            f"{value} is there and is no JSON file; write `--json -`, or --json last"
        )
    return value
