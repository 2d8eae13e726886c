"""Sparkplug B on a real broker: births, data, rebirth, death; read by protobuf's own decoder."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time

import pytest
from support.broker import Broker, Subscriber

from agent.config.publish import MqttConfig
from agent.config.sparkplug import SparkplugConfig
from agent.publish.kinds import KIND
from agent.publish.sparkplug.metrics import ROWS, MachineMetrics
from agent.publish.sparkplug.node import NodeLife
from agent.publish.sparkplug.payload import (
    REBIRTH,
    DataType,
    Metric,
    asks_rebirth,
    encode_payload,
    payload_class,
)
from agent.publish.sparkplug.publisher import SparkplugPublisher
from agent.publish.telling import Telling

pytest.importorskip("google.protobuf")
TIME = "2026-01-01T00:00:01.500Z"
MILLISECONDS = 1767225601500


def score(value, zone="A", **more):
    return {
        "time": TIME, "score": value, "zone": zone, "exceeded": False, "validity": "valid",
        "state": "running", **more,
    }  # fmt: skip


def alarm(level="normal", **more):
    return {
        "time": TIME, "level": level, "acknowledged": True, "latched": False,
        "shelving": "unshelved", "alarm_id": None, "since": TIME, "reason": None,
        "level_change_db": None, **more,
    }  # fmt: skip


def read(payload):
    return payload_class().FromString(payload)


def told(payload):
    """Metrics of a payload by name or alias: value, or None for null."""
    found = {}
    for one in read(payload).metrics:
        which = one.WhichOneof("value")
        assert (which is None) == one.is_null
        found[one.name or one.alias] = None if which is None else getattr(one, which)
    return found


class Node:
    """A publisher on a broker, with all that was heard of it."""

    def __init__(self, port, state, **config) -> None:
        self.heard = Subscriber(port, "spBv1.0/#", raw=True)
        self.heard.__enter__()
        self.publisher = SparkplugPublisher(
            SparkplugConfig(group="hall", score_seconds=0, **config),
            MqttConfig(host="127.0.0.1", port=port, reconnect_max_seconds=1),
            "line-1", ("pump", "fan"), state,
        )  # fmt: skip

    def tell(self, kind, message, machine="pump"):
        self.publisher.handle(Telling(machine, None, ((KIND[kind], message),)))

    def all(self, kind="", ending="line-1"):
        return [
            (topic, payload)
            for topic, payload, _ in list(self.heard.messages)
            if topic.startswith(f"spBv1.0/hall/{kind}") and f"/{ending}" in topic
        ]

    def wait(self, kind, count=1, seconds=60):
        deadline = time.monotonic() + seconds
        while len(self.all(kind)) < count:
            assert time.monotonic() < deadline, self.heard.messages
            time.sleep(0.02)
        return self.all(kind)

    def end(self) -> None:
        self.publisher.stop()
        self.heard.__exit__()


@pytest.fixture
def broker(tmp_path):
    with Broker(tmp_path / "broker") as made:
        yield made


@pytest.fixture
def node(broker, tmp_path):
    made = []

    def begin(**config):
        one = Node(broker.port, tmp_path / "state", **config)
        one.publisher.start()
        made.append(one)
        return one

    yield begin
    for one in made:
        one.end()


def test_births_tell_every_metric_with_alias_and_data_what_changed(node):
    one = node()
    (_, nbirth), births = one.wait("NBIRTH")[0], one.wait("DBIRTH", 2)
    born = {topic.rpartition("/")[2]: payload for topic, payload in births}

    assert told(nbirth) == {"bdSeq": 0, REBIRTH: False}
    assert set(born) == {"pump", "fan"}
    assert set(told(born["pump"])) == {row.name for row in ROWS}
    aliases = {m.name: m.alias for m in read(born["pump"]).metrics}
    others = {m.alias for m in read(born["fan"]).metrics}
    assert len(set(aliases.values()) | others) == 2 * len(ROWS)

    one.tell("score", score(0.25))
    one.tell("alarm", alarm("alarm", alarm_id="a1", acknowledged=False))
    deadline = time.monotonic() + 60
    data = {}
    while aliases["Alarm/Level"] not in data:
        assert time.monotonic() < deadline
        for topic, payload in one.all("DDATA"):
            assert topic.endswith("/pump")
            assert not any(m.name or m.HasField("datatype") for m in read(payload).metrics)
            data |= told(payload)
        time.sleep(0.02)
    assert data[aliases["Score"]] == 0.25
    assert data[aliases["Alarm/Level"]] == "alarm"
    assert data[aliases["Alarm/Active"]] is True
    assert data[aliases["Alarm/Id"]] == "a1"
    assert data[aliases["Alarm/Since"]] == MILLISECONDS
    assert aliases["Alarm/Latched"] in data  # it was null before


def test_sequence_numbers_go_up_from_the_birth_and_over_255(node):
    one = node()
    one.wait("DBIRTH", 2)
    for n in range(300):
        one.tell("score", score(n / 1000))
        time.sleep(0.002)
        deadline = time.monotonic() + 60
        while one.publisher._machines["pump"]._changed and time.monotonic() < deadline:
            time.sleep(0.002)
    one.wait("DDATA", 260, 60)
    found = [read(payload).seq for topic, payload in one.all() if "DEATH" not in topic]

    assert found == [n % 256 for n in range(len(found))]


def test_rebirth_is_given_when_a_host_asks_for_it(node):
    one = node()
    one.wait("DBIRTH", 2)
    one.tell("score", score(0.5))
    one.wait("DDATA")
    command = Metric(REBIRTH, None, DataType.BOOLEAN, value=True, time=1)
    data = encode_payload([command], 1, None)
    one.heard.client.publish("spBv1.0/hall/NCMD/line-1", data, qos=0)
    births = one.wait("NBIRTH", 2)
    one.wait("DBIRTH", 4)

    assert [told(payload)["bdSeq"] for _, payload in births] == [0, 0]
    assert read(births[1][1]).seq == 0
    again = dict(one.all("DBIRTH")[2:])
    assert told(again["spBv1.0/hall/DBIRTH/line-1/pump"])["Score"] == 0.5


def test_a_command_that_is_none_changes_nothing(node):
    one = node()
    one.wait("DBIRTH", 2)
    for data in (b"\xff\xff\xff", b"", encode_payload([Metric("Else", None, DataType.BOOLEAN, value=True, time=1)], 1, 0)):  # fmt: skip
        one.heard.client.publish("spBv1.0/hall/NCMD/line-1", data, qos=0)
    one.tell("score", score(0.5))
    one.wait("DDATA")
    assert len(one.all("NBIRTH")) == 1


def test_a_broker_that_was_away_gets_births_of_the_next_number(node, broker):
    one = node()
    one.wait("DBIRTH", 2)
    broker.stop()
    one.tell("score", score(0.75))
    broker.start()
    # Births are not retained: whoever comes later than they were told asks for them.
    command = Metric(REBIRTH, None, DataType.BOOLEAN, value=True, time=1)
    deadline = time.monotonic() + 60
    while len(one.all("NBIRTH")) < 2 or len(one.all("DBIRTH")) < 4:
        assert time.monotonic() < deadline
        one.heard.client.publish("spBv1.0/hall/NCMD/line-1", encode_payload([command], 1, None))
        time.sleep(1.2)
    first, *_, last = (told(payload)["bdSeq"] for _, payload in one.all("NBIRTH"))
    # Attempts that reached no broker sent no CONNECT, and used no number up.
    assert (first, last) == (0, 1)
    again = dict(one.all("DBIRTH")[2:])
    assert told(again["spBv1.0/hall/DBIRTH/line-1/pump"])["Score"] == 0.75


def test_who_leaves_says_so_and_the_next_start_counts_on(node, broker, tmp_path):
    one = node()
    one.wait("DBIRTH", 2)
    one.publisher.stop()
    (_, death) = one.wait("NDEATH")[0]
    assert told(death) == {"bdSeq": 0}
    assert not read(death).HasField("seq")
    other = node()
    (_, birth) = other.wait("NBIRTH")[0]
    assert told(birth)["bdSeq"] == 1


def test_a_process_that_is_killed_is_dead_by_its_will(broker, tmp_path):
    import signal
    import sys

    code = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from agent.config.publish import MqttConfig\n"
        "from agent.config.sparkplug import SparkplugConfig\n"
        "from agent.publish.sparkplug.publisher import SparkplugPublisher\n"
        "p = SparkplugPublisher(SparkplugConfig(group='hall'), MqttConfig(host='127.0.0.1', port=int(sys.argv[1])), 'line-1', ('pump',), Path(sys.argv[2]))\n"
        "p.start()\n"
        "time.sleep(60)\n"
    )
    with Subscriber(broker.port, "spBv1.0/#", raw=True) as heard:
        process = subprocess.Popen([sys.executable, "-c", code, str(broker.port), tmp_path])
        deadline = time.monotonic() + 60
        while not any("DBIRTH" in topic for topic, *_ in heard.messages):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
        process.wait()
        while not any("NDEATH" in topic for topic, *_ in heard.messages):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        birth = next(payload for topic, payload, _ in heard.messages if "NBIRTH" in topic)
        death, retained = next((p, r) for topic, p, r in heard.messages if "NDEATH" in topic)
    assert told(death)["bdSeq"] == told(birth)["bdSeq"]
    assert not retained


def test_it_waits_for_its_primary_host_and_leaves_when_that_leaves(node, broker):
    one = node(primary_host="scada")
    time.sleep(1.5)
    assert one.all() == []
    state = "spBv1.0/STATE/scada"

    def say(online, at):
        told = json.dumps({"online": online, "timestamp": at})
        one.heard.client.publish(state, told, qos=1, retain=True).wait_for_publish(5)

    say(True, 10)
    one.wait("DBIRTH", 2)
    say(False, 5)  # an old word
    time.sleep(0.5)
    assert one.all("NDEATH") == []
    say(False, 11)
    one.wait("NDEATH")
    say(True, 12)
    births = one.wait("NBIRTH", 2, 30)
    numbers = [told(payload)["bdSeq"] for _, payload in births]
    assert numbers[1] != numbers[0]


def test_scores_are_told_at_their_pace_and_a_change_of_zone_at_once():
    metrics = MachineMetrics("pump", 1, 1000)
    metrics.take("score", score(0.1))
    metrics.birth()
    metrics.take("score", score(0.2))
    assert metrics.news() == []
    metrics.take("score", score(1.5, "C"))
    assert {one.value for one in metrics.news()} == {"C", 1.5}


def test_protobufs_own_decoder_reads_it():
    """`protoc --decode_raw` knows no schema: field numbers and wire types are the specification's."""
    protoc = shutil.which("protoc")
    if protoc is None:
        pytest.skip("protoc is not installed (apt-get install protobuf-compiler)")
    life = NodeLife("hall", "line-1", 7, [MachineMetrics("pump", 1, 0)])
    nbirth, dbirth = life.births()
    text = subprocess.run(
        [protoc, "--decode_raw"], input=nbirth.payload, capture_output=True, check=True
    ).stdout.decode()
    fields = re.sub(r"\s+", " ", text)

    assert re.search(r'2 \{ 1: "bdSeq" 3: \d+ 4: 4 11: 7 \}', fields), fields
    assert re.search(r'2 \{ 1: "Node Control/Rebirth" 3: \d+ 4: 11 14: 0 \}', fields), fields
    assert fields.rstrip().endswith("3: 0")
    text = subprocess.run(
        [protoc, "--decode_raw"], input=dbirth.payload, capture_output=True, check=True
    ).stdout.decode()
    assert re.search(r'1: "Score" 2: 1 3: \d+ 4: 9 7: 1', re.sub(r"\s+", " ", text)), text


def test_what_asks_for_a_rebirth():
    yes = Metric(REBIRTH, None, DataType.BOOLEAN, value=True, time=1)
    no = Metric(REBIRTH, None, DataType.BOOLEAN, value=False, time=1)
    assert asks_rebirth(encode_payload([no, yes], 1, 0))
    assert not asks_rebirth(encode_payload([no], 1, 0))
    with pytest.raises(ValueError, match=r"."):
        asks_rebirth(b"\xff\xff\xff")
