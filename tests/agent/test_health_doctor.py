"""`auscult doctor`: what it finds, in order and broken, and what it says to mend."""

from __future__ import annotations

import json
import os
import shutil

import numpy as np
import pytest
from click.testing import CliRunner
from support.broker import Broker, Subscriber, free_port
from support.bundles import tone, write

from agent.bundle.sign import load_private, make_keys, sign_folder
from agent.commands.bank import bank
from agent.commands.doctor import doctor
from agent.core.errors import AuscultError
from agent.core.records import Validity, Window
from agent.doctor import examine as checks
from agent.doctor.finding import Grade
from agent.window.condition import ConditionFile, SensorMonitor, condition_file


@pytest.fixture
def plant(tmp_path, tiny_bundle):
    """A folder as an engineer would have it; `configure` writes agent.yaml."""
    write(tmp_path / "sound" / "1.wav", tone(2))
    shutil.copytree(tiny_bundle, tmp_path / "bundle")

    def configure(extra="", source="replay:sound"):
        path = tmp_path / "agent.yaml"
        path.write_text(
            f"device: dev\nstate_dir: state\nmachines:\n- name: pump\n  bundle: bundle\n  source: {source}\n{extra}"
        )
        return path

    return configure


def ask(config):
    """Findings by name, and the exit code."""
    done = CliRunner().invoke(doctor, ["--config", str(config), "--json"])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return {one["name"]: one for one in json.loads(done.stdout)}, done.exit_code


def test_all_in_order(plant, tmp_path, monkeypatch):
    monkeypatch.setattr(checks, "kernel_synchronised", lambda: True)
    with Broker(tmp_path / "broker") as broker, Subscriber(broker.port) as others:
        found, code = ask(plant(f"mqtt: {{host: 127.0.0.1, port: {broker.port}}}\n"))
        others.wait("dev/response/doctor")
        # Nothing of the agent's own is touched, but that events arrive is proven by one.
        others.wait("pump/event")
        topics = {topic.partition("dev/")[2] for topic, *_ in others.messages}
        assert topics == {"response/doctor", "pump/event"}
        assert {one["type"] for one in others.of("event")} == {"auscult.delivery.probe"}
    assert code == 0
    assert {one["grade"] for one in found.values()} == {"ok"}
    assert set(found) == {
        "configuration", "state directory", "clock", "inference", "bundle of pump",
        "source of pump", "broker", "commands", "publishing", "events",
    }  # fmt: skip
    assert "there and back" in found["publishing"]["text"]
    assert not list((tmp_path / "state").glob(".doctor*"))


def test_a_damaged_bundle_fails_with_its_file(plant, tmp_path):
    (tmp_path / "bundle" / "bank.npy").write_bytes(b"x")
    found, code = ask(plant())
    assert code == 1
    assert found["bundle of pump"]["grade"] == "fail"
    assert "bank.npy" in found["bundle of pump"]["text"]
    assert found["bundle of pump"]["remedy"]


def test_a_bundle_is_held_against_the_key_that_the_agent_asks_for(plant, tmp_path):
    make_keys(tmp_path / "site.key", tmp_path / "site.key.pub")
    make_keys(tmp_path / "other.key", tmp_path / "other.key.pub")
    config = plant("bundles: {public_key: site.key.pub}\n")
    found, code = ask(config)
    assert (code, found["public key"]["grade"]) == (1, "ok")
    assert found["bundle of pump"]["grade"] == "fail"
    assert "sign" in found["bundle of pump"]["text"]
    sign_folder(tmp_path / "bundle", load_private(tmp_path / "other.key"))
    assert ask(config)[0]["bundle of pump"]["grade"] == "fail"
    sign_folder(tmp_path / "bundle", load_private(tmp_path / "site.key"))
    found, _ = ask(config)
    assert found["bundle of pump"]["grade"] == "ok"
    assert "its signature too" in found["bundle of pump"]["text"]
    # No bank is grown from, nor shown of, what the agent would not open.
    (tmp_path / "bundle" / "manifest.sig").unlink()
    done = CliRunner().invoke(bank, ["list", "--config", str(config)])
    assert isinstance(done.exception, AuscultError)
    (tmp_path / "site.key.pub").write_text("no key")
    found, code = ask(config)
    assert (code, found["public key"]["grade"]) == (1, "fail")
    assert found["public key"]["remedy"]


def test_a_source_without_sound_fails(plant):
    found, code = ask(plant(source="replay:nothing-here"))
    assert code == 1
    assert found["source of pump"]["grade"] == "fail"
    assert found["bundle of pump"]["grade"] == "ok"  # what follows a failure is looked at too


def test_a_configuration_that_cannot_be_used_is_the_only_finding(tmp_path):
    found, code = ask(tmp_path / "missing.yaml")
    assert code == 1
    assert list(found) == ["configuration"]


def test_no_broker_there(plant):
    found, code = ask(plant(f"mqtt: {{host: 127.0.0.1, port: {free_port()}}}\n"))
    assert code == 1
    assert found["broker"]["grade"] == "fail"
    assert "refused" in found["broker"]["text"]


