"""`auscult --help`: grouped, with examples that hold, and without loading a command."""

from __future__ import annotations

import shlex
import subprocess
import sys
from importlib.metadata import entry_points

import click
import pytest
from click.testing import CliRunner

from agent import cli
from agent.core.command_list import GROUPS, LISTED, SHOWN
from agent.core.program import next_command, program

NAMES = sorted(point.name for point in entry_points(group=cli.GROUP))


def load(name):
    (point,) = entry_points(group=cli.GROUP, name=name)
    return point.load()


def test_every_command_has_a_group():
    assert set(NAMES) == set(LISTED), "agent/core/command_list.py lists the commands by their use"
    assert all(any(name in SHOWN for name in group) for group in GROUPS.values())


@pytest.mark.parametrize("name", NAMES)
def test_the_list_says_what_the_command_says_of_itself(name):
    assert LISTED[name].help == load(name).get_short_help_str(200)


@pytest.mark.parametrize("name", NAMES)
def test_examples_have_only_words_that_the_command_takes(name):
    first, *words = shlex.split(LISTED[name].example)
    command = load(name)
    assert first == name
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        command = command.get_command(click.Context(command), words.pop(0))
    if words != ["--help"]:
        command.make_parser(click.Context(command)).parse_args(words)


def test_help_loads_no_command_and_shows_all():
    code = (
        "import sys\n"
        "from agent.cli import root\n"
        "try:\n    root(['--help'])\nexcept SystemExit:\n    pass\n"
        "print('LOADED', *sorted(m for m in sys.modules if '.commands.' in m))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    *shown, loaded = done.stdout.splitlines()

    assert loaded.strip() == "LOADED"
    for name in NAMES:
        assert any(line.split()[:1] == [name] for line in shown), name
    assert [line.rstrip(":") for line in shown if line and line[0] != " "][-len(GROUPS) :] == [
        *GROUPS
    ]


@pytest.mark.parametrize("flag", ["--help", "--version"])
def test_help_and_version_load_nothing_that_is_large(flag):
    """Whoever only looks waits for no library: click and this package are all it takes."""
    code = (
        "import sys\n"
        "before = {name.partition('.')[0] for name in sys.modules}\n"
        "from agent.cli import root\n"
        f"try:\n    root(['{flag}'])\nexcept SystemExit:\n    pass\n"
        "loaded = {name.partition('.')[0] for name in sys.modules} - before\n"
        "print('LOADED', *sorted(loaded - set(sys.stdlib_module_names)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    loaded = set(done.stdout.splitlines()[-1].split()[1:])
    assert loaded == {"agent", "click"}  # no torch, onnxruntime, scipy, numpy, pydantic, rich


def test_a_commands_own_help_ends_with_its_example():
    result = CliRunner().invoke(cli.root, ["record", "--help"])

    assert f"Example: auscult {LISTED['record'].example}" in " ".join(result.output.split())


def test_another_packages_command_is_listed_apart(monkeypatch):
    @click.command(short_help="What a plant made for itself.")
    def own():
        pass

    group = cli.InstalledCommands("auscult")
    monkeypatch.setattr(type(group), "list_commands", lambda *_: ["run", "own"])
    monkeypatch.setattr(type(group), "get_command", lambda *_: own)
    listed = CliRunner().invoke(group, ["--help"]).output

    assert "Others:" in listed
    assert "What a plant made for itself." in listed


def test_the_next_command_is_one_that_can_be_typed(tmp_path, monkeypatch):
    script = tmp_path / "a b" / "bin" / "auscult"
    script.parent.mkdir(parents=True)
    script.touch(mode=0o755)
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "a b"))

    monkeypatch.setenv("PATH", "/nowhere")
    assert (
        next_command("run", "--config", "x y.yaml") == f"next: '{script}' run --config 'x y.yaml'"
    )
    monkeypatch.setenv("PATH", str(script.parent))
    assert program() == "auscult"
    # Another environment's is not this one.
    other = tmp_path / "other"
    other.mkdir()
    (other / "auscult").touch(mode=0o755)
    monkeypatch.setenv("PATH", str(other))
    assert program() == f"'{script}'"


@pytest.mark.parametrize("name", NAMES)
def test_a_commands_help_shows_no_mark_of_its_own_making(name):
    """Click's `\\b` in a raw docstring is printed as it stands, and runs lines together."""
    done = CliRunner().invoke(load(name), ["--help"])
    assert done.exit_code == 0
    assert "\\b" not in done.output
