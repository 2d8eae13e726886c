"""`auscult run` as a Sparkplug edge node, held to the specification by a host application."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import threading
import time

import paho.mqtt.client as paho
import pytest
import yaml
from paho.mqtt.enums import CallbackAPIVersion
from support.broker import Broker
from support.bundles import FAULTY_HZ, build_bundle, tone, write
from support.sparkplug_rules import Host

from agent.publish.sparkplug.payload import REBIRTH, DataType, Metric, encode_payload

pytestmark = pytest.mark.slow
pytest.importorskip("google.protobuf")


class Listener:
    """A client that hands all that it hears to a host; what breaks a rule is kept."""

    def __init__(self, port: int) -> None:
        self.host = Host("hall", "line-1")
        self.faults: list[str] = []
        self.topics: list[str] = []
        self._lock = threading.Lock()
        self.client = paho.Client(CallbackAPIVersion.VERSION2)
        self.client.on_connect = lambda client, *_: client.subscribe("spBv1.0/#", qos=1)
        self.client.on_message = self._heard
        self.client.reconnect_delay_set(1, 1)
        self.client.connect("127.0.0.1", port)
        self.client.loop_start()

    def _heard(self, _client, _data, message) -> None:
        with self._lock:
            self.topics.append(message.topic)
            try:
                self.host.hear(
                    message.topic, message.payload, retained=message.retain, qos=message.qos
                )
            except Exception as fault:  # noqa: BLE001 - told by `wait`
                self.faults.append(f"{message.topic}: {type(fault).__name__}: {fault}")

    def ask_rebirth(self) -> None:
        asked = Metric(REBIRTH, None, DataType.BOOLEAN, value=True, time=1)
        self.client.publish("spBv1.0/hall/NCMD/line-1", encode_payload([asked], 1, None), qos=1)

    def wait(self, wanted, seconds=60.0) -> None:
        deadline = time.monotonic() + seconds
        while not wanted(self.host):
            assert time.monotonic() < deadline, (self.host, self.topics[-20:])
            assert not self.faults, self.faults
            time.sleep(0.02)
        assert not self.faults, self.faults


def test_an_agent_keeps_to_the_rules_through_rebirths_a_kill_and_a_farewell(tmp_path):
    build_bundle(tmp_path / "pump.bundle")
    write(tmp_path / "sound.wav", [*tone(3), *tone(3, FAULTY_HZ), *tone(3)])
    with Broker(tmp_path / "broker") as broker:
        source = {"kind": "replay", "paths": [str(tmp_path / "sound.wav")], "loop": True}
        (tmp_path / "agent.yaml").write_text(yaml.safe_dump({
            "device": "line-1", "state_dir": "state", "evidence": {"enabled": False},
            "machines": [
                {"name": name, "bundle": "pump.bundle", "source": source} for name in ("pump", "fan")
            ],
            "mqtt": {"host": "127.0.0.1", "port": broker.port},
            "sparkplug": {"group": "hall", "score_seconds": 0},
        }))  # fmt: skip
        heard = Listener(broker.port)
        begun: list[subprocess.Popen[bytes]] = []

        def begin() -> subprocess.Popen[bytes]:
            with (tmp_path / "log").open("ab") as log:
                begun.append(subprocess.Popen(
                    [sys.executable, "-m", "agent.cli", "run", "--config", tmp_path / "agent.yaml"],
                    stdout=log, stderr=log,
                ))  # fmt: skip
            return begun[-1]

        try:
            first = begin()
            heard.wait(lambda host: set(host.devices) == {"pump", "fan"})
            heard.wait(lambda host: host.values["pump"].get("Exceeded") is True)
            heard.wait(lambda host: host.seq >= 12)
            for births in (2, 3):  # the second within the least step between two
                heard.ask_rebirth()
                heard.wait(lambda host, births=births: host.births == births)
            heard.wait(lambda host: set(host.devices) == {"pump", "fan"} and host.seq >= 5)
            first.send_signal(signal.SIGKILL)
            heard.wait(lambda host: host.deaths == 1)
            second = begin()
            heard.wait(lambda host: host.births == 4 and host.seq >= 5)
            second.send_signal(signal.SIGTERM)
            assert second.wait(30) == 0
            heard.wait(lambda host: host.deaths == 2)
        finally:
            for process in begun:
                process.kill()
                process.wait()
            heard.client.disconnect()
            heard.client.loop_stop()
        log = (tmp_path / "broker/mosquitto.log").read_text()
    assert heard.host.numbers == [0, 1]
    # [tck-id-message-flow-edge-node-ncmd-subscribe]: before the birth, with QoS 1; the last will
    # with QoS 1, not retained; a session of its own each time.
    node = re.escape("auscult-line-1-sparkplug")
    asked = re.search(
        rf"Received SUBSCRIBE from {node}\n\S+ \tspBv1.0/hall/NCMD/line-1 \(QoS 1\)", log
    )
    born = re.search(rf"Received PUBLISH from {node} .*NBIRTH", log)
    assert asked, log[:4000]
    assert asked.start() < born.start()
    assert re.search(r"Will message specified \(\d+ bytes\) \(r0, q1\)", log)
    assert re.search(rf"New client connected from \S+ as {node} \(p\d, c1", log)
