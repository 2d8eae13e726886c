"""`auscult init`: a first agent.yaml, asked for or given."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile
import yaml
from click.testing import CliRunner

from agent.commands import init as module
from agent.commands.init import init
from agent.config.agent import load_config
from agent.core.errors import ConfigError


def run(*words, code=0, typed=None):
    done = CliRunner().invoke(init, [str(word) for word in words], input=typed)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == code, done.output
    return done.output


def test_with_nothing_given_the_page_leads(tmp_path):
    output = run("--config", tmp_path / "agent.yaml", "--yes")

    config = load_config(tmp_path / "agent.yaml")
    (machine,) = config.machines
    assert (machine.name, machine.source, machine.bundle) == ("machine-1", None, None)
    assert config.web.enabled
    assert config.mqtt is None
    assert f"doctor --config {tmp_path / 'agent.yaml'}" in output


def test_everything_given(tmp_path):
    run(
        "--config", tmp_path / "a.yaml", "--device", "hall-2", "--machine", "pump-7",
        "--machine", "fan", "--microphone", "hw:CARD=ID,DEV=0", "--microphone", "usb:1-1.4",
        "--bundle", "pump.bundle", "--bundle", "fan.bundle", "--broker", "broker.local:1884",
        "--commission", "--yes",
    )  # fmt: skip

    config = load_config(tmp_path / "a.yaml")
    assert config.device == "hall-2"
    assert [one.name for one in config.machines] == ["pump-7", "fan"]
    assert config.machines[0].source.device == "hw:CARD=ID,DEV=0"
    assert config.machines[1].bundle.name == "fan.bundle"
    assert config.machines[0].commission is not None
    assert (config.mqtt.host, config.mqtt.port) == ("broker.local", 1884)
    assert not config.web.enabled


@pytest.mark.parametrize(
    ("given", "host", "port"),
    [("broker.local", "broker.local", None), ("10.0.0.2:1884", "10.0.0.2", 1884),
     ("[fd00::1]:1884", "fd00::1", 1884), ("fd00::1", "fd00::1", None)],
)  # fmt: skip
def test_brokers(tmp_path, given, host, port):
    run("--config", tmp_path / "a.yaml", "--broker", given, "--yes")

    mqtt = load_config(tmp_path / "a.yaml").mqtt
    assert mqtt.host == host
    assert mqtt.port == (port or type(mqtt)(host="x").port)


def test_answers_at_a_terminal(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "at_terminal", lambda: True)
    monkeypatch.setattr(module, "free_microphones", lambda count: ("hw:CARD=A,DEV=0",) * count)

    run("--config", tmp_path / "a.yaml", typed="hall-9\npump\nbroker\nn\ny\n")

    written = yaml.safe_load((tmp_path / "a.yaml").read_text())
    assert written == {
        "device": "hall-9",
        "machines": [
            {"name": "pump", "source": {"kind": "microphone", "device": "hw:CARD=A,DEV=0"},
             "commission": {}}
        ],
        "mqtt": {"host": "broker"},
    }  # fmt: skip


def test_nothing_is_overwritten_or_written_wrong(tmp_path):
    place = tmp_path / "agent.yaml"
    place.write_text("mine")
    with pytest.raises(ConfigError, match="--force"):
        run("--config", place, "--yes")
    assert place.read_text() == "mine"
    run("--config", place, "--yes", "--force")
    assert load_config(place)
    with pytest.raises(ConfigError, match="Nothing was written"):
        run("--config", tmp_path / "b.yaml", "--machine", "a/b", "--yes")
    assert not (tmp_path / "b.yaml").exists()
    assert "one --bundle for each" in run(
        "--bundle", "x", "--bundle", "y", "--yes", "--config", tmp_path / "c", code=2
    )


def test_recordings_in_place_of_a_microphone(tmp_path):
    (tmp_path / "today.wav").touch()
    run("--config", tmp_path / "a.yaml", "--replay", "today.wav", "--yes")
    config = load_config(tmp_path / "a.yaml")
    source = config.machines[0].source
    assert (source.kind, source.loop, source.gap_between_files) == ("replay", True, True)
    assert [str(one) for one in source.paths] == [str(tmp_path / "today.wav")]
    assert config.web.enabled
    with pytest.raises(ConfigError, match="there is no such recording"):
        run("--config", tmp_path / "b.yaml", "--replay", "gone.wav", "--yes")
    assert not (tmp_path / "b.yaml").exists()
    run("--config", tmp_path / "b.yaml", "--replay", "x", "--microphone", "y", "--yes", code=2)


@pytest.mark.parametrize(("seconds", "apart"), [(6, False), (12, True)])
def test_recordings_without_room_for_a_window_are_one_stream(tmp_path, seconds, apart):
    """Each with a gap behind it none would ever be judged, and the microphone be called dead."""
    soundfile.write(tmp_path / "today.wav", np.full(seconds * 8000, 0.1), 8000)
    said = run("--config", tmp_path / "a.yaml", "--replay", "today.wav", "--yes")
    assert load_config(tmp_path / "a.yaml").machines[0].source.gap_between_files == apart
    assert ("less than a window of 10 s" in said) != apart
