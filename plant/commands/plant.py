"""`auscult plant`: a group whose subcommands are loaded one by one."""

from __future__ import annotations

import importlib

import click

from plant.commands.table import COMMANDS


class LazyGroup(click.Group):
    """A group whose commands are the rows of `table.COMMANDS`; only the one that runs is loaded."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """Every name, in the table's order."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Load one command."""
        row = COMMANDS.get(cmd_name)
        if row is None:
            return None
        module, _, name = row.where.partition(":")
        command = getattr(importlib.import_module(module), name)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """List the commands without loading them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, row.help) for name, row in COMMANDS.items()])


@click.group(cls=LazyGroup)
def plant() -> None:
    """Learn, roll out and watch the machines of a plant."""
