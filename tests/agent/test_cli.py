"""What goes wrong outside auscult's own checks still ends in one line."""

from __future__ import annotations

import errno

import click
import pytest
from click.testing import CliRunner

from agent import cli
from agent.core.errors import AuscultError


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (
            PermissionError(errno.EACCES, "Permission denied", "/locked/run.json"),
            "/locked/run.json",
        ),
        (OSError(errno.ENOSPC, "No space left on device"), "the disk: No space left"),
    ],
)
def test_a_file_that_cannot_be_used_ends_with_code_2_and_its_name(
    monkeypatch, capsys, fault, message
):
    @click.command()
    def broken() -> None:
        raise fault

    monkeypatch.setattr(cli, "root", broken)
    monkeypatch.setattr("sys.argv", ["auscult"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


def test_a_fault_of_our_own_is_not_hidden(monkeypatch):
    @click.command()
    def broken() -> None:
        raise OSError("no file in it")

    monkeypatch.setattr(cli, "root", broken)
    monkeypatch.setattr("sys.argv", ["auscult"])
    with pytest.raises(OSError, match="no file in it"):
        cli.main()


def test_a_misspelt_command_is_answered_with_the_nearest():
    result = CliRunner().invoke(cli.root, ["trian", "pump7"])
    assert result.exit_code == 2
    assert result.output.count("Did you mean 'train'?") == 1
    other = CliRunner().invoke(cli.root, ["xylophone"])
    assert "Did you mean" not in other.output


@pytest.mark.parametrize("problem", ["there is no such key, did you mean 'b'?", "it ended..."])
def test_a_sentence_ends_once(problem):
    assert str(AuscultError(problem, where="f", remedy="Mend it.")) == f"f: {problem} Mend it."
    assert str(AuscultError("it is bad", remedy="Mend it.")) == "it is bad. Mend it."
