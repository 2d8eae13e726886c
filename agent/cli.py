"""The one command, `auscult`: finds its subcommands by entry point, and turns faults into words."""

from __future__ import annotations

import difflib
import errno
import os
import sys
from importlib.metadata import entry_points

import click

from agent import __version__
from agent.core.command_list import GROUPS, LISTED, SHOWN
from agent.core.errors import AuscultError
from agent.core.interrupt import wait_for_imports

GROUP = "auscult.commands"
# What a missing module of these names means: the workstation's packages are not installed.
TRAIN_EXTRA = {
    "torch",
    "onnx",
    "onnxscript",
    "sklearn",
    "scipy",
    "matplotlib",
    "safetensors",
    "amqtt",
    "imblearn",
    "lightning_fabric",
    "peft",
    "tensorboard",
}
# The same of other extras, by module.
EXTRAS = {
    **dict.fromkeys(("alembic", "psycopg", "pyarrow", "sqlalchemy"), "plant"),
    "ray": "ray",
    "google": "sparkplug",
}


_ELSEWHERE = "Others"
# What click finds wrong with a path, and what to do about it.
_REMEDIES = {
    "does not exist.": "Check its spelling, and the folder that this is run in.",
    "is not readable.": "Give the user who runs this the right to read it (ls -l, chmod).",
    "is not writable.": "Give the user who runs this the right to write it (ls -l, chmod).",
    "is a directory.": "Name a file.",
    "is a file.": "Name a folder.",
}


class InstalledCommands(click.Group):
    """A group whose commands are this environment's `auscult.commands` entry points.

    A command's module is imported only when it is run; the agent's own process therefore holds the
    agent's code alone, and the list of commands is there at once.
    """

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """Every registered name."""
        return sorted(point.name for point in entry_points(group=GROUP))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Load one command."""
        for point in entry_points(group=GROUP, name=cmd_name):
            command = point.load()
            assert isinstance(command, click.Command)
            if cmd_name in LISTED and not command.epilog:
                command.epilog = f"Example: auscult {LISTED[cmd_name].example}"
            return command
        return None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands by what they are for, without loading them."""
        left = dict.fromkeys(self.list_commands(ctx))
        for title, group in GROUPS.items():
            rows = [(name, one.help) for name, one in group.items() if name in left]
            for name, _ in rows:
                del left[name]
            if rows:
                with formatter.section(title):
                    formatter.write_dl(rows)
                    shown = next(one.example for name, one in group.items() if name in SHOWN)
                    formatter.write_text(f"e.g. auscult {shown}")
        rows = []
        for name in left:  # another package's
            command = self.get_command(ctx, name)
            if command is not None and not command.hidden:
                rows.append((name, command.get_short_help_str(80)))
        if rows:
            with formatter.section(_ELSEWHERE):
                formatter.write_dl(rows)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command; a misspelt one is answered with the nearest."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as fault:
            near = difflib.get_close_matches(args[0], self.list_commands(ctx), n=1)
            if not near or near[0] in fault.message:
                raise
            hint = f"{fault.message} Did you mean '{near[0]}'?"
            raise click.UsageError(hint, fault.ctx) from fault


@click.group(
    cls=InstalledCommands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="auscult")
def root() -> None:
    """Learns the sound of a healthy machine, listens, and raises an alarm when it changes."""


def main() -> None:
    """Run `auscult`. Exit codes: 0 well, 1 found wanting, 2 a fault named on stderr, 130 Ctrl-C."""
    wait_for_imports()
    try:
        code = root(standalone_mode=False)  # which returns what an `Exit` asks for
        if isinstance(code, int) and code:
            sys.exit(code)
    except click.exceptions.Exit as exit_:
        sys.exit(exit_.exit_code)
    except click.ClickException as fault:
        _with_remedy(fault).show()
        sys.exit(fault.exit_code)
    except (click.Abort, KeyboardInterrupt):
        click.echo("stopped", err=True)
        sys.exit(130)
    except AuscultError as fault:
        click.echo(f"auscult: {fault}", err=True)
        sys.exit(2)
    except ModuleNotFoundError as fault:
        package = (fault.name or "").partition(".")[0]
        if package in TRAIN_EXTRA:
            remedy = "Install the workstation's packages: pip install 'auscult[train]'"
        elif package in EXTRAS:
            remedy = f"Install it: pip install 'auscult[{EXTRAS[package]}]'"
        else:
            raise
        click.echo(
            f"auscult: this command needs the package '{fault.name}', which the agent's install "
            f"leaves out. {remedy}",
            err=True,
        )
        sys.exit(2)
    except BrokenPipeError:
        # The reader of our output left (`auscult score ... | head`): not a fault of ours.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except OSError as fault:
        # A file the user named: not there, not writable, or the disk is full.
        if fault.filename is None and fault.errno != errno.ENOSPC:
            raise
        click.echo(
            f"auscult: {fault.filename or 'the disk'}: {fault.strerror}. "
            "Check the path, its permissions and the free space.",
            err=True,
        )
        sys.exit(2)


def _with_remedy(fault: click.ClickException) -> click.ClickException:
    """The fault of a path with what to do about it."""
    if isinstance(fault, click.BadParameter):
        for problem, remedy in _REMEDIES.items():
            if fault.message.endswith(problem):
                text = f"{fault.message} {remedy}"
                return click.BadParameter(text, fault.ctx, fault.param, fault.param_hint)
    return fault


if __name__ == "__main__":
    main()
