"""Writes docs/reference/cli.md from the commands themselves (`make docs`); `--check` compares."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click

from agent.cli import InstalledCommands
from tools.pages import write_or_check

PAGE = Path(__file__).parent.parent / "docs" / "reference" / "cli.md"

_HEAD = """\
# Commands

Every command has `--help`. This page is generated from the commands by `make docs`; change their
help texts. `auscult init` writes a first configuration.

What means the same everywhere:

- `--config FILE`: the agent's configuration; left out, `agent.yaml` of the working folder, else
  `/etc/auscult/agent.yaml`.
- `--json [FILE]`: what the command found, as JSON: in FILE too, or alone (or with `-`) on the
  standard output in place of what is printed for people. Where arguments follow, write `--json -`.
- Codes: 0 well, 1 found wanting, 2 a fault that is named on the standard error stream, 130 Ctrl-C.

Completion of commands and options, for good in `~/.bashrc` (`~/.zshrc`; for fish
`_AUSCULT_COMPLETE=fish_source auscult > ~/.config/fish/completions/auscult.fish`):

    eval "$(_AUSCULT_COMPLETE=bash_source auscult)"      # zsh: zsh_source
"""


def commands(
    group: click.Group, context: click.Context
) -> Iterator[tuple[click.Command, click.Context]]:
    """Every command below a group, each before its subcommands."""
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if command is None or command.hidden:
            continue
        inner = click.Context(command, info_name=name, parent=context, terminal_width=88)
        yield command, inner
        if isinstance(command, click.Group):
            yield from commands(command, inner)


def page() -> str:
    """The whole page."""
    root = click.Context(InstalledCommands("auscult"), info_name="auscult")
    assert isinstance(root.command, click.Group)
    parts = [_HEAD]
    for command, context in commands(root.command, root):
        depth = "##" if context.parent is root else "###"
        parts.append(
            f"{depth} {context.command_path}\n\n```text\n{command.get_help(context)}\n```\n"
        )
    return "\n".join(parts)


def main() -> None:
    """Write the page, or with `--check` tell whether it is stale."""
    write_or_check({PAGE: page()})


if __name__ == "__main__":
    main()
