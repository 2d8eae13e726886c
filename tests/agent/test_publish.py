"""Messages reach a real broker, whatever it does meanwhile."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support.broker import Broker, Subscriber, free_port
from support.told import tell

from agent.config.publish import JsonlConfig, MqttConfig
from agent.core.clock import utc
from agent.core.cloud_event import encode
from agent.core.errors import ConfigError
from agent.core.records import (
    AlarmEvent,
    AlarmStatus,
    Decision,
    EventKind,
    Level,
    MachineState,
    Score,
    Validity,
    Window,
)
from agent.core.scale import Scale
from agent.core.tls import TlsConfig
from agent.publish.jsonl import JsonlPublisher
from agent.publish.mqtt import MqttPublisher
from agent.publish.mqtt_message import MqttMessage


def window_at(index, *, valid=True):
    validity, reason = (Validity.VALID, "") if valid else (Validity.SILENT, "dead")
    return Window(
        np.zeros(8000, np.float32), 8000, index, float(index), 1e9 + index, validity, reason, "mic"
    )


def decision(index=0, level=Level.NORMAL, *, value=0.5, status=None):
    window = window_at(index, valid=value is not None)
    score = Score(window, value, None if value is None else 3, 0.01)
    status = status or AlarmStatus(level, 1e9)
    return Decision(
        score,
        0.4,
        exceeded=bool(value and value > 0.4),
        level=level,
        changed=False,
        since_wall=1e9,
        state=MachineState.RUNNING,
        status=status,
        scale=Scale(median=0.2, threshold=0.4, usual=0.3, severe=0.9),
    )


def event(kind, index, alarm_id):
    """As the decider makes them."""
    risen = kind is EventKind.RAISED
    status = AlarmStatus(
        Level.ALARM if risen else Level.NORMAL, 1e9 + index, alarm_id if risen else "", not risen
    )
    window = window_at(index)
    return AlarmEvent(
        f"{alarm_id}-{kind.value}",
        kind,
        alarm_id,
        window.end_wall,
        status,
        Level.NORMAL if risen else Level.ALARM,
        0.4,
        0.5,
        index,
        window.wall,
        window.seconds,
        window.origin,
    )


def raised(index, alarm_id):
    return event(EventKind.RAISED, index, alarm_id)


def cleared(index, alarm_id):
    return event(EventKind.CLEARED, index, alarm_id)


@pytest.fixture
def publisher_on(tmp_path):
    made = []

    def make(port, **config):
        folder = tmp_path / f"outbox-{config.get('client_id', 'dev')}"
        publisher = MqttPublisher(
            MqttConfig(host="127.0.0.1", port=port, **config), "dev", ["pump"], folder
        )
        made.append(publisher)
        publisher.start()
        return publisher

    yield make
    for publisher in made:
        publisher.stop()


def test_topics_payloads_and_retention(broker, publisher_on):
    with Subscriber(broker.port) as live:
        publisher = publisher_on(broker.port)
        assert publisher.wait_connected(5)
        tell(publisher, decision(0))
        tell(publisher, decision(1, value=None))
        tell(publisher, raised(2, "a1"))
        live.wait("pump/event")
        live.wait("pump/alarm", lambda m: m["level"] == "alarm")
        tell(publisher, decision(3, Level.ALARM))
        live.wait("pump/score", lambda m: m["window"] == 3)
        assert live.of("auscult/dev/status")[0]["status"] == "online"
        ok, invalid, _ = live.of("auscult/dev/pump/score")
        assert (ok["raw_score"], ok["exceeded"], ok["validity"], ok["raw_threshold"]) == (
            0.5,
            True,
            "valid",
            0.4,
        )
        assert (ok["score"], ok["zone"], ok["threshold"]) == (pytest.approx(1.5), "C", 1.0)
        assert (invalid["score"], invalid["validity"], invalid["reason"]) == (
            None,
            "silent",
            "dead",
        )
        (event,) = live.of("pump/event")
        data = event["data"]
        assert (data["event"], event["id"], data["alarm_id"]) == ("raised", "a1-raised", "a1")
        assert event["time"] == utc(1e9 + 3)
    with Subscriber(broker.port) as late:
        late.wait("dev/pump/alarm")
        late.wait("dev/status")
        time.sleep(0.3)
        assert {(topic, retain) for topic, _, retain in late.messages} == {
            ("auscult/dev/pump/alarm", True),
            ("auscult/dev/status", True),
        }


def test_telemetry_waits_where_it_is_bounded_while_the_link_is_slow(broker, publisher_on):
    publisher = publisher_on(broker.port)
    assert publisher.wait_connected(5)
    outbox = publisher.outbox
    broker.send_signal(signal.SIGSTOP)  # takes nothing more, as a link that is full
    try:
        for _ in range(200):
            outbox.put_telemetry(MqttMessage("auscult/dev/pump/score", bytes(200_000), 0, False))
        time.sleep(1)
        assert len(outbox.telemetry) > 100
        tell(publisher, raised(1, "a1"))
        time.sleep(0.5)
        assert len(outbox.telemetry) > 100
    finally:
        broker.send_signal(signal.SIGCONT)
    deadline = time.monotonic() + 30
    while outbox.telemetry or outbox.pending_events():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_clean_stop_says_offline_and_a_lost_agent_is_declared_lost(broker, publisher_on):
    with Subscriber(broker.port) as live:
        publisher = publisher_on(broker.port)
        live.wait("status", lambda m: m["status"] == "online")
        publisher.stop()
        assert live.wait("status", lambda m: m["status"] == "offline")["reason"] == "stopped"
        second = publisher_on(broker.port)
        assert second.wait_connected(5)
        time.sleep(0.3)
        live.messages.clear()
        # The process dies: its socket closes without a farewell.
        second.sender._finish = lambda: None
        second.stop()
        assert live.wait("status")["reason"] == "connection lost"


def test_events_of_an_outage_arrive_in_order_once_it_ends(broker, publisher_on, caplog):
    publisher = publisher_on(broker.port, reconnect_max_seconds=1)
    assert publisher.wait_connected(5)
    tell(publisher, decision(0))
    time.sleep(0.3)
    broker.stop()
    expected = []
    for n in range(30):
        tell(publisher, raised(2 * n, f"a{n}"))
        tell(publisher, cleared(2 * n + 1, f"a{n}"))
        expected += [f"a{n}-raised", f"a{n}-cleared"]
    time.sleep(1)
    assert "60 alarm events waiting" in publisher.state()
    assert "broker away" in publisher.state()
    broker.start()
    with Subscriber(broker.port) as live:
        live.wait("event", lambda m: m["id"] == expected[-1])
        ids = list(dict.fromkeys(message["id"] for message in live.of("event")))
        # The subscriber came at the same time: whatever it heard is the ordered end of the list.
        assert ids == expected[-len(ids) :]
    deadline = time.monotonic() + 60
    while publisher.state() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert publisher.state() == ""
    assert "again in 1 s" in caplog.text


def test_no_event_is_lost_over_restarts_under_load(tmp_path, publisher_on):
    """A persistent subscriber hears every event although the broker is killed in between."""
    lines = (
        "allow_anonymous true",
        "persistence true",
        f"persistence_location {tmp_path}/",
        "autosave_interval 1",
        "autosave_on_changes true",
    )
    # The listener has a session: it may come back later than the publisher does.
    with (
        Broker(tmp_path / "broker", lines) as broker,
        Subscriber(broker.port, session="control-room") as live,
    ):
        publisher = publisher_on(broker.port, reconnect_max_seconds=1)
        assert publisher.wait_connected(5)

        def load():
            for n in range(400):
                tell(publisher, raised(n, f"a{n}"))
                time.sleep(0.01)

        thread = threading.Thread(target=load)
        thread.start()
        for _ in range(2):
            time.sleep(0.3)
            broker.stop()
            time.sleep(0.2)
            broker.start()
            deadline = time.monotonic() + 60
            while publisher.state() and time.monotonic() < deadline:
                time.sleep(0.05)
        thread.join()
        deadline = time.monotonic() + 60
        while publisher.outbox.pending_events() and time.monotonic() < deadline:
            time.sleep(0.05)
        assert publisher.outbox.pending_events() == 0
        live.wait("event", lambda m: m["id"] == "a399-raised")
        assert publisher.sender.connections == 3
        ids = [message["id"] for message in live.of("event")]
        assert sorted(set(ids), key=ids.index) == sorted(set(ids), key=lambda i: int(i[1:-7]))


RAISER = """
import sys, time
from pathlib import Path
import tests_path  # noqa: F401
from support.told import tell
from test_publish import raised
from agent.config.publish import MqttConfig
from agent.publish.mqtt import MqttPublisher
from agent.publish.mqtt_message import MqttMessage
port, folder, first = int(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
config = MqttConfig(host="127.0.0.1", port=port, reconnect_max_seconds=1)
publisher = MqttPublisher(config, "dev", ["pump"], folder)
publisher.start()
for n in range(first, first + 100_000):
    tell(publisher, raised(n, f"a{n}"))
    print(n, flush=True)
    time.sleep(0.002)
"""


def test_killed_at_any_instant_beside_a_broker_that_comes_and_goes_no_event_is_lost(tmp_path):
    """Every event that `tell` has returned from is heard, in order, whatever dies when."""
    here = Path(__file__).parent
    (tmp_path / "tests_path.py").write_text(
        f"import sys; sys.path[:0] = {[str(here), str(here.parent)]}"
    )
    chance, told, first = random.Random(3), [], 0
    lines = (
        "allow_anonymous true",
        "persistence true",
        f"persistence_location {tmp_path}/",
        "max_queued_messages 0",
    )
    with (
        Broker(tmp_path / "broker", lines) as broker,
        Subscriber(broker.port, session="control-room") as live,
    ):
        for run in range(6):
            process = subprocess.Popen(
                [sys.executable, "-c", RAISER, str(broker.port), tmp_path / "outbox", str(first)],
                stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(tmp_path)},
            )  # fmt: skip
            found = [process.stdout.readline()]
            if run % 2:
                broker.stop()
            # Counted, not timed: a busy machine tells less in the same time.
            found += [process.stdout.readline() for _ in range(chance.randint(10, 60))]
            time.sleep(chance.uniform(0.0, 0.02))
            process.kill()
            found += process.stdout.read().splitlines(keepends=True)
            process.wait()
            told += [int(line) for line in found if line.endswith("\n")]
            first = told[-1] + 2
            if run % 2:
                broker.start()
        last = MqttPublisher(
            MqttConfig(host="127.0.0.1", port=broker.port), "dev", ["pump"], tmp_path / "outbox"
        )
        last.start()
        deadline = time.monotonic() + 60
        while last.outbox.pending_events() and time.monotonic() < deadline:
            time.sleep(0.05)
        last.stop()
        live.wait("event", lambda m: m["id"] == f"a{told[-1]}-raised")
        heard = [int(message["id"][1:-7]) for message in live.of("event")]
    assert len(told) > 100
    assert not set(told) - set(heard)
    # In order, but for what is heard again.
    firsts = list(dict.fromkeys(heard))
    assert firsts == sorted(firsts)


def test_an_event_that_the_broker_refuses_is_kept_until_it_is_let_in(
    tmp_path, publisher_on, caplog, monkeypatch
):
    monkeypatch.setattr("agent.publish.outbox._REFUSED_SECONDS", 0.3)
    acl = tmp_path / "acl"
    acl.write_text("topic read #\ntopic write auscult/dev/status\n")
    lines = ("allow_anonymous true", f"acl_file {acl}")
    with Broker(tmp_path / "broker", lines) as broker, Subscriber(broker.port) as live:
        publisher = publisher_on(broker.port, reconnect_max_seconds=1)
        assert publisher.wait_connected(5)
        tell(publisher, raised(0, "a"))
        deadline = time.monotonic() + 60
        while "The alarm event is kept" not in caplog.text and time.monotonic() < deadline:
            time.sleep(0.05)
        assert "The alarm event is kept and offered again" in caplog.text
        assert publisher.outbox.pending_events() == 1
        acl.write_text("topic readwrite #\n")
        broker.reload()
        live.wait("pump/event", lambda m: m["id"] == "a-raised")
        deadline = time.monotonic() + 60
        while publisher.outbox.pending_events() and time.monotonic() < deadline:
            time.sleep(0.05)
        assert publisher.outbox.pending_events() == 0


def test_an_event_larger_than_the_broker_takes_holds_no_other_up(tmp_path, publisher_on, caplog):
    lines = ("allow_anonymous true", "max_packet_size 3000")
    with Broker(tmp_path / "broker", lines) as broker, Subscriber(broker.port) as live:
        publisher = publisher_on(broker.port)
        assert publisher.wait_connected(5)
        tell(publisher, replace(raised(0, "a"), note="x" * 4000))
        tell(publisher, raised(1, "b"))
        live.wait("pump/event", lambda m: m["id"] == "b-raised")
        assert publisher.sender.connections == 1
        assert publisher.outbox.pending_events() >= 1  # kept, should the limit be raised
        assert "the broker takes 3000 at most" in caplog.text


def test_score_health_and_event_bear_their_mqtt_5_properties(broker, publisher_on):
    seen = {}
    with Subscriber(broker.port) as live:
        hear = live.client.on_message
        live.client.on_message = lambda c, d, m: (
            seen.__setitem__(m.topic.rpartition("/")[2], m.properties),
            hear(c, d, m),
        )
        publisher = publisher_on(broker.port, score_expiry_seconds=7)
        publisher.tell_about(dict, list)
        assert publisher.wait_connected(5)
        tell(publisher, raised(0, "a"))
        tell(publisher, decision(0))
        live.wait("event")
        live.wait("score")
        live.wait("health")
    assert seen["score"].MessageExpiryInterval == 7
    assert seen["health"].MessageExpiryInterval == 180
    assert seen["event"].ContentType == "application/cloudevents+json"
    assert not hasattr(seen["alarm"], "MessageExpiryInterval")
    assert not hasattr(seen["event"], "MessageExpiryInterval")


def test_an_absent_broker_costs_the_caller_nothing_and_the_log_a_line_a_step(publisher_on, caplog):
    publisher = publisher_on(free_port(), reconnect_max_seconds=2)
    began = time.monotonic()
    for n in range(1000):
        tell(publisher, decision(n))
    # Waiting for one attempt to connect each would take a thousand times the wait between two.
    assert time.monotonic() - began < 300
    time.sleep(6)
    warnings = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert len(warnings) == 2, warnings  # 1 s, 2 s, then quiet
    assert "refused" in warnings[0]
    assert publisher.outbox.dropped_telemetry == 1000
    publisher.stop()


def test_stopping_with_undelivered_events_says_so(publisher_on, caplog):
    publisher = publisher_on(free_port())
    tell(publisher, raised(0, "a"))
    publisher.stop()
    assert "1 alarm events were not delivered; they are kept for the next start" in caplog.text


def test_password_and_acl_of_a_real_broker(tmp_path, publisher_on, caplog):
    passwords, acl = tmp_path / "passwords", tmp_path / "acl"
    tool = shutil.which("mosquitto_passwd")
    if tool is None:
        pytest.skip("mosquitto_passwd is not installed (apt-get install mosquitto)")
    subprocess.run([tool, "-b", "-c", passwords, "agent", "right"], check=True, capture_output=True)
    subprocess.run([tool, "-b", passwords, "reader", "r"], check=True, capture_output=True)
    acl.write_text("user agent\ntopic write auscult/dev/#\nuser reader\ntopic read #\n")
    lines = ("allow_anonymous false", f"password_file {passwords}", f"acl_file {acl}")
    secret = tmp_path / "secret"
    secret.write_text("wrong\n")
    secret.chmod(0o600)
    with Broker(tmp_path / "broker", lines) as broker:
        refused = publisher_on(broker.port, username="agent", password_file=secret)
        assert not refused.wait_connected(1.5)
        assert "refuses us" in caplog.text
        assert "password" in caplog.text
        refused.stop()
        secret.write_text("right\nsecond line\n")
        with Subscriber(broker.port, prepare=lambda c: c.username_pw_set("reader", "r")) as live:
            publisher = publisher_on(broker.port, username="agent", password_file=secret)
            assert publisher.wait_connected(5)
            tell(publisher, raised(0, "a"))
            assert live.wait("dev/pump/event")["id"] == "a-raised"
        other = publisher_on(
            broker.port, username="agent", password_file=secret, prefix="elsewhere", client_id="o"
        )
        assert other.wait_connected(5)
        tell(other, raised(0, "b"))
        deadline = time.monotonic() + 60
        while "refused by the broker" not in other.state() and time.monotonic() < deadline:
            time.sleep(0.05)
        assert "refused by the broker" in other.state()


def certificates(folder):
    """A CA, a server's certificate for 127.0.0.1 and a client's."""
    tool = shutil.which("openssl")
    if tool is None:
        pytest.skip("openssl is not installed")

    def run(*arguments):
        subprocess.run([tool, *arguments], check=True, capture_output=True, cwd=folder)

    run(
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-keyout",
        "ca.key",
        "-out",
        "ca.pem",
        "-days",
        "2",
        "-subj",
        "/CN=test ca",
    )
    (folder / "ext").write_text("subjectAltName=IP:127.0.0.1\n")
    for name in ("server", "client"):
        run(
            "req",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-keyout",
            f"{name}.key",
            "-out",
            f"{name}.csr",
            "-subj",
            f"/CN={name}",
        )
        run(
            "x509",
            "-req",
            "-in",
            f"{name}.csr",
            "-CA",
            "ca.pem",
            "-CAkey",
            "ca.key",
            "-CAcreateserial",
            "-out",
            f"{name}.pem",
            "-days",
            "2",
            "-extfile",
            "ext",
        )


def test_tls_with_client_certificate(tmp_path, publisher_on, caplog):
    certificates(tmp_path)
    lines = (
        "allow_anonymous true", f"cafile {tmp_path}/ca.pem", f"certfile {tmp_path}/server.pem",
        f"keyfile {tmp_path}/server.key", "require_certificate true",
    )  # fmt: skip
    files = {
        name: tmp_path / file
        for name, file in (
            ("ca_file", "ca.pem"),
            ("cert_file", "client.pem"),
            ("key_file", "client.key"),
        )
    }
    with Broker(tmp_path / "broker", lines) as broker:
        assert publisher_on(broker.port, tls=TlsConfig(**files)).wait_connected(5)
        stranger = publisher_on(broker.port, tls=TlsConfig(), client_id="x")
        assert not stranger.wait_connected(1.5)
        assert (
            "CERTIFICATE_VERIFY_FAILED" in caplog.text or "certificate verify failed" in caplog.text
        )


def test_files_that_cannot_be_used_are_told_at_the_start(tmp_path):
    def start(**config):
        MqttPublisher(MqttConfig(host="127.0.0.1", **config), "dev", [], tmp_path).start()

    with pytest.raises(ConfigError, match=r"nowhere: the password file cannot be read"):
        start(username="u", password_file=tmp_path / "nowhere")
    (tmp_path / "empty").write_text("\n")
    with pytest.raises(ConfigError, match="first line is empty"):
        start(username="u", password_file=tmp_path / "empty")
    with pytest.raises(ConfigError, match=r"ca_file"):
        start(tls=TlsConfig(ca_file=tmp_path / "nowhere"))
    (tmp_path / "bad.pem").write_text("no certificate")
    with pytest.raises(ConfigError, match="TLS files cannot be used"):
        start(tls=TlsConfig(ca_file=tmp_path / "bad.pem"))


@pytest.mark.parametrize("politely", [True, False])
def test_falls_back_to_mqtt_3_1_1(politely, publisher_on):
    """A broker of old refuses level 5, with a CONNACK or by closing the connection."""
    server = socket.create_server(("127.0.0.1", 0))
    levels = []

    def serve():
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            packet = connection.recv(4096)
            level = packet[packet.index(b"MQTT") + 4]
            levels.append(level)
            if level == 5:
                if politely:
                    connection.sendall(b"\x20\x02\x00\x01")
                    time.sleep(0.1)
                connection.close()
            else:
                connection.sendall(b"\x20\x02\x00\x00")
                keep.append(connection)

    keep: list[socket.socket] = []
    threading.Thread(target=serve, daemon=True).start()
    publisher = publisher_on(server.getsockname()[1])
    assert publisher.wait_connected(5)
    assert levels == [5, 4]
    for connection in keep:
        connection.close()
    server.close()


def test_against_the_embedded_broker_that_speaks_3_1_1_only(publisher_on):
    amqtt_broker = pytest.importorskip("amqtt.broker")
    import asyncio

    port, loop, ready = free_port(), asyncio.new_event_loop(), threading.Event()
    config = {
        "listeners": {"default": {"type": "tcp", "bind": f"127.0.0.1:{port}"}},
        "plugins": {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}},
    }
    broker = amqtt_broker.Broker(config, loop=loop)

    def serve():
        asyncio.set_event_loop(loop)
        loop.run_until_complete(broker.start())
        ready.set()
        loop.run_forever()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    assert ready.wait(10)
    try:
        publisher = publisher_on(port)
        assert publisher.wait_connected(10)
        tell(publisher, raised(0, "a"))
        deadline = time.monotonic() + 60
        while publisher.outbox.pending_events() and time.monotonic() < deadline:
            time.sleep(0.05)
        assert publisher.state() == ""
        publisher.stop()
    finally:
        asyncio.run_coroutine_threadsafe(broker.shutdown(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(5)


def test_json_lines_hold_every_message_and_the_file_is_bounded(tmp_path):
    path = tmp_path / "log" / "out.jsonl"
    publisher = JsonlPublisher(JsonlConfig(path=path, max_bytes=10_000, backups=1), "dev", ["pump"])
    publisher.start()
    tell(publisher, decision(0))
    tell(publisher, raised(1, "a"))
    kinds = [json.loads(line)["kind"] for line in path.read_text().splitlines()]
    assert kinds == ["status", "score", "alarm", "alarm", "event"]
    for n in range(200):
        tell(publisher, decision(n))
    publisher.stop()
    assert sorted(file.name for file in path.parent.iterdir()) == ["out.jsonl", "out.jsonl.1"]
    assert all(file.stat().st_size <= 10_000 for file in path.parent.iterdir())
    assert json.loads(path.read_text().splitlines()[-1])["status"] == "offline"


def test_a_line_cut_short_does_not_spoil_the_next(tmp_path):
    path = tmp_path / "out.jsonl"
    path.write_bytes(b'{"kind": "score", "machi')  # the power failed, or the disk was full
    publisher = JsonlPublisher(JsonlConfig(path=path), "dev", ["pump"])
    publisher.start()
    publisher.stop()
    lines = path.read_text().splitlines()
    assert [json.loads(line)["status"] for line in lines[1:]] == ["online", "offline"]


def test_a_full_disk_loses_lines_but_nothing_else(tmp_path, caplog):
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    publisher = JsonlPublisher(JsonlConfig(path=Path("/dev/full")), "dev", ["pump"])
    publisher.start()
    for n in range(3):
        tell(publisher, decision(n))
    assert publisher.state().startswith("5 lines not written")
    assert caplog.text.count("cannot be written") == 1
    publisher.stop()


def test_a_number_that_is_not_json_is_refused():
    with pytest.raises(ValueError, match="not JSON compliant"):
        encode({"score": float("nan")})
