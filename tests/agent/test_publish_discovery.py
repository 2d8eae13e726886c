"""Home Assistant's picture of the device, in what a real broker retains."""

from __future__ import annotations

import re
import time

from support.broker import Subscriber

from agent.config.publish import HomeAssistantConfig, MqttConfig
from agent.publish.home_assistant import discovery_message, discovery_topic
from agent.publish.mqtt import MqttPublisher

TOPIC = "homeassistant/device/auscult_dev/config"


class Commands:
    commands = ("ack",)

    def take(self, command, payload, *, retained):
        raise AssertionError


def run_once(broker, tmp_path, *, machines=("pump",), enabled=True, prefix="homeassistant"):
    """An agent's life, from its start to a clean end."""
    config = MqttConfig(
        host="127.0.0.1",
        port=broker.port,
        home_assistant=HomeAssistantConfig(enabled=enabled, discovery_prefix=prefix),
    )
    publisher = MqttPublisher(
        config, "dev", machines, tmp_path / "outbox", drifting=lambda: ["pump"]
    )
    publisher.listen_to(Commands())
    publisher.start()
    assert publisher.wait_connected(5)
    deadline = time.monotonic() + 5
    while (publisher.outbox._due or not publisher.sender.idle) and time.monotonic() < deadline:
        time.sleep(0.02)
    publisher.stop()


def stopped(status):
    """The last that an agent tells: whatever it told before has been heard then."""
    return status["reason"] == "stopped"


def retained(broker):
    with Subscriber(broker.port, "+/device/#") as late:
        time.sleep(0.3)
        return {topic: payload for topic, payload, _ in late.messages}


def test_announced_with_every_component(broker, tmp_path):
    run_once(broker, tmp_path)
    (topic, message), *others = retained(broker).items()
    assert (topic, others) == (TOPIC, [])
    components = message["components"]
    assert {key: one["platform"] for key, one in components.items()} == {
        "pump_alarm": "binary_sensor",
        "pump_microphone": "binary_sensor",
        "pump_level": "binary_sensor",
        "pump_severity": "sensor",
        "pump_zone": "sensor",
        "pump_drift": "binary_sensor",
        "pump_ack": "button",
    }
    assert len({one["unique_id"] for one in components.values()}) == 7
    assert components["pump_alarm"]["state_topic"] == "auscult/dev/pump/alarm"
    assert components["pump_ack"]["command_topic"] == "auscult/dev/request/ack"
    assert '"machine": "pump"' in components["pump_ack"]["command_template"]
    assert message["origin"]["name"] == "auscult"


def test_removed_cleanly_when_disabled_and_only_then(broker, tmp_path):
    run_once(broker, tmp_path)
    run_once(broker, tmp_path)
    assert TOPIC in retained(broker)
    with Subscriber(broker.port) as live:
        time.sleep(0.2)
        live.messages.clear()
        run_once(broker, tmp_path, enabled=False)
        live.wait("status", stopped)
        assert [payload for topic, payload, _ in live.messages if topic == TOPIC][-1] is None
        live.messages.clear()
        run_once(broker, tmp_path, enabled=False)
        live.wait("status", stopped)
        # Done with: a broker's access rules need not know of it any more.
        assert not live.of("config")
    assert retained(broker) == {}


def test_a_machine_that_left_is_removed_and_a_prefix_that_changed(broker, tmp_path):
    run_once(broker, tmp_path, machines=("pump", "fan"))
    with Subscriber(broker.port) as live:
        time.sleep(0.2)
        live.messages.clear()
        run_once(broker, tmp_path, machines=("pump",))
        live.wait("status", stopped)
        told = live.of("config")
    # First each component of the machine with nothing but its platform, as Home Assistant asks.
    assert any(message["components"].get("fan_zone") == {"platform": "sensor"} for message in told)
    (message,) = retained(broker).values()
    assert not [key for key in message["components"] if key.startswith("fan")]
    run_once(broker, tmp_path, prefix="ha")
    assert list(retained(broker)) == ["ha/device/auscult_dev/config"]


def test_names_that_home_assistant_does_not_allow_are_changed_and_stay_different():
    topics = {discovery_topic("ha", name) for name in ("a.b", "a_b", "a-b", "a.b.c")}
    assert len(topics) == 4
    assert all(re.fullmatch(r"ha/device/[A-Za-z0-9_-]+/config", topic) for topic in topics)
    keys = discovery_message("p/a.b", "a.b", ["x.y", "x_y"])["components"]
    assert len(keys) == 10


def test_without_drift_or_acknowledgement_nothing_is_promised():
    keys = discovery_message("p/d", "d", ["pump"])["components"]
    assert sorted(keys) == [
        "pump_alarm",
        "pump_level",
        "pump_microphone",
        "pump_severity",
        "pump_zone",
    ]
