"""Brokers that misbehave: nothing sticks, and what they do is named."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest
from support.bad_broker import BadBroker
from support.broker import Broker, Subscriber
from support.told import tell
from test_publish import raised

from agent.publish import held, suspicion


def until(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.05)


def alarms(live: Subscriber) -> dict[str, dict]:
    """Alarm events by id, without those that prove the way."""
    found = live.of("event")
    return {one["id"]: one for one in found if one["type"] != "auscult.delivery.probe"}


@pytest.mark.parametrize("version", ["5", "3.1.1"])
def test_acknowledgements_that_never_come_make_the_connection_anew(
    broker, publisher_on, version, caplog
):
    with BadBroker(broker.port) as bad, Subscriber(broker.port) as live:
        publisher = publisher_on(bad.port, version=version, acknowledge_seconds=1)
        publisher.start()
        assert publisher.wait_connected(10)
        bad.drop_acknowledgements = True
        for n in range(30):  # more than may be under way
            tell(publisher, raised(n, f"a{n}"))
        until(lambda: publisher.sender.connections >= 2)
        assert "has not acknowledged a message for" in caplog.text
        bad.drop_acknowledgements = False
        until(lambda: publisher.outbox.pending_events() == 0)
        assert set(alarms(live)) == {f"a{n}-raised" for n in range(30)}


def test_an_event_that_ends_the_connection_is_shortened_and_holds_no_other_up(
    broker, publisher_on, caplog
):
    with BadBroker(broker.port) as bad, Subscriber(broker.port) as live:
        bad.largest = 900
        publisher = publisher_on(bad.port, version="3.1.1")
        publisher.start()
        tell(publisher, raised(0, "a"))
        tell(publisher, replace(raised(1, "b"), note="x" * 2000))
        for n in range(2, 30):
            tell(publisher, raised(n, f"c{n}"))
        until(lambda: publisher.outbox.pending_events() == 0)
        events = alarms(live)
        assert len(events) == 30
        short = events["b-raised"]
        assert short["shortened"] == "true"
        assert (short["data"]["event"], short["data"]["alarm_id"]) == ("raised", "b")
        assert events["a-raised"]["shortened"] is None
        assert "ends the connection over the event b-raised" in caplog.text
        connections = publisher.sender.connections
        time.sleep(2)
        assert publisher.sender.connections == connections


def test_what_cannot_be_shortened_enough_is_set_aside(broker, publisher_on, caplog):
    with BadBroker(broker.port) as bad, Subscriber(broker.port) as live:
        bad.hang_up_on = b"poison"
        publisher = publisher_on(bad.port, version="3.1.1")
        publisher.start()
        tell(publisher, raised(0, "poison"))
        tell(publisher, raised(1, "b"))
        live.wait("pump/event", lambda event: event["id"] == "b-raised", seconds=60)
        until(lambda: publisher.outbox.pending_events() == 1)  # kept
        assert "set aside and offered again later" in caplog.text


def test_a_state_that_ends_the_connection_is_left_out(broker, publisher_on, caplog):
    with BadBroker(broker.port) as bad, Subscriber(broker.port) as live:
        bad.hang_up_on = b"dev/pump/alarm"
        publisher = publisher_on(bad.port, version="3.1.1")
        publisher.start()
        tell(publisher, raised(0, "a"))
        live.wait("pump/event", lambda event: event["id"] == "a-raised", seconds=60)
        until(lambda: "messages of that topic and size are left out" in caplog.text)
        connections = publisher.sender.connections
        time.sleep(2)
        assert publisher.sender.connections <= connections + 1


def test_mqtt_5_is_tried_again_at_the_next_connection(broker, publisher_on, caplog):
    with BadBroker(broker.port) as bad:
        bad.connack_delays = [7.0]  # busy at boot
        publisher = publisher_on(bad.port)
        publisher.start()
        assert publisher.wait_connected(20)
        assert "no way to say that a message was refused" in caplog.text
        bad.hang_up_on = b"dev/pump/alarm"
        tell(publisher, raised(0, "a"))
        until(lambda: publisher.sender.connections >= 2)
        assert bad.versions[:3] == [5, 4, 5]
        # A CONNACK that comes late, but comes, is waited for.
        bad.hang_up_on, bad.connack_delays, before = b"", [3.5], len(bad.versions)
        again = publisher_on(bad.port, name="other")
        again.start()
        assert again.wait_connected(20)
        assert 4 not in bad.versions[before:]


def test_a_password_that_was_changed_is_read_at_the_next_connection(tmp_path, publisher_on):
    import shutil
    import subprocess

    tool = shutil.which("mosquitto_passwd")
    if tool is None:
        pytest.skip("mosquitto_passwd is not installed (apt-get install mosquitto)")
    passwords, secret = tmp_path / "passwords", tmp_path / "secret"

    def change(word):
        subprocess.run([tool, "-b", "-c", passwords, "me", word], check=True, capture_output=True)

    change("new")
    secret.write_text("old\n")
    secret.chmod(0o600)
    lines = ("allow_anonymous false", f"password_file {passwords}")
    with Broker(tmp_path / "broker", lines) as broker:
        publisher = publisher_on(broker.port, username="me", password_file=secret)
        publisher.start()
        assert not publisher.wait_connected(2)
        secret.unlink()  # between the old and the new
        time.sleep(1.5)
        secret.write_text("new\n")
        assert publisher.wait_connected(20)


@pytest.mark.parametrize("version", ["5", "3.1.1"])
def test_two_clients_of_one_id_are_named_and_back_off(broker, publisher_on, version, caplog):
    both = [
        publisher_on(
            broker.port, name=name, client_id="same", version=version, reconnect_max_seconds=60
        )
        for name in ("one", "two")
    ]
    for publisher in both:
        publisher.start()
    time.sleep(20)
    assert "client id, 'same'" in caplog.text
    # Once a second each, it would be some forty.
    assert sum(publisher.sender.connections for publisher in both) < 20


def test_a_session_that_is_taken_over_is_named_and_both_wait_longer(broker, publisher_on, caplog):
    with BadBroker(broker.port) as bad:
        bad.take_over = True
        publisher = publisher_on(bad.port, version="5", client_id="same", reconnect_max_seconds=60)
        publisher.start()
        time.sleep(8)
        assert "another client has taken our session over" in caplog.text
        assert "'same'" in caplog.text
        assert publisher.sender.connections <= 4


class Requests:
    commands = ("mute",)

    def __init__(self):
        self.taken = []

    def take(self, command, payload, *, retained):
        if not retained:
            self.taken.append(payload)


@pytest.mark.parametrize("version", ["5", "3.1.1"])
def test_a_retained_command_given_while_away_is_not_carried_out(
    broker, publisher_on, version, monkeypatch
):
    requests = Requests()

    def agent():
        publisher = publisher_on(broker.port, version=version, client_id="agent")
        publisher.listen_to(requests)
        publisher.start()
        assert publisher.wait_connected(10)
        return publisher

    first = agent()
    time.sleep(1)
    first.stop()
    with Subscriber(broker.port) as other:
        topic = "auscult/dev/request/mute"
        other.client.publish(topic, b"stale", qos=1, retain=True).wait_for_publish(5)
        other.client.publish(topic, b"queued", qos=1).wait_for_publish(5)
        agent()
        until(lambda: b"queued" in requests.taken)
        other.client.publish(topic, b"now", qos=1).wait_for_publish(5)
        until(lambda: b"now" in requests.taken)
        other.client.publish(topic, b"later", qos=1, retain=True).wait_for_publish(5)
        time.sleep(held._HOLD_SECONDS + 1)
    assert b"stale" not in requests.taken


def test_what_was_found_is_forgotten_after_its_time(monkeypatch):
    from agent.publish.mqtt_message import MqttMessage

    small, large = (MqttMessage("t", b"x" * size, 1, retain=True) for size in (10, 20))
    found = suspicion.Suspicion()
    for _ in range(2):
        assert found.ended(1.0, [small, large]) is None
    assert found.careful
    assert found.ended(1.0, [large]) is None
    assert found.ended(1.0, [large]) is large
    found.ban(large)
    assert (found.banned(small), found.banned(large)) == (False, True)
    monkeypatch.setattr(suspicion.time, "monotonic", lambda: 1e12)
    assert not found.banned(large)
    assert found.ended(60.0, [small]) is None
    assert not found.careful
