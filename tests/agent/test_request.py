"""Commands: only a whole, valid one reaches a handler, once; every one is answered."""

from __future__ import annotations

import json
import threading
import time

import paho.mqtt.client as paho
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from support.broker import Broker, Subscriber

from agent.config.decide import DecideConfig
from agent.config.publish import MqttConfig
from agent.core.cloud_event import encode
from agent.core.errors import AuscultError
from agent.decide.alarm import AlarmDecider
from agent.decide.service import AlarmService
from agent.publish.mqtt import MqttPublisher
from agent.publish.payloads import Response
from agent.request.alarms import alarm_handlers
from agent.request.commands import COMMANDS
from agent.request.dispatch import MAX_BYTES, Dispatcher

ACK = {"transaction": "t1", "machine": "pump"}


class Desk:
    """A dispatcher whose handlers note what they are given."""

    def __init__(self, commands=("ack", "shelve"), handler=None):
        self.done, self.answers = [], []
        self._new = threading.Condition()

        def note(fields):
            self.done.append(fields)
            return {"carried": "out"}

        handlers = dict.fromkeys(commands, handler or note)
        self.dispatcher = Dispatcher("dev", ["pump", "fan"], handlers, self.respond)
        self.dispatcher.start()

    def respond(self, command, answer):
        encode(answer)
        with self._new:
            self.answers.append((command, Response.model_validate(answer)))
            self._new.notify_all()

    def ask(self, command, payload, *, retained=False):
        if not isinstance(payload, bytes):
            payload = json.dumps(payload).encode()
        with self._new:
            before = len(self.answers)
            self.dispatcher.take(command, payload, retained=retained)
            assert self._new.wait_for(lambda: len(self.answers) > before, 5)
            return self.answers[before][1]


@pytest.fixture
def desk():
    made = []

    def make(**options):
        made.append(Desk(**options))
        return made[-1]

    yield make
    for one in made:
        one.dispatcher.stop()


def test_a_valid_command_reaches_its_handler_with_all_fields(desk):
    one = desk()
    answer = one.ask("ack", {**ACK, "operator": "A. Meier"})
    assert one.done == [
        {**ACK, "operator": "A. Meier", "comment": "", "alarm_id": None},
    ]
    assert (answer.status, answer.transaction, answer.command) == ("ok", "t1", "ack")
    assert (answer.result, answer.error) == ({"carried": "out"}, None)


@pytest.mark.parametrize(
    ("command", "payload", "words", "transaction"),
    [
        ("explode", ACK, "no command 'explode'. Commands are: ack, shelve", "t1"),
        ("reload", ACK, "no command 'reload'", "t1"),  # known, but nobody carries it out here
        ("ack", b"", "not JSON", None),
        ("ack", b"\xff\xfe", "not JSON", None),
        ("ack", b"[" * 5000, "not JSON", None),
        ("ack", b'{"transaction": NaN}', "not JSON", None),
        ("ack", b"[]", "names with values", None),
        ("ack", {"machine": "pump"}, "transaction: is missing", None),
        (
            "ack",
            {**ACK, "transaction": "a b"},
            "transaction: should be 1 to 64 letters, digits",
            "a b",
        ),
        ("ack", {**ACK, "transaction": "x" * 65}, "transaction: should be 1 to 64 letters", None),
        ("ack", {"transaction": "t1"}, "machine: is missing", "t1"),
        ("ack", {**ACK, "machine": "lathe"}, "no machine 'lathe' here. Machines are: pump", "t1"),
        ("ack", {**ACK, "force": True}, "force: there is no such field", "t1"),
        ("ack", {**ACK, "comment": "x" * 1001}, "comment: ", "t1"),
        ("shelve", ACK, "seconds: is missing", "t1"),
        ("shelve", {**ACK, "seconds": -1}, "seconds: ", "t1"),
        ("shelve", {**ACK, "seconds": "soon"}, "seconds: ", "t1"),
        ("ack", b"x" * (MAX_BYTES + 1), f"at most {MAX_BYTES}", None),
    ],
)
def test_what_cannot_be_understood_is_answered_and_changes_nothing(
    desk, command, payload, words, transaction
):
    one = desk()
    answer = one.ask(command, payload)
    assert answer.status == "error"
    assert words in answer.error
    assert answer.transaction == transaction
    assert one.done == []
    assert one.ask("ack", {**ACK, "transaction": "t2"}).status == "ok"


def test_a_retained_request_is_refused(desk):
    one = desk()
    assert "retained" in one.ask("ack", ACK, retained=True).error
    assert one.done == []


def test_a_transaction_is_carried_out_once_and_answered_alike(desk):
    one = desk()
    first = one.ask("ack", ACK)
    assert one.ask("ack", ACK) == first
    assert len(one.done) == 1
    other = one.ask("shelve", {**ACK, "seconds": 60})
    assert "was used for another command" in other.error
    assert len(one.done) == 1
    for n in range(300):  # the memory is bounded
        one.ask("ack", {**ACK, "transaction": f"n{n}"})
    one.ask("ack", ACK)
    assert len(one.done) == 302


def test_a_refusal_is_told_in_its_words_and_not_tried_again(desk):
    tries = []

    def refuse(fields):
        tries.append(fields)
        raise AuscultError("there is no alarm to acknowledge", remedy="It may have cleared.")

    one = desk(handler=refuse)
    for _ in range(2):
        answer = one.ask("ack", ACK)
        assert answer.error == "there is no alarm to acknowledge. It may have cleared."
    assert len(tries) == 1


