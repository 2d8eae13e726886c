"""Home Assistant's picture of the device, in what a real broker retains."""

from __future__ import annotations

import json
import re
import time

import pytest
from support.broker import Subscriber

from agent.config.publish import HomeAssistantConfig, MqttConfig
from agent.publish.discovery.messages import device_topic, discovery_messages, machine_topic
from agent.publish.discovery.throttle import ScoreThrottle
from agent.publish.mqtt import MqttPublisher

TOPIC = "homeassistant/device/auscult_dev/config"
PUMP = "homeassistant/device/auscult_dev/pump/config"


def announced(machines=("pump",), **more):
    config = HomeAssistantConfig(enabled=True, page_url="http://gateway:8765/")
    return discovery_messages(config, "p/dev", "dev", machines, **more)


class Commands:
    commands = ("ack", "shelve")

    def take(self, command, payload, *, retained):
        raise AssertionError


def run_once(
    broker,
    tmp_path,
    *,
    machines=("pump",),
    enabled=True,
    prefix="homeassistant",
    drifting=("pump",),
    act=lambda _publisher: None,
):
    """An agent's life, from its start to a clean end."""
    config = MqttConfig(
        host="127.0.0.1",
        port=broker.port,
        home_assistant=HomeAssistantConfig(enabled=enabled, discovery_prefix=prefix),
    )
    publisher = MqttPublisher(
        config, "dev", machines, tmp_path / "outbox", drifting=lambda: drifting
    )
    publisher.listen_to(Commands())
    publisher.start()
    assert publisher.wait_connected(5)
    act(publisher)
    deadline = time.monotonic() + 60
    while (publisher.outbox._due or not publisher.sender.idle) and time.monotonic() < deadline:
        time.sleep(0.02)
    publisher.stop()


def stopped(status):
    """The last that an agent tells: whatever it told before has been heard then."""
    return status["reason"] == "stopped"


def retained(broker, topics="+/device/#"):
    with Subscriber(broker.port, topics) as late:
        time.sleep(0.3)
        return {topic: payload for topic, payload, _ in late.messages}


def test_the_agent_and_each_machine_are_announced_as_devices_of_their_own(broker, tmp_path):
    run_once(broker, tmp_path)
    found = retained(broker)
    assert sorted(found) == sorted([TOPIC, PUMP])
    assert found[PUMP]["device"]["via_device"] == found[TOPIC]["device"]["identifiers"][0]
    components = found[PUMP]["components"]
    assert {key: one["platform"] for key, one in components.items()} == {
        "alarm": "binary_sensor",
        "state": "sensor",
        "microphone": "binary_sensor",
        "level": "binary_sensor",
        "severity": "sensor",
        "zone": "sensor",
        "event": "event",
        "picture": "image",
        "bundle": "update",
        "drift": "binary_sensor",
        "ack": "button",
        "shelve": "switch",
    }
    assert len({one["unique_id"] for one in components.values()}) == len(components)
    # Of earlier versions: what people have named and drawn by these ids goes on.
    assert components["alarm"]["unique_id"] == "auscult_dev_pump_alarm"
    assert components["alarm"]["state_topic"] == "auscult/dev/pump/alarm"
    assert components["ack"]["command_topic"] == "auscult/dev/request/ack"
    assert '"machine": "pump"' in components["ack"]["command_template"]
    assert found[PUMP]["origin"]["name"] == "auscult"


