"""`--json` and `--config` mean the same for every command that has them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from agent.cli import GROUP
from agent.commands import options
from agent.commands.options import config_option, json_option, write_given


def commands():
    def inside(name, command):
        if isinstance(command, click.Group):
            for inner in command.list_commands(click.Context(command)):
                yield from inside(
                    f"{name} {inner}", command.get_command(click.Context(command), inner)
                )
        else:
            yield name, command

    for point in entry_points(group=GROUP):
        yield from inside(point.name, point.load())


COMMANDS = dict(commands())


def parameters(option):
    for name, command in sorted(COMMANDS.items()):
        for parameter in command.params:
            if option in parameter.opts:
                yield pytest.param(parameter, id=name)


@pytest.mark.parametrize("parameter", [*parameters("--json")])
def test_json_is_a_file_or_the_standard_output(parameter):
    assert parameter.name == "json_path"
    assert (parameter.metavar, parameter.flag_value) == ("[FILE]", "-")
    assert "in place of what is printed" in parameter.help


@pytest.mark.parametrize("parameter", [*parameters("--config")])
def test_a_configuration_has_one_default(parameter):
    assert parameter.name == "config_path"
    assert parameter.required is False


@click.command()
@click.argument("files", nargs=-1)
@json_option("It")
@click.option("--bad", is_flag=True)
def spoken(files, json_path, bad):
    click.echo("for people")
    click.echo("a warning", err=True)
    write_given(json_path, {"files": list(files)})
    if bad:
        raise click.exceptions.Exit(1)


def call(*words):
    return CliRunner().invoke(spoken, [str(word) for word in words])


@pytest.mark.parametrize(
    "words", [("a.wav", "--json"), ("a.wav", "--json", "-"), ("--json", "-", "a.wav")]
)
def test_alone_it_is_all_that_is_printed(words):
    done = call(*words)

    assert json.loads(done.stdout) == {"files": ["a.wav"]}
    assert done.stderr == "a warning\n"


def test_a_file_is_written_beside_what_is_printed(tmp_path):
    done = call("a.wav", "--json", tmp_path / "new" / "out.json")

    assert done.stdout == "for people\n"
    assert json.loads((tmp_path / "new" / "out.json").read_text()) == {"files": ["a.wav"]}


def test_also_of_a_command_that_finds_something_wanting():
    done = call("--bad", "--json")

    assert done.exit_code == 1
    assert json.loads(done.stdout) == {"files": []}


def test_a_recording_is_not_written_over(tmp_path):
    (tmp_path / "a.wav").write_bytes(b"sound")

    done = call("--json", tmp_path / "a.wav")

    assert done.exit_code == 2
    assert "is no JSON file" in done.stderr
    assert (tmp_path / "a.wav").read_bytes() == b"sound"


def test_the_default_is_this_folders_then_the_installed_one(tmp_path, monkeypatch):
    @click.command()
    @config_option()
    def shown(config_path):
        click.echo(config_path)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(options, "INSTALLED", Path("/etc/auscult/agent.yaml"))
    assert CliRunner().invoke(shown, []).output == "/etc/auscult/agent.yaml\n"
    (tmp_path / "agent.yaml").touch()
    assert CliRunner().invoke(shown, []).output == "agent.yaml\n"
    assert CliRunner().invoke(shown, ["--config", "x"]).output == "x\n"
    assert "[default: agent.yaml here, else" in " ".join(
        CliRunner().invoke(shown, ["--help"]).output.split()
    )


def test_completion_is_there_for_the_shells():
    for shell in ("bash", "zsh", "fish"):
        done = subprocess.run(
            [sys.executable, "-c", "import sys; sys.argv[0] = 'auscult'; from agent.cli import main; main()"],
            env={**os.environ, "_AUSCULT_COMPLETE": f"{shell}_source"},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert "_AUSCULT_COMPLETE" in done.stdout, done.stderr
