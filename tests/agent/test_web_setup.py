"""Setting a machine up by the page's API: which microphones there are, choosing, what comes next."""

from __future__ import annotations

import shlex

import httpx
import numpy as np
import pytest
import yaml
from support.page import Running

from agent.capture.devices import InputDevice
from agent.capture.level import measure_channels
from agent.capture.probe import Probe
from agent.collect.spool import CollectOrder
from agent.config.agent import load_config
from agent.core.errors import AudioError
from agent.web.setup import lasting_id, training_commands

ACT = {"X-Auscult": "1"}
ONE = InputDevice(0, "USB Audio", "CODEC", 0, "/devices/usb1/1-1/1-1.4/1-1.4:1.0", 2, 48000.0)
TWIN = InputDevice(1, "USB Audio", "CODEC_1", 0, "/devices/usb1/1-1/1-1.2/1-1.2:1.0", 1, 48000.0)
BOARD = InputDevice(2, "Board", "PCH", 0, "", 1, 44100.0, default=True)
INPUTS = [ONE, TWIN, BOARD]


class Silent:
    live = True

    def __init__(self):
        self.stopped = False

    def start(self):
        pass

    def blocks(self):
        import time

        while not self.stopped:
            time.sleep(0.01)
        yield from ()

    def stop(self):
        self.stopped = True

    attempts = 0

    def faults(self):
        return {}


@pytest.fixture
def running(tmp_path, monkeypatch):
    monkeypatch.setattr("agent.web.setup._inputs", lambda: INPUTS)
    opened = []
    monkeypatch.setattr(
        "agent.listeners.open_source",
        lambda config, rate: opened.append((config, rate)) or Silent(),
    )
    path = tmp_path / "agent.yaml"
    machines = [{"name": "pump"}, {"name": "fan", "source": "microphone:Board"}]
    path.write_text(
        yaml.safe_dump(
            {
                "state_dir": "state", "machines": machines, "collect": {"free_share": 0},
                "web": {"enabled": True, "port": 0},
            }
        )
    )  # fmt: skip
    with Running(path) as found:
        found.opened, found.path = opened, path
        yield found


@pytest.fixture
def client(running):
    with httpx.Client(base_url=f"{running.url}/api", timeout=20, headers=ACT) as found:
        yield found


def test_microphones_are_named_for_good(client, monkeypatch):
    found = client.get("microphones").json()
    assert [one["device"] for one in found["microphones"]] == [
        "usb:1-1.4",
        "usb:1-1.2",
        "hw:CARD=PCH,DEV=0",
    ]
    assert [one["default"] for one in found["microphones"]] == [False, False, True]
    assert lasting_id(ONE, [ONE, BOARD]) == "hw:CARD=CODEC,DEV=0"

    def absent():
        raise AudioError("the PortAudio library cannot be loaded", remedy="Install it.")

    monkeypatch.setattr("agent.web.setup._inputs", absent)
    assert "Install it" in client.get("microphones").json()["problem"]


def test_one_is_listened_to_for_a_moment(client, monkeypatch):
    frames = np.stack([np.full(100, 0.5), np.zeros(100)], axis=1).astype(np.float32)
    frames[::2, 0] *= -1
    asked = []
    monkeypatch.setattr(
        "agent.web.setup.probe",
        lambda config: asked.append(config.device) or Probe(ONE, 48000, measure_channels(frames)),
    )
    found = client.post("microphones/listen", json={"device": "usb:1-1.4"}).json()
    assert asked == ["hw:CARD=CODEC,DEV=0"]
    assert found["levels"][0] == {"rms_dbfs": -6.0, "peak_dbfs": -6.0}
    assert found["levels"][1]["peak_dbfs"] == -200.0
    none = client.post("microphones/listen", json={"device": "gone"})
    assert none.status_code == 409
    assert "no such microphone" in none.json()["error"]
    # It opens hardware: no other site may have it done.
    assert client.post("microphones/listen", json={"device": "Board"},
                       headers={"X-Auscult": "0"}).status_code == 403  # fmt: skip


def test_a_choice_is_taken_up_and_kept(client, running):
    before = running.path.read_bytes()
    assert client.get("machines/pump/setup").json()["missing"] == ["microphone", "bundle"]
    body = {"device": "usb:1-1.4", "channel": 1}
    found = client.post("machines/pump/microphone", json=body).json()
    assert found["missing"] == ["bundle"]
    assert (found["device"], found["channel"]) == ("usb:1-1.4", 1)
    config, rate = running.opened[-1]
    assert (config.device, config.channel, rate) == ("usb:1-1.4", 1, 32_000)
    kept = load_config(running.path)
    assert kept.source_of(kept.machines[0]).device == "usb:1-1.4"
    assert running.path.read_bytes() == before


@pytest.mark.parametrize(
    ("machine", "body", "status", "words"),
    [
        ("pump", {"device": "usb:1-1.4", "channel": 2}, 422, "no channel 2"),
        ("pump", {"device": "usb:9-9"}, 409, "no such microphone"),
        ("pump", {"device": "3"}, 422, "number that changes"),
        ("pump", {}, 422, "device"),
        ("fan", {"device": "usb:1-1.4"}, 409, "the configuration says"),
        ("none", {"device": "usb:1-1.4"}, 404, "no such machine"),
    ],
)
def test_what_cannot_be_listened_to_is_not_chosen(client, running, machine, body, status, words):
    opened = len(running.opened)
    answer = client.post(f"machines/{machine}/microphone", json=body)
    assert (answer.status_code, words in answer.json()["error"]) == (status, True)
    assert len(running.opened) == opened
    assert not (running.path.parent / "state" / "state" / "microphones").exists()


def test_a_recording_is_not_cut_in_two_by_another_microphone(client, running):
    client.post("machines/pump/microphone", json={"device": "usb:1-1.4"})
    running.agent.extensions.collector.begin(
        CollectOrder(machine="pump", label="healthy", seconds=60.0)
    )
    answer = client.post("machines/pump/microphone", json={"device": "usb:1-1.2"})
    assert answer.status_code == 409
    assert "being recorded" in answer.json()["error"]


def test_without_a_bundle_the_collecting_page_has_no_bank_and_says_what_is_heard(client):
    assert client.get("collected/pump").json()["sessions"] == []
    health = client.get("health").json()["machines"]
    assert health["pump"]["missing"] == ["microphone", "bundle"]
    assert health["fan"]["missing"] == ["bundle"]
    assert client.get("info").json()["machines"] == {"pump": None, "fan": None}


def test_the_commands_survive_a_path_with_a_blank_and_ask_for_root_where_it_is_needed():
    lines = training_commands("pump", "/var/lib/my plant/bundles/pump", sudo=True)
    words = shlex.split(lines[-1])
    assert words[:3] == ["ssh", "-t", "HOST"]
    there = shlex.split(words[-1])
    assert there[-1] == "/var/lib/my plant/bundles/pump"
    assert there.count("sudo") == 2
    assert "sudo" not in " ".join(training_commands("pump", "/srv/pump", sudo=False))
