"""Home Assistant's own core takes what the agent tells, over a real broker (`make home-assistant`)."""

from __future__ import annotations

import json
import os
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from support.broker import Broker, Subscriber, free_port
from support.told import tell

from agent.config.publish import HomeAssistantConfig, MqttConfig
from agent.core.reasons import Reason, UnusualBand
from agent.core.records import (
    AlarmEvent,
    AlarmStatus,
    Decision,
    EventKind,
    Level,
    MachineState,
    Score,
    Shelving,
    Validity,
    Window,
)
from agent.core.scale import Scale
from agent.publish.device_payloads import BundleInfo, LevelHandling
from agent.publish.mqtt import MqttPublisher
from agent.window.condition import ConditionStatus, SensorCondition

ROOT = Path(__file__).parents[2]
PYTHON = Path(os.environ.get("AUSCULT_HOME_ASSISTANT", ROOT / ".home-assistant" / "bin" / "python"))
OWN = "homeassistant/device/auscult_dev/config"
pytestmark = pytest.mark.slow

SCALE = Scale(median=0.2, threshold=0.4, usual=0.3, severe=0.9)
REASON = Reason(None, (UnusualBand(2800.0, 3200.0, 9.5),), 1, 1e9, ("the tone",), ())
RAISED = AlarmStatus(Level.ALARM, 1e9 + 8, "a1", acknowledged=False, reason=REASON)


class Commands:
    commands = ("ack", "shelve", "mute")

    def __init__(self):
        self.taken = []

    def take(self, command, payload, *, retained):
        self.taken.append((command, json.loads(payload)))


