"""A Sparkplug host of other hands reads the agent's node: Eclipse Tahu's own message classes.

`mqtt-spb-wrapper` (EPL-2.0) has them. It wants other versions of paho and protobuf than auscult, so it
runs in an environment of its own, which is made for the test, or named by $AUSCULT_SPARKPLUG_HOST.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.broker import Broker

from agent.config.publish import MqttConfig
from agent.config.sparkplug import SparkplugConfig
from agent.publish.kinds import KIND
from agent.publish.sparkplug.metrics import ROWS
from agent.publish.sparkplug.publisher import SparkplugPublisher
from agent.publish.telling import Telling

pytestmark = pytest.mark.slow
TIME = "2026-01-01T00:00:01.500Z"
HOST = r"""
import json, sys, time
import paho.mqtt.client as paho
from mqtt_spb_wrapper.mqtt_spb_entity_scada import MqttSpbEntityScada
from mqtt_spb_wrapper.spb_protobuf.sparkplug_b_pb2 import Payload

def told(client, data, message):
    if message.topic.startswith("spBv1.0/hall/N") or message.topic.startswith("spBv1.0/hall/D"):
        payload = Payload()
        payload.ParseFromString(message.payload)
        metrics = [
            {"name": m.name, "alias": m.alias, "type": m.datatype, "null": m.is_null,
             "value": getattr(m, m.WhichOneof("value")) if m.WhichOneof("value") else None}
            for m in payload.metrics
        ]
        print(json.dumps({"topic": message.topic, "seq": payload.seq if payload.HasField("seq") else None,
                          "metrics": metrics}), flush=True)

client = paho.Client("listener")
client.on_message = told
client.on_connect = lambda c, *_: c.subscribe("spBv1.0/#")
client.connect("127.0.0.1", int(sys.argv[1]))
client.loop_start()
scada = MqttSpbEntityScada("hall", "scada")
assert scada.connect("127.0.0.1", int(sys.argv[1]))
print(json.dumps({"topic": "ready", "metrics": []}), flush=True)
for line in sys.stdin:
    if line.strip() == "rebirth":
        scada.send_command("Node Control/Rebirth", True, "line-1")
    if line.strip() == "values":
        device = scada.get_edge_device("line-1", "pump")
        print(json.dumps({"topic": "values", "metrics": [], "values": {n: device.data.get_value(n) for n in ("Score", "Zone")}}), flush=True)
"""


@pytest.fixture(scope="module")
def host_python(tmp_path_factory) -> Path:
    if (named := os.environ.get("AUSCULT_SPARKPLUG_HOST")) is not None:
        return Path(named)
    place = tmp_path_factory.mktemp("host")
    subprocess.run([sys.executable, "-m", "venv", place], check=True)
    done = subprocess.run(
        [place / "bin/python", "-m", "pip", "install", "-q", "mqtt-spb-wrapper==2.1.2"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        pytest.skip(f"mqtt-spb-wrapper could not be installed: {done.stderr.strip()[-200:]}")
    return place / "bin/python"


class Host:
    """The host's process; what it read, in order."""

    def __init__(self, python: Path, port: int) -> None:
        self.process = subprocess.Popen(
            [python, "-c", HOST, str(port)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        os.set_blocking(self.process.stdout.fileno(), False)
        self.read: list[dict] = []
        self._rest = ""

    def ask(self, word: str) -> None:
        self.process.stdin.write(word + "\n")
        self.process.stdin.flush()

    def wait(self, topic: str, count: int = 1, seconds: float = 40) -> list[dict]:
        deadline = time.monotonic() + seconds
        while True:
            found = [one for one in self.read if one["topic"] == topic]
            if len(found) >= count:
                return found
            assert time.monotonic() < deadline, self.read
            try:
                self._rest += os.read(self.process.stdout.fileno(), 1 << 20).decode()
            except BlockingIOError:
                time.sleep(0.05)
            *lines, self._rest = self._rest.split("\n")
            self.read += [json.loads(line) for line in lines if line.startswith("{")]


@pytest.mark.parametrize("aliases", [True, False])
def test_tahus_classes_read_births_data_and_death_and_a_host_asks_for_rebirth(
    host_python, tmp_path, aliases
):
    with Broker(tmp_path / "broker") as broker:
        host = Host(host_python, broker.port)
        host.wait("ready")
        node = SparkplugPublisher(
            SparkplugConfig(group="hall", score_seconds=0, aliases=aliases),
            MqttConfig(host="127.0.0.1", port=broker.port), "line-1", ("pump",), tmp_path,
        )  # fmt: skip
        node.start()
        try:
            (birth,) = host.wait("spBv1.0/hall/NBIRTH/line-1")
            (device,) = host.wait("spBv1.0/hall/DBIRTH/line-1/pump")
            assert birth["seq"] == 0
            assert device["seq"] == 1
            assert [one["name"] for one in birth["metrics"]] == ["bdSeq", "Node Control/Rebirth"]
            assert [one["name"] for one in device["metrics"]] == [row.name for row in ROWS]
            assert [one["type"] for one in device["metrics"]] == [row.type for row in ROWS]
            assert all(one["null"] for one in device["metrics"])

            host.ask("rebirth")
            again = host.wait("spBv1.0/hall/DBIRTH/line-1/pump", 2)[1]
            assert again["seq"] == 1
            message = {
                "time": TIME, "score": 1.5, "zone": "C", "exceeded": True, "validity": "valid",
                "state": "running",
            }  # fmt: skip
            node.handle(Telling("pump", None, ((KIND["score"], message),)))
            (data, *_) = host.wait("spBv1.0/hall/DDATA/line-1/pump")
            key = "alias" if aliases else "name"
            where = {one["name"]: one[key] for one in again["metrics"]}
            values = {one[key]: one["value"] for one in data["metrics"]}
            assert values[where["Score"]] == 1.5
            assert values[where["Zone"]] == "C"
            assert data["seq"] == 2
            assert all(bool(one["name"]) is not aliases for one in data["metrics"])
            if not aliases:  # which this host, as a whole, knows nothing of
                host.ask("values")
                known = host.wait("values")[0]["values"]
                assert known == {"Score": 1.5, "Zone": "C"}
        finally:
            node.stop()
        (death,) = host.wait("spBv1.0/hall/NDEATH/line-1")
        assert death["seq"] is None
        assert [(one["name"], one["value"]) for one in death["metrics"]] == [("bdSeq", 0)]
        host.process.kill()
        host.process.wait()
