"""Whether a machine runs, as the plant says it; and that it is told when nothing is judged."""

from __future__ import annotations

import json
import logging
import time

import numpy as np
import pytest
import yaml
from support.broker import Broker, Subscriber
from support.bundles import tone, write

from agent.activity.plant import PlantSignal, read_running
from agent.activity.watch import JudgedWatch, watch_file
from agent.config.agent import load_config
from agent.config.running import RunningConfig
from agent.core.errors import ConfigError
from agent.core.records import Decision, Level, MachineState, Score, Validity, Window
from agent.core.said import read_said
from agent.doctor.examine import examine
from agent.service import Agent


@pytest.mark.parametrize(
    ("payload", "field", "above", "wanted"),
    [
        (b"true", "", 0, True),
        (b"OFF", "", 0, False),
        (b" 1 ", "", 0, True),
        (b"0", "", 0, False),
        (b"1480.5", "", 100, True),
        (b"99", "", 100, False),
        (b'"running"', "", 0, True),
        (b'{"speed": 1480}', "speed", 100, True),
        (b'{"d": {"speed": "12"}}', "d.speed", 100, False),
        (b'{"speed": 1480}', "torque", 0, None),
        (b"[1]", "", 0, None),
        (b"NaN", "", 0, None),
        (b"\xff\xfe", "", 0, None),
        (b"maybe", "", 0, None),
        (b"1" + b"0" * 400, "", 0, True),
        (b"[" * 60_000, "", 0, None),
        (b"", "", 0, None),
    ],
)
def test_bits_numbers_and_members_are_read(payload, field, above, wanted):
    assert read_running(payload, field, above) is wanted


def test_what_was_said_too_long_ago_is_not_believed_and_told(monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    signal = PlantSignal("pump", RunningConfig(topic="plc/pump", stale_seconds=60))
    assert signal.running() is None  # it hasn't said yet
    signal.take(b"0")
    assert signal.running() is False
    now[0] += 61
    assert signal.running() is None
    assert signal.running() is None
    assert caplog.text.count("by ear from now on") == 1
    assert "plc/pump has not said for 1 minutes" in signal.trouble()
    signal.take(b"1")
    assert signal.running() is True
    assert not signal.trouble()
    signal.take(b"?")
    assert "nothing that can be understood" in signal.trouble()
    assert signal.running() is True
    patient = PlantSignal("pump", RunningConfig(topic="plc/pump", stale_seconds=None))
    patient.take(b"1")
    now[0] += 1e6
    assert patient.running() is True


def test_a_speed_picks_the_entry_that_has_learnt_its_state(monkeypatch, caplog):
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    slow = PlantSignal("slow", RunningConfig(topic="plc/pump", above=100, up_to=900))
    fast = PlantSignal("fast", RunningConfig(topic="plc/pump", above=900))
    assert slow.running() is False  # nobody knows the speed yet, and the ear knows no states
    for speed, wanted in ((0, (False, False)), (900, (True, False)), (1480, (False, True))):
        for signal in (slow, fast):
            signal.take(str(speed).encode())
        assert (slow.running(), fast.running()) == wanted
    slow.take(b"500")
    now[0] += 601
    assert slow.running() is False
    assert "nothing is judged until then" in caplog.text
    assert "has not said for 10 minutes" in slow.trouble()
    with pytest.raises(ValueError, match="must lie over above"):
        RunningConfig(topic="plc/pump", above=900, up_to=900)


@pytest.mark.parametrize("topic", ["plc/+", "plc/#", ""])
def test_a_topic_is_one_topic(topic):
    with pytest.raises(ValueError, match="topic"):
        RunningConfig(topic=topic)


def test_a_topic_takes_a_broker(tmp_path, tiny_bundle):
    path = tmp_path / "agent.yaml"
    path.write_text(
        f"machines: [{{name: pump, bundle: {tiny_bundle}, running: {{topic: plc/pump}}}}]"
    )
    with pytest.raises(ConfigError, match=r"pump.*give `mqtt`"):
        load_config(path)


def decision(n, state, validity=Validity.VALID, seconds=10.0):
    window = Window(np.zeros(10, np.float32), 10 / seconds, n, seconds * n, 1e9, validity=validity)
    value = 0.1 if validity is Validity.VALID else None
    return Decision(Score(window, value), 1.0, False, Level.NORMAL, False, 1e9, state=state)


def test_an_hour_without_a_judged_window_is_told_with_its_reasons(tmp_path, caplog):
    path = watch_file(tmp_path, "pump")
    watch = JudgedWatch("pump", path)
    for n in range(360):
        assert not watch.why
        state = MachineState.IDLE if n % 4 else MachineState.CHANGING
        watch.take(decision(n, state))
    assert watch.why.startswith("no window was judged in 1.0 hours of sound: 75 % idle; 25 % start")
    assert caplog.text.count("no window was judged") == 1
    assert read_said(path) == watch.why
    for n in range(360, 1500):
        watch.take(decision(n, MachineState.UNKNOWN, Validity.CLIPPED))
    assert "% clipped" in watch.why
    assert caplog.text.count("no window was judged") == 1
    watch.take(decision(1500, MachineState.RUNNING))
    assert not watch.why
    assert not path.exists()
    assert not read_said(path)


def test_what_an_ended_agent_said_is_not_believed(tmp_path):
    path = watch_file(tmp_path, "pump")
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"wall": time.time() - 3 * 3600, "why": "x"}))
    assert not read_said(path)
    path.write_text("{")
    assert not read_said(path)