class HomeAssistant:
    """A process of its own; use as a context manager. Begun again on the same folder, it restarts."""

    def __init__(self, folder, port):
        folder.mkdir(exist_ok=True)
        self._args = [PYTHON, Path(__file__).with_name("home_assistant_driver.py"), folder, port]

    def __enter__(self):
        args = [*map(str, self._args), str(free_port())]
        self._process = subprocess.Popen(
            args, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert json.loads(self._process.stdout.readline()) == {"ready": True}
        return self

    def __exit__(self, *_):
        self.ask("stop")
        self._process.wait(60)

    def ask(self, do, **more):
        self._process.stdin.write(json.dumps({"do": do, **more}) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def wait(self, wanted, seconds=60):
        """Look until `wanted` of what is seen is true; gives what was seen."""
        deadline = time.monotonic() + seconds
        while not wanted(seen := self.ask("look")):
            if time.monotonic() > deadline:
                short = {name: state for name, (state, _) in seen["states"].items()}
                pytest.fail(f"{short}, warned: {seen['warned']}")
            time.sleep(0.2)
        return seen

    def until(self, **states):
        """Wait for states of entities, by name with `__` for the dot."""
        wanted = {name.replace("__", "."): state for name, state in states.items()}
        return self.wait(
            lambda seen: {name: seen["states"].get(name, [None])[0] for name in wanted} == wanted
        )


@pytest.fixture(scope="module")
def installed():
    if not PYTHON.exists():
        pytest.skip("Home Assistant is not here: `make home-assistant` (needs Python 3.13)")


@pytest.fixture
def broker(tmp_path):
    with Broker(tmp_path / "broker") as broker:
        yield broker


@pytest.fixture
def agent(broker, tmp_path):
    """What makes an agent's publisher, started and connected."""
    made = []

    def make():
        config = MqttConfig(
            host="127.0.0.1",
            port=broker.port,
            health_seconds=1,
            home_assistant=HomeAssistantConfig(
                enabled=True, page_url="http://gateway:8765/", pause_minutes=30
            ),
        )
        publisher = MqttPublisher(
            config, "dev", ("pump",), tmp_path / "outbox", drifting=lambda: ["pump"]
        )
        publisher.commands = Commands()
        publisher.listen_to(publisher.commands)
        publisher.tell_about(lambda: {"pump": bundle()}, list)
        publisher.start()
        made.append(publisher)
        assert publisher.wait_connected(10)
        return publisher

    yield make
    for publisher in made:
        publisher.stop()


def bundle():
    return BundleInfo(
        bundle="pump-7", manifest_sha256="ab12cd34" * 8, created="2026-11-29T10:00:00Z",
        auscult_version="0.3", trained_on="pump", preset="auscult_small", encoder="mn04",
        precision="int8", sample_rate=16000, window_seconds=10.0, rows=5, threshold=0.4,
        caveat="", promise=[], blind="", level=LevelHandling(mode="judge", note="", baseline=None),
    )  # fmt: skip


def decided(index, level=Level.NORMAL, value=0.25, status=None):
    validity = Validity.VALID if value is not None else Validity.SILENT
    window = Window(
        np.zeros(8000, np.float32), 8000, index, float(index), 1e9 + index, validity, "", "mic"
    )
    return Decision(
        Score(window, value, None if value is None else 3, 0.01), 0.4, level=level, changed=False,
        exceeded=False, since_wall=1e9, state=MachineState.RUNNING,
        status=status or AlarmStatus(level, 1e9), scale=SCALE,
    )  # fmt: skip


def happened(kind, status, **more):
    return AlarmEvent(
        f"a1-{kind.value}", kind, "a1", 1e9 + 9, status, Level.NORMAL, 0.4, 0.5, 3, 1e9, 2.0, "mic",
        scale=SCALE, **more,
    )  # fmt: skip


def good(status=ConditionStatus.GOOD):
    return SensorCondition(status, "", 1e9)


def test_what_the_agent_tells_is_what_home_assistant_shows(installed, broker, agent, tmp_path):
    publisher = agent()
    with HomeAssistant(tmp_path / "ha", broker.port) as home:
        home.wait(lambda seen: "sensor.pump_score" in seen["states"])
        tell(publisher, good())
        tell(publisher, decided(0))
        seen = home.until(
            binary_sensor__pump_alarm="off", sensor__pump_state="normal",
            sensor__pump_severity_zone="A", binary_sensor__dev_connection="on",
            update__pump_bundle="off", switch__pump_shelve="off",
        )  # fmt: skip
        assert seen["devices"]["pump"] == {"via": "dev", "url": "http://gateway:8765/"}
        assert float(seen["states"]["sensor.pump_score"][0]) == pytest.approx(0.25)
        assert seen["states"]["update.pump_bundle"][1]["installed_version"] == "2026-11-29 ab12cd34"

        tell(publisher, happened(EventKind.RAISED, RAISED))
        publisher.picture("pump", b"\x89PNG\r\n\x1a\n")
        seen = home.wait(
            lambda seen: (
                seen["states"]["binary_sensor.pump_alarm"][0] == "on"
                and seen["states"]["image.pump_latest_alarm"][0] != "unknown"
            )
        )
        told = seen["states"]["event.pump_event"][1]
        assert (told["event_type"], told["level"]) == ("alarm.raised", "alarm")
        assert "3200" in json.dumps(told["reason"]) or "3.2" in json.dumps(told["reason"])

        # Shelved or muted, it is not a problem any more, and that is shown.
        for status, state in (
            (replace(RAISED, shelving=Shelving.TIMED, shelved_until_wall=2e9), "shelved"),
            (replace(RAISED, muted_until_wall=2e9), "muted"),
        ):
            tell(publisher, happened(EventKind.SHELVED, status))
            home.until(binary_sensor__pump_alarm="off", sensor__pump_state=state)

        # A dead microphone is no healthy machine.
        tell(publisher, good(ConditionStatus.FAILURE))
        home.until(
            binary_sensor__pump_alarm="unavailable", binary_sensor__pump_microphone="on",
            sensor__pump_state="unavailable",
        )  # fmt: skip
        tell(publisher, good())
        tell(publisher, happened(EventKind.UNSHELVED, RAISED))
        home.until(binary_sensor__pump_alarm="on", binary_sensor__pump_microphone="off")

        # What is pressed reaches the agent.
        for domain, service, entity in (
            ("switch", "turn_on", "switch.pump_shelve"),
            ("switch", "turn_off", "switch.pump_mute"),
            ("button", "press", "button.pump_acknowledge"),
        ):
            home.ask("call", domain=domain, service=service, entity=entity)
        deadline = time.monotonic() + 60
        while len(publisher.commands.taken) < 3 and time.monotonic() < deadline:
            time.sleep(0.1)
        asked = dict(publisher.commands.taken)
        assert (asked["shelve"]["seconds"], asked["mute"]["seconds"]) == (1800, 0)
        assert {one["machine"] for one in asked.values()} == {"pump"}
        assert home.ask("look")["warned"] == []
    # Restarted, it knows at once what was retained.
    with HomeAssistant(tmp_path / "ha", broker.port) as home:
        home.until(binary_sensor__pump_alarm="on", sensor__pump_state="alarm")
        publisher.stop()
        seen = home.until(
            binary_sensor__pump_alarm="unavailable", binary_sensor__dev_connection="off"
        )
        assert seen["warned"] == []


def test_entities_of_a_version_before_keep_their_names_and_history(
    installed, broker, agent, tmp_path
):
    """They were all of the agent's own device."""
    old = {
        "pump_alarm": {
            "platform": "binary_sensor", "unique_id": "auscult_dev_pump_alarm",
            "name": "pump alarm", "state_topic": "auscult/dev/pump/alarm",
        },
        "pump_severity": {
            "platform": "sensor", "unique_id": "auscult_dev_pump_severity",
            "name": "pump score", "state_topic": "auscult/dev/pump/score",
        },
    }  # fmt: skip
    before = {
        "device": {"identifiers": ["auscult_dev"], "name": "dev"},
        "origin": {"name": "auscult"}, "components": old,
    }  # fmt: skip
    with Subscriber(broker.port) as live:
        live.client.publish(OWN, json.dumps(before), qos=1, retain=True).wait_for_publish(5)
    first = agent()
    first.stop()  # makes the outbox, without a note of what was announced by then
    first.outbox.start()
    noted = {key: one["platform"] for key, one in old.items()}
    first.outbox.store.note("home_assistant", json.dumps({OWN: noted}))
    first.outbox.stop()
    with Subscriber(broker.port) as live:
        for topic in (OWN, OWN.replace("config", "pump/config")):
            payload = json.dumps(before) if topic == OWN else ""
            live.client.publish(topic, payload, qos=1, retain=True).wait_for_publish(5)
    with HomeAssistant(tmp_path / "ha", broker.port) as home:
        seen = home.wait(lambda seen: "auscult_dev_pump_alarm" in seen["entities"])
        then = seen["entities"]["auscult_dev_pump_alarm"]
        assert then["device"] == "dev"
        home.ask("rename", entity=then["entity"], name="It squeals")
        agent()
        seen = home.wait(
            lambda seen: seen["entities"].get("auscult_dev_pump_alarm", {}).get("device") == "pump"
        )
        now = seen["entities"]["auscult_dev_pump_alarm"]
        assert (now["id"], now["entity"], now["name"]) == (then["id"], then["entity"], "It squeals")
        home.wait(lambda seen: "auscult_dev_pump_zone" in seen["entities"])


def test_the_blueprint_tells_what_is_wrong_and_that_it_is_over(installed, broker, agent, tmp_path):
    publisher = agent()
    with HomeAssistant(tmp_path / "ha", broker.port) as home:
        home.wait(lambda seen: "sensor.pump_score" in seen["states"])
        tell(publisher, good())
        tell(publisher, decided(0))
        home.until(binary_sensor__pump_alarm="off")
        given = {
            "alarm": "binary_sensor.pump_alarm", "score": "sensor.pump_score",
            "zone": "sensor.pump_severity_zone", "notify": "notify.test",
        }  # fmt: skip
        blueprint = ROOT / "packaging" / "home-assistant" / "notify.yaml"
        assert home.ask("automate", blueprint=str(blueprint), input=given)["done"]
        home.until(automation__told="on")
        tell(publisher, decided(70, Level.ALARM, 0.5, RAISED))
        tell(publisher, happened(EventKind.RAISED, RAISED))
        (first, *_) = home.wait(lambda seen: seen["called"])["called"]
        assert first["title"] == "pump: sounds wrong"
        assert "zone" in first["message"]
        tell(publisher, happened(EventKind.CLEARED, AlarmStatus(Level.NORMAL, 1e9 + 20)))
        seen = home.wait(lambda seen: len(seen["called"]) == 2)
        assert seen["called"][1]["title"] == "pump: sounds healthy again"
        assert seen["warned"] == []


def test_the_card_names_entities_that_there_are(installed, broker, agent, tmp_path):
    agent()
    card = yaml.safe_load((ROOT / "packaging" / "home-assistant" / "card.yaml").read_text())
    named = set()

    def walk(node):
        if isinstance(node, dict):
            if "entity" in node:
                named.add(node["entity"])
            for value in node.values():
                walk(value)
        elif isinstance(node, list):
            for value in node:
                named.update([value] if isinstance(value, str) and "." in value else [])
                walk(value)

    walk(card)
    assert len(named) > 6
    with HomeAssistant(tmp_path / "ha", broker.port) as home:
        home.wait(lambda seen: named <= seen["states"].keys())