@pytest.mark.parametrize("result", [{"x": object()}, ZeroDivisionError()])
def test_a_handlers_mistake_is_an_error_and_the_next_command_is_served(desk, result, caplog):
    def handler(fields):
        if fields["transaction"] == "t1":
            if isinstance(result, Exception):
                raise result
            return result
        return {}

    one = desk(handler=handler)
    answer = one.ask("ack", ACK)
    assert "the agent failed to carry it out" in answer.error
    assert "Traceback" in caplog.text
    assert one.ask("ack", {**ACK, "transaction": "t2"}).status == "ok"


def test_too_many_at_once_are_refused_not_queued_without_end(desk):
    go = threading.Event()
    one = desk(handler=lambda _: go.wait(10) and {})
    for n in range(50):
        one.dispatcher.take("ack", json.dumps({**ACK, "transaction": f"n{n}"}).encode())
    refused = [answer for _, answer in one.answers if "wait already" in (answer.error or "")]
    assert len(refused) in (17, 18)  # one may have left the queue already
    go.set()
    deadline = time.monotonic() + 60
    while len(one.answers) < 50 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert len(one.answers) == 50


def test_what_waits_at_the_end_is_answered(desk):
    go = threading.Event()
    one = desk(handler=lambda _: go.wait(10) and {})
    for n in range(5):
        one.dispatcher.take("ack", json.dumps({**ACK, "transaction": f"n{n}"}).encode())
    time.sleep(0.1)
    threading.Timer(0.2, go.set).start()
    one.dispatcher.stop()
    one.dispatcher.take("ack", b"{}")
    assert [answer.status for _, answer in one.answers].count("ok") == 1
    assert sum("stopping" in (answer.error or "") for _, answer in one.answers) == 5


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
ALMOST = st.fixed_dictionaries(
    {},
    optional={
        "transaction": st.text(max_size=5) | JSON,
        "machine": st.sampled_from(["pump", "fan", "x"]) | JSON,
        "seconds": st.floats() | JSON,
        "alarm_id": JSON,
        "label": st.sampled_from(["idle", "x"]),
        "verdict": st.sampled_from(["normal", "x"]),
    },
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    command=st.sampled_from([*COMMANDS, "", "x", "\x00", "long" * 50]) | st.text(max_size=10),
    payload=st.binary(max_size=60) | (JSON | ALMOST).map(lambda data: json.dumps(data).encode()),
)
def test_whatever_arrives_there_is_one_answer_and_a_handler_sees_only_valid_fields(
    fuzzed, command, payload
):
    before = len(fuzzed.done)
    answer = fuzzed.ask(command, payload)
    if len(fuzzed.done) > before:
        fields = fuzzed.done[-1]
        assert fields["machine"] in ("pump", "fan")
        assert COMMANDS[command].model_validate(fields)
    else:
        assert answer.status == "error" or answer.transaction


@pytest.fixture(scope="module")
def fuzzed():
    one = Desk(commands=tuple(COMMANDS))
    yield one
    one.dispatcher.stop()


class Asker:
    """Publishes requests as an operator's tool would."""

    def __init__(self, port):
        self.client = paho.Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv5)
        self.client.connect("127.0.0.1", port)
        self.client.loop_start()

    def ask(self, command, payload, *, retain=False):
        if not isinstance(payload, bytes):
            payload = json.dumps(payload).encode()
        topic = f"auscult/dev/request/{command}"
        self.client.publish(topic, payload, qos=1, retain=retain).wait_for_publish(5)

    def stop(self):
        self.client.disconnect()
        self.client.loop_stop()


@pytest.mark.parametrize("version", ["5", "3.1.1"])
def test_commands_over_a_real_broker(tmp_path, version):
    """Also one sent while the agent is away, which the persistent session keeps."""
    with Broker(tmp_path / "broker") as broker, Subscriber(broker.port) as live:
        keeper = AlarmService(AlarmDecider(DecideConfig(), 0.5), lambda _: None)
        publishers = []

        def begin():
            config = MqttConfig(host="127.0.0.1", port=broker.port, version=version)
            publisher = MqttPublisher(config, "dev", ["pump"], tmp_path / "outbox")
            dispatcher = Dispatcher(
                "dev", ["pump"], alarm_handlers({"pump": keeper}.get), publisher.respond
            )
            publisher.listen_to(dispatcher)
            publisher.start()
            dispatcher.start()
            publishers.append((publisher, dispatcher))
            assert publisher.wait_connected(5)

        def end():
            publisher, dispatcher = publishers.pop()
            dispatcher.stop()
            publisher.stop()

        asker = Asker(broker.port)
        try:
            begin()
            live.wait("status", lambda m: m["status"] == "online")
            time.sleep(0.2)
            asker.ask("mute", {**ACK, "seconds": 60, "operator": "me"})
            answer = live.wait("response/mute")
            assert (answer["status"], answer["transaction"]) == ("ok", "t1")
            assert answer["result"]["muted_until"]
            assert keeper.status.muted_until_wall
            asker.ask("ack", {**ACK, "transaction": "t2"})
            assert "no alarm to acknowledge" in live.wait("response/ack")["error"]
            asker.ask("ack", b"x" * (MAX_BYTES + 1))
            live.wait("response/ack", lambda m: "at most" in m["error"])
            asker.ask("ack", b"no JSON")
            live.wait("response/ack", lambda m: "not JSON" in m["error"])
            asker.ask("format", ACK)
            assert live.wait("response/format")["status"] == "error"
            end()
            asker.ask("mute", {"transaction": "t3", "machine": "pump", "seconds": 0})
            begin()
            answer = live.wait("response/mute", lambda m: m["transaction"] == "t3")
            assert answer["status"] == "ok"
            assert keeper.status.muted_until_wall is None
        finally:
            asker.stop()
            while publishers:
                end()
