"""`auscult plant`: subcommands that are listed unloaded, and say what the list says."""

from __future__ import annotations

import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from plant.commands.plant import plant
from plant.commands.table import COMMANDS


def test_help_lists_every_subcommand_and_loads_none():
    code = (
        "import sys\n"
        "from agent.cli import root\n"
        "try:\n    root(['plant', '--help'])\nexcept SystemExit:\n    pass\n"
        "print('LOADED', *sorted(m for m in sys.modules if m.startswith('plant.')))\n"
        "print('HEAVY', *{'sqlalchemy', 'ray', 'starlette', 'torch', 'pyarrow'} & set(sys.modules))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    *shown, loaded, heavy = done.stdout.splitlines()

    assert loaded == "LOADED plant.commands plant.commands.plant plant.commands.table"
    assert heavy.strip() == "HEAVY"
    for name in COMMANDS:
        assert any(line.split()[:1] == [name] for line in shown), name


@pytest.mark.parametrize("name", COMMANDS)
def test_the_table_says_what_the_command_says_of_itself(name):
    command = plant.get_command(click.Context(plant), name)

    assert command is not None
    assert command.get_short_help_str(200) == COMMANDS[name].help


def test_an_unknown_subcommand_is_refused():
    done = CliRunner().invoke(plant, ["nonesuch"])

    assert done.exit_code == 2
    assert "nonesuch" in done.output
