"""A path that a command is given and cannot use: named, with what is wrong and what to do."""

from __future__ import annotations

import logging
import os
import re

import click
import pytest
from support.bundles import tone, write
from support.doubled import doubled, said_twice

from agent import cli
from agent.commands.options import Written

#: Each with `{bad}` where the path stands; `{bundle}`, `{sound}` and `{config}` are good ones.
READ = {
    "audit": "audit --config {bad}",
    "backup": "backup {out} --config {bad}",
    "bank add sound": "bank add {bad} --label healthy --bundle {bundle}",
    "bank add bundle": "bank add {sound} --label healthy --bundle {bad}",
    "bank list": "bank list --bundle {bad}",
    "bank rollback": "bank rollback --bundle {bad}",
    "bank use": "bank use 1 --bundle {bad}",
    "bank sign": "bank sign 1 --bundle {bad} --key {sound}",
    "bank config": "bank list --config {bad}",
    "collect": "collect --list --config {bad}",
    "commission": "commission --config {bad}",
    "install-service": "install-service --config {bad}",
    "learn": "learn {bad} --out {out}",
    "notify": "notify --config {bad}",
    "restore": "restore {bad} --config {config}",
    "run": "run --config {bad}",
    "score": "score --bundle {bundle} {bad}",
    "score bundle": "score --bundle {bad} {sound}",
    "score key": "score --bundle {bundle} {sound} --public-key {bad}",
    "score microphone": "score --bundle {bundle} {sound} --microphone {bad}",
    "why": "why --config {bad}",
    "tune": "tune --config {bad}",
    "inspect": "inspect {bad} --out {out}",
    "train": "train {bad} --out {out}",
    "evaluate": "evaluate {bad} --out {out}",
    "export": "export {bad} --out {out}",
    "shorten": "shorten {bad} --out {out}",
    "drift": "drift {bad}",
    "drift bundle": "drift {data} --bundle {bad}",
    "metrics": "metrics {bad}",
    "fuse": "fuse a={bad} b={bad}",
    "convert-tagger": "convert-tagger {bad}",
    "pretrained check": "pretrained check {bad}",
    "plant build": "plant build {bad}",
    "plant offer": "plant offer {bad} {bundle}",
    "plant inventory": "plant inventory {bad}",
    "plant serve": "plant serve {bad}",
    "plant user add": "plant user add {bad} me",
    "plant user list": "plant user list {bad}",
    "plant simulate": "plant simulate {bad} --stream {sound}",
}
WRITTEN = {
    "devices": "devices --json {bad}",
    "audit": "audit --config {config} --json {bad}",
    "backup": "backup {bad} --config {config}",
    "bank": "bank list --bundle {bundle} --versions {bad}",
    "init": "init --yes --config {bad}",
    "keygen": "keygen {bad}",
    "learn": "learn {data} --out {bad}",
    "score": "score --bundle {bundle} {sound} --json {bad}",
    "train": "train {data} --out {bad}",
    "inspect": "inspect {data} --out {bad}",
    "evaluate": "evaluate {data} --out {bad}",
    "report": "score --bundle {bundle} {sound} --report {bad}",
}


@pytest.fixture
def call(tmp_path, tiny_bundle, monkeypatch, capfd):
    """Run a command of the table; what it says on its way out."""
    (tmp_path / "empty-file").write_text("")
    (tmp_path / "words").write_text("hello: [world\n")
    (tmp_path / "empty-folder").mkdir()
    sound = write(tmp_path / "data" / "normal" / "1.wav", tone(3))
    config = tmp_path / "agent.yaml"
    config.write_text(
        f"state_dir: state\nmachines:\n- {{name: pump, bundle: {tiny_bundle}, "
        "source: {kind: replay, paths: [data]}}\n"
    )
    monkeypatch.chdir(tmp_path)
    # A command's log goes to the standard error of its test alone.
    monkeypatch.setattr(logging.root, "handlers", [])
    monkeypatch.setattr(logging.root, "level", logging.WARNING)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "home"))

    def run(line, bad):
        words = line.format(
            bad=bad, bundle=tiny_bundle, sound=sound, config=config, data=sound.parents[1],
            out=tmp_path / "out",
        )  # fmt: skip
        monkeypatch.setattr("sys.argv", ["auscult", *words.split()])
        # A fault of our own would come through.
        with pytest.raises(SystemExit) as ended:
            cli.main()
        told = capfd.readouterr()
        return ended.value.code, told.err + told.out

    return run


def check(code, told, bad):
    assert code in {1, 2}, told
    assert str(bad) in told
    # A remedy follows: a sentence that asks for something.
    assert re.search(
        r"\b(Give|Name|Check|Record|Mend|Start|Lay|Make|Export|It is not a bundle|`auscult init`|"
        r"Versions are looked for)\b|`auscult [a-z ]+(--help)?` (says|shows|writes)|remove it first",
        told,
    ), told
    # Nobody is shown the insides of a library.
    assert not re.search(r"Errno|pydantic|input_value|Traceback|\.py\b", told), told
    assert (doubled(told), said_twice(told)) == ([], [])


@pytest.mark.parametrize("kind", ["not-there/x", "empty-file", "words", "empty-folder"])
@pytest.mark.parametrize("name", READ)
def test_what_cannot_be_read_is_named_with_a_remedy(call, tmp_path, name, kind):
    bad = tmp_path / kind
    code, told = call(READ[name], bad)
    check(code, told, bad)
    if kind == "not-there/x":
        # What is not there is not called damaged.
        assert re.search(r"there is no|does not exist|No such file", told), told


@pytest.mark.parametrize("name", WRITTEN)
def test_what_cannot_be_written_is_named_with_a_remedy_before_the_work(call, tmp_path, name):
    bad = tmp_path / "empty-file" / "x"
    code, told = call(WRITTEN[name], bad)
    check(code, told, bad)
    if name == "score":
        assert "raw" not in told


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
@pytest.mark.parametrize("name", READ)
def test_what_may_not_be_read_is_named_with_a_remedy(call, tmp_path, name):
    bad = tmp_path / "empty-file"
    bad.chmod(0)
    check(*call(READ[name], bad), bad)


def test_a_bundle_named_to_init_that_is_not_there_yet_is_said(call, tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(
        "sys.argv", ["auscult", "init", "--yes", "--config", "a.yaml", "--bundle", "later"]
    )
    cli.main()
    assert "note: later: there is no bundle here" in capfd.readouterr().err
    code, told = call("init --yes --config b.yaml --bundle {bad}", tmp_path / "empty-file")
    check(code, told, tmp_path / "empty-file")
    assert not (tmp_path / "b.yaml").exists()


def test_every_option_that_names_an_output_is_looked_at_before_the_work():
    """Minutes of training are not lost to a folder that cannot be written to."""
    outputs, unheld = 0, []
    for words, option in _options():
        if {"--out", "--report", "--profile", "--json"} & set(option.opts):
            outputs += 1
            if not isinstance(option.type, Written):
                unheld.append((words, option.opts[0]))
    assert outputs > 40
    assert unheld == []


def _options():
    waiting = [("", cli.root)]
    while waiting:
        words, command = waiting.pop()
        if isinstance(command, click.Group):
            context = click.Context(command)
            names = command.list_commands(context)
            waiting += [(f"{words} {one}", command.get_command(context, one)) for one in names]
        else:
            yield from ((words, one) for one in command.params)