def test_doctor_says_that_nothing_is_judged(tmp_path, tiny_bundle):
    write(tmp_path / "a.wav", tone(3))
    path = tmp_path / "agent.yaml"
    path.write_text(
        yaml.safe_dump(
            {
                "state_dir": str(tmp_path / "state"),
                "machines": [
                    {
                        "name": "pump", "bundle": str(tiny_bundle),
                        "source": f"replay:{tmp_path / 'a.wav'}",
                    }
                ],
            }
        )
    )  # fmt: skip
    assert not [one for one in examine(path) if one.name == "judging of pump"]
    watch = JudgedWatch("pump", watch_file(tmp_path / "state", "pump"))
    for n in range(400):
        watch.take(decision(n, MachineState.IDLE))
    (found,) = [one for one in examine(path) if one.name == "judging of pump"]
    assert "no window was judged in 1.0 hours of sound: 100 % idle" in found.text


def test_the_plant_says_over_mqtt_that_the_machine_stands_still(tmp_path, tiny_bundle):
    write(tmp_path / "a.wav", tone(25))
    with Broker(tmp_path / "broker") as broker, Subscriber(broker.port) as heard:
        heard.client.publish("plc/pump", '{"speed": 0}', qos=1, retain=True).wait_for_publish(5)
        path = tmp_path / "agent.yaml"
        path.write_text(
            yaml.safe_dump(
                {
                    "device": "hall",
                    "state_dir": str(tmp_path / "state"),
                    "mqtt": {"host": "127.0.0.1", "port": broker.port, "health_seconds": 1},
                    "machines": [
                        {
                            "name": "pump",
                            "bundle": str(tiny_bundle),
                            "source": {
                                "kind": "replay", "paths": [str(tmp_path / "a.wav")],
                                "speed": "realtime",
                            },
                            "running": {"topic": "plc/pump", "field": "speed", "above": 100},
                        }
                    ],
                }
            )
        )  # fmt: skip
        agent = Agent(load_config(path))
        agent.prepare()
        agent.start()
        try:
            heard.wait("pump/score", lambda one: one["state"] == "idle")
            heard.publish("plc/pump", {"speed": 1480})
            idle = heard.of("pump/score")[-1]["window"]
            heard.wait("pump/score", lambda one: one["state"] == "running" and one["window"] > idle)
            heard.publish("plc/pump", {"speed": "?"})
            heard.wait("hall/health", lambda one: "understood" in str(one["machines"]))
        finally:
            agent.stop()