@pytest.mark.parametrize("version", ["5", "3.1.1"])
def test_a_wrong_password_and_missing_rights_are_told_apart(plant, tmp_path, version, monkeypatch):
    monkeypatch.setattr("agent.doctor.broker._ANSWER_SECONDS", 1.0)
    folder = tmp_path / "broker"
    folder.mkdir()
    passwords, rules = folder / "passwords", folder / "acl"
    passwords.write_text("")
    tool = shutil.which("mosquitto_passwd")
    if tool is None:
        pytest.skip("mosquitto_passwd is not installed (apt-get install mosquitto)")
    os.spawnl(os.P_WAIT, tool, tool, "-b", str(passwords), "me", "right")
    rules.write_text("user me\ntopic read other/#\n")
    lines = ("allow_anonymous false", f"password_file {passwords}", f"acl_file {rules}")
    secret = tmp_path / "secret"
    with Broker(folder, lines) as broker:
        config = plant(
            f"mqtt: {{host: 127.0.0.1, port: {broker.port}, username: me, password_file: secret, version: '{version}'}}\n"
        )
        secret.write_text("wrong\n")
        found, code = ask(config)
        assert code == 1
        assert "refuses us" in found["broker"]["text"]
        secret.write_text("right\n")
        found, code = ask(config)
        assert found["broker"]["grade"] == "ok"
        bad = {name for name, one in found.items() if one["grade"] in {"warn", "fail"}} - {"clock"}
        assert "publishing" in bad or version == "3.1.1"
        assert bad, found
        rules.write_text("user me\ntopic write auscult/dev/#\ntopic read auscult/dev/request/+\n")
        broker.reload()
        found, code = ask(config)
        assert found["publishing"]["grade"] in {"ok", "warn"}
        assert found["commands"]["grade"] == "ok"
        assert code == 0
        # What a broker of 3.1.1 denies in silence: one topic alone.
        rules.write_text("user me\ntopic deny auscult/dev/pump/event\ntopic readwrite #\n")
        broker.reload()
        found, code = ask(config)
        assert found["publishing"]["grade"] == "ok"
        assert (found["events"]["grade"], code) == ("fail", 1)
        assert ("delivered to nobody" in found["events"]["text"]) == (version == "3.1.1")


def test_a_folder_that_takes_no_file_fails(tmp_path):
    (tmp_path / "file").write_text("")
    finding = checks.check_folder("state directory", tmp_path / "file" / "state")
    assert finding.grade is Grade.FAIL


def test_a_nearly_full_disk(tmp_path, monkeypatch):
    grades = []
    for free in (10**10, 10**8, 10**7):
        monkeypatch.setattr(
            checks.shutil, "disk_usage", lambda _, free=free: type("U", (), {"free": free})
        )
        grades.append(checks.check_folder("disk", tmp_path).grade)
    assert grades == [Grade.OK, Grade.WARN, Grade.FAIL]


def test_a_clock_without_a_time_service_warns_and_one_at_the_image_s_date_fails(monkeypatch):
    monkeypatch.setattr(checks, "kernel_synchronised", lambda: None)
    assert checks.check_clock().grade is Grade.WARN
    monkeypatch.setattr(checks.time, "time", lambda: 1e9)
    assert checks.check_clock().grade is Grade.FAIL


def test_a_provider_that_is_not_there(plant):
    found, code = ask(plant("inference: {providers: [TensorrtExecutionProvider]}\n"))
    assert code == 1
    assert "has no TensorrtExecutionProvider" in found["inference"]["text"]
    assert "CPUExecutionProvider" in found["inference"]["remedy"]


def test_people_read_lines_with_remedies(tmp_path):
    done = CliRunner().invoke(doctor, ["--config", str(tmp_path / "missing.yaml")])
    assert done.exit_code == 1
    assert "FAIL  configuration: " in done.stdout
    assert "      -> " in done.stdout
    assert "1 of 1 checks failed" in done.stdout


def test_what_the_running_agent_doubts_of_the_microphone_is_said(plant, tmp_path):
    config = plant()
    assert "hearing of pump" not in ask(config)[0]
    monitor, file = SensorMonitor(), ConditionFile(condition_file(tmp_path / "state", "pump"))

    def hear(n, validity=Validity.VALID, reason="", doubt=""):
        sound = np.zeros(160_000, np.float32)
        window = Window(sound, 16_000, n, 10.0 * n, 1e9, validity=validity, reason=reason)
        file.tell(monitor.observe(window, doubt=doubt))

    hear(0, doubt="it hums: lines of the mains are 93 % of what it hears")
    finding = ask(config)[0]["hearing of pump"]
    assert finding["grade"] == "warn"
    assert "maintenance required: it hums: lines of the mains are 93 %" in finding["text"]
    hear(1, Validity.SILENT, "the same buffer again and again: it is frozen")
    assert "failure: the same buffer" in ask(config)[0]["hearing of pump"]["text"]
    for n in range(2, 100):
        hear(n)
    assert "hearing of pump" not in ask(config)[0]