def test_entities_move_from_the_agents_device_in_steps_that_keep_their_history(broker, tmp_path):
    """What a version before wrote: one device for all."""
    run_once(broker, tmp_path)  # makes the outbox
    publisher = MqttPublisher(
        MqttConfig(host="127.0.0.1", port=broker.port), "dev", ("pump",), tmp_path / "outbox"
    )
    publisher.outbox.start()
    old = {"pump_alarm": "binary_sensor", "pump_severity": "sensor"}
    publisher.outbox.store.note("home_assistant", json.dumps({TOPIC: old}))
    publisher.outbox.stop()
    with Subscriber(broker.port, "homeassistant/#") as live:
        time.sleep(0.3)
        live.messages.clear()
        run_once(broker, tmp_path)
        run_once(broker, tmp_path)
        deadline = time.monotonic() + 60
        while len(live.messages) < 4 and time.monotonic() < deadline:
            time.sleep(0.05)
        told = [(topic, payload) for topic, payload, _ in live.messages]
    # Home Assistant lets go of them, then they leave the old device, then the new one has them.
    assert told[0] == (TOPIC, {"migrate_discovery": True})
    assert told[1][0] == TOPIC
    assert told[1][1]["components"]["pump_alarm"] == {"platform": "binary_sensor"}
    first = [topic for topic, _ in told].index(PUMP)
    assert first > 1
    assert "pump_alarm" not in retained(broker)[TOPIC]["components"]


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
    assert len(retained(broker)) == 3
    run_once(broker, tmp_path, machines=("pump",))
    assert sorted(retained(broker)) == sorted([TOPIC, PUMP])
    run_once(broker, tmp_path, prefix="ha")
    assert sorted(retained(broker)) == [
        "ha/device/auscult_dev/config",
        "ha/device/auscult_dev/pump/config",
    ]


def test_an_entity_that_is_no_more_is_taken_back(broker, tmp_path):
    run_once(broker, tmp_path)
    with Subscriber(broker.port, "homeassistant/#") as live:
        time.sleep(0.3)
        live.messages.clear()
        run_once(broker, tmp_path, drifting=())
        live.wait("config", lambda payload: "drift" not in payload["components"])
        told = [payload for topic, payload, _ in live.messages if topic == PUMP]
    assert told[0]["components"]["drift"] == {"platform": "binary_sensor"}
    assert "drift" not in told[-1]["components"]


def test_a_picture_of_the_alarm_is_kept_for_home_assistant_and_goes_with_it(broker, tmp_path):
    picture = "auscult/dev/pump/picture"
    run_once(broker, tmp_path, act=lambda publisher: publisher.picture("pump", b"\x89PNG"))
    with Subscriber(broker.port, picture, raw=True) as late:
        time.sleep(0.3)
        assert [payload for _, payload, _ in late.messages] == [b"\x89PNG"]
    run_once(broker, tmp_path, enabled=False)
    with Subscriber(broker.port, picture, raw=True) as late:
        time.sleep(0.3)
        assert not late.messages


def test_names_that_home_assistant_does_not_allow_are_changed_and_stay_different():
    names = ("a.b", "a_b", "a-b", "a.b.c")
    topics = {device_topic("ha", name) for name in names}
    topics |= {machine_topic("ha", "a.b", name) for name in names}
    assert len(topics) == 8
    assert all(re.fullmatch(r"ha/device/[A-Za-z0-9_-]+(/[\w-]+)?/config", one) for one in topics)
    assert len(announced(["x.y", "x_y"])) == 3


def test_without_drift_or_commands_nothing_is_promised():
    (message,) = list(announced().values())[1:]
    assert not {"drift", "ack", "shelve", "mute"} & message["components"].keys()


def test_a_score_is_told_at_a_change_or_once_a_minute():
    throttle = ScoreThrottle()

    def due(now, score, zone="A", machine="pump"):
        return throttle.due(machine, {"score": score, "zone": zone}, now)

    assert due(0, 0.10)
    assert not due(1, 0.19)
    assert due(2, 0.21)  # counted from what was told, not from the one before
    assert due(3, 0.22, "B")
    assert due(4, None, None)
    assert not due(5, None, None)
    assert due(6, 0.22, "B")
    assert due(6, 0.22, "B", machine="fan")
    assert not due(65, 0.22, "B")
    assert due(66, 0.22, "B")


@pytest.mark.parametrize("url", ["gateway:8765", "file:///etc/passwd", "http://a b"])
def test_an_address_of_the_page_that_is_none_is_refused(url):
    with pytest.raises(ValueError, match="page_url"):
        HomeAssistantConfig(page_url=url)
