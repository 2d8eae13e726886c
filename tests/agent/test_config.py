"""The configuration says what is wrong, where, and what was probably meant."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from agent.config.agent import AgentConfig, load_config
from agent.config.capture import MicrophoneSource, ReplaySource
from agent.core.errors import ConfigError
from tools import configuration as docs

MINIMAL = "machines: [{name: pump, bundle: b, source: 'replay:x.wav'}]\n"


def write(folder, text):
    (folder / "agent.yaml").write_text(text)
    return folder / "agent.yaml"


def test_short_forms_and_paths_relative_to_the_file(tmp_path, monkeypatch):
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", "/run/credentials/auscult")
    config = load_config(
        write(
            tmp_path,
            "machines:\n"
            "- {name: a, bundle: bundles/a, source: 'replay:data/*.wav'}\n"
            "- {name: b, bundle: /opt/b, source: 'microphone:USB: Audio'}\n"
            "- {name: c, bundle: c, source: microphone}\n"
            "mqtt: {host: h, username: u, password_file: $CREDENTIALS_DIRECTORY/mqtt}\n"
            "jsonl: out.jsonl\n",
        )
    )
    a, b, c = config.machines
    assert a.bundle == tmp_path / "bundles/a"
    assert isinstance(a.source, ReplaySource)
    assert a.source.paths == (str(tmp_path / "data/*.wav"),)
    assert b.bundle == Path("/opt/b")
    assert isinstance(b.source, MicrophoneSource)
    assert b.source.device == "USB: Audio"
    assert isinstance(c.source, MicrophoneSource)
    assert c.source.device is None
    assert config.mqtt is not None
    assert config.mqtt.password_file == Path("/run/credentials/auscult/mqtt")
    assert config.jsonl is not None
    assert config.jsonl.path == tmp_path / "out.jsonl"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (MINIMAL + "heartbeat_second: 5\n", "did you mean 'heartbeat_seconds'"),
        ("machines: [{name: p, bundel: b, source: microphone}]", r"machines\.0\.bundel.*'bundle'"),
        (
            "machines: [{name: p, bundle: b, source: {kind: microphone, devcie: x}}]",
            r"devcie.*'device'",
        ),
        (
            "machines: [{name: p, bundle: b, source: {kind: replay, paths: [x], sped: max}}]",
            r"sped.*'speed'",
        ),
        (MINIMAL + "mqtt: {host: h, tls: {ca_fiel: x}}\n", r"mqtt\.tls\.ca_fiel.*'ca_file'"),
        (MINIMAL + "mqtt: {host: h, password: secret}\n", r"mqtt\.password: .*'password_file'"),
        (MINIMAL + "mqtt: {host: h, password_file: x}\n", "needs a username"),
        (MINIMAL + "mqtt: {host: h, tls: {cert_file: x}}\n", "go together"),
        (MINIMAL + "device: a/b\n", "device"),
        ("machines: []\n", "machines"),
        ("machines: [{name: 'a+b', bundle: b, source: microphone}]", r"machines\.0\.name"),
        ("machines: [{name: status, bundle: b, source: microphone}]", "topic is taken"),
        (MINIMAL.replace("]", ", {name: pump, bundle: b, source: microphone}]"), "called pump"),
        ("machines: [{name: p, bundle: b, source: 'reply:x'}]", "replay:PATH"),
        (MINIMAL.replace("'}", "', hop_seconds: 0}"), r"machines\.0\.hop"),
        (MINIMAL.replace("'}", "', hop: .inf}"), r"machines\.0\.hop"),
        (
            MINIMAL.replace("'}", "', hop: often}"),
            r"machines\.0\.hop: should be seconds above 0, or `auto`",
        ),
        (MINIMAL.replace("'}", "', hop: 1, hop_seconds: 1}"), "older name of `hop`"),
        (
            MINIMAL.replace("'}", "', hop: auto, decide: {raise_windows: 3, of_windows: 5}}"),
            "needs evidence in seconds",
        ),
        (
            MINIMAL.replace("'}", "', decide: {raise_windows: 6, of_windows: 5}}"),
            "cannot be more",
        ),
        (MINIMAL.replace("'}", "', decide: {threshold: .nan}}"), "threshold"),
        (MINIMAL + MINIMAL, "'machines' is given twice"),
        ("machines: [", "is not YAML"),
        ("just words", "holds a text, where keys such as `machines:`"),
        ("- a\n- b\n", "holds a list, where keys"),
        ("7", "holds a single value"),
        ("", "is empty, where keys"),
        ("# only a comment\n", "is empty, where keys"),
        ("a: !!python/object/apply:os.system ['true']", "is not YAML"),
    ],
)
def test_faults_are_named(tmp_path, text, message):
    with pytest.raises(ConfigError, match=message) as caught:
        load_config(write(tmp_path, text))
    assert "agent.yaml" in str(caught.value)
    assert caught.value.remedy
    assert "AgentConfig" not in str(caught.value)


@pytest.mark.parametrize(
    ("environment", "place"),
    [
        ({}, "/home/me/.local/state/auscult"),
        ({"XDG_STATE_HOME": "/data/state"}, "/data/state/auscult"),
        ({"XDG_STATE_HOME": "relative"}, "/home/me/.local/state/auscult"),
        ({"XDG_STATE_HOME": ""}, "/home/me/.local/state/auscult"),
        ({"XDG_STATE_HOME": "/x", "STATE_DIRECTORY": "/var/lib/auscult"}, "/var/lib/auscult"),
        ({"STATE_DIRECTORY": "/var/lib/a:/var/lib/b"}, "/var/lib/a"),
    ],
)
def test_where_state_is_kept(tmp_path, monkeypatch, environment, place):
    for name in ("XDG_STATE_HOME", "STATE_DIRECTORY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "/home/me")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert load_config(write(tmp_path, MINIMAL)).state_path == Path(place)
    config = load_config(write(tmp_path, MINIMAL + "state_dir: mine\n"))
    assert config.state_path == tmp_path / "mine"


def test_a_fault_inside_a_machine_is_not_told_as_a_missing_machine(tmp_path):
    text = MINIMAL.replace("'}", "', hop: 0}")
    with pytest.raises(ConfigError, match="hop") as caught:
        load_config(write(tmp_path, text))
    assert "at least 1 item" not in str(caught.value)


@pytest.mark.parametrize(
    ("given", "own", "window", "steps"),
    [
        ("", 1.0, 10.0, (1.0, 5.0)),
        ("", 0.5, 10.0, (0.5, 5.0)),
        # Evidence that counts windows, and a bundle of a longer step, keep the step they have.
        (", decide: {raise_windows: 3, of_windows: 5}", 1.0, 10.0, (1.0, 1.0)),
        ("", 2.0, 10.0, (2.0, 2.0)),
        (", hop: null", 1.0, 10.0, (1.0, 1.0)),
        (", hop: 3", 1.0, 10.0, (3.0, 3.0)),
        (", hop_seconds: 0.5", 1.0, 10.0, (0.5, 0.5)),
        (", hop: auto", 1.0, 10.0, (1.0, 5.0)),
        (", hop: auto", 0.4, 10.0, (0.4, 4.8)),
        (", hop: auto", 5.0, 10.0, (1.0, 5.0)),
        (", hop: auto", 1.0, 2.5, (1.0, 2.0)),  # none of the sound is left out
        (", hop: auto", 1.0, 0.5, (1.0, 1.0)),
    ],
)
def test_a_hop_is_seconds_or_auto_or_the_bundles_own(tmp_path, given, own, window, steps):
    (machine,) = load_config(write(tmp_path, MINIMAL.replace("'}", f"'{given}}}"))).machines
    hop = machine.hop_of(own, window)
    assert (hop.seconds, pytest.approx(hop.calm)) == steps


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"nowhere\.yaml: there is no such"):
        load_config(tmp_path / "nowhere.yaml")


def test_the_sample_validates():
    config = load_config(Path(__file__).parents[2] / "configs" / "agent.yaml")
    assert [machine.name for machine in config.machines] == ["pump-1", "fan-2"]


def test_the_page_is_what_the_schema_says():
    assert docs.PAGE.read_text() == docs.page(), "stale: run `make docs`"


def test_every_key_has_a_row_with_a_meaning():
    page = docs.page()
    names = set()
    waiting = [AgentConfig]
    while waiting:
        for name, field in waiting.pop().model_fields.items():
            assert field.description, name
            names.add(name)
            waiting += docs.models_of(field.annotation)
    assert len(names) > 30
    for name in names:
        assert re.search(rf"^\| `{name}` \| [^|]+", page, re.MULTILINE), name


def test_the_default_device_name_is_fit_for_a_topic(monkeypatch):
    monkeypatch.setattr("socket.gethostname", lambda: "my/host#1")
    config = AgentConfig.model_validate(
        {"machines": [{"name": "a", "bundle": "b", "source": "microphone"}]}
    )
    assert config.device_name == "my-host-1"
