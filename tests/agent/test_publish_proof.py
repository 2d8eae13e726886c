"""Proof of delivery where the broker cannot refuse: what comes back, and what is done when not."""

from __future__ import annotations

from typing import ClassVar

from support.broker import Broker, Subscriber
from support.told import tell
from test_publish import raised
from test_publish_bad_broker import until

from agent.publish import proof
from agent.publish.cloud_events import ProbeCloudEvent


def test_a_topic_that_a_3_1_1_broker_denies_in_silence_is_found_and_loses_nothing(
    tmp_path, publisher_on, caplog, monkeypatch
):
    monkeypatch.setattr(proof, "_PATIENCE_SECONDS", 1.0)
    monkeypatch.setattr(proof, "_RETRY_SECONDS", 1.0)
    rules = tmp_path / "acl"
    rules.write_text("topic deny auscult/dev/pump/event\ntopic readwrite #\n")
    lines = ("allow_anonymous true", f"acl_file {rules}")
    with Broker(tmp_path / "strict", lines) as broker, Subscriber(broker.port) as live:
        publisher = publisher_on(broker.port, version="3.1.1")
        publisher.start()
        tell(publisher, raised(0, "a"))
        until(lambda: publisher.sender.proof.denied == {"auscult/dev/pump/event"})
        assert "reaches nobody" in caplog.text
        assert publisher.outbox.pending_events() == 1
        health = publisher.outbox_health()
        assert (health.proof, health.denied_topics) == ("returned", ["auscult/dev/pump/event"])
        assert "denies it" in publisher.state()
        # Once the rules are mended, what was kept arrives.
        rules.write_text("topic readwrite #\n")
        broker.reload()
        live.wait("pump/event", lambda event: event["id"] == "a-raised", seconds=60)
        until(lambda: publisher.outbox.pending_events() == 0)
        assert not publisher.sender.proof.denied


def test_where_nothing_can_be_read_back_it_is_said_that_nothing_is_proven(
    tmp_path, publisher_on, caplog, monkeypatch
):
    monkeypatch.setattr(proof, "_PATIENCE_SECONDS", 1.0)
    rules = tmp_path / "acl"
    rules.write_text("user agent\ntopic write auscult/#\nuser reader\ntopic read #\n")
    lines = ("allow_anonymous true", f"acl_file {rules}")
    with Broker(tmp_path / "strict", lines) as broker:
        publisher = publisher_on(broker.port, version="3.1.1", username="agent")
        with Subscriber(
            broker.port, prepare=lambda client: client.username_pw_set("reader")
        ) as live:
            publisher.start()
            tell(publisher, raised(0, "a"))
            until(lambda: publisher.sender.proof.by == "none")
            assert "nobody can say whether alarms arrive" in caplog.text
            until(lambda: publisher.outbox.pending_events() == 0)
            assert live.wait("pump/event", lambda event: event["id"] == "a-raised")


def test_what_comes_back_is_proven_and_is_no_command(broker, publisher_on):
    class Commands:
        commands = ("ack",)
        taken: ClassVar[list[str]] = []

        def take(self, command, payload, *, retained):
            self.taken.append(command)

    publisher = publisher_on(broker.port, version="3.1.1")
    publisher.listen_to(Commands())
    with Subscriber(broker.port) as live:
        publisher.start()
        probe = live.wait("pump/event", lambda event: event["type"] == "auscult.delivery.probe")
        ProbeCloudEvent.model_validate(probe)
        tell(publisher, raised(0, "a"))
        until(lambda: publisher.outbox.pending_events() == 0)
        until(lambda: publisher.sender.proof.by == "returned")
        live.client.publish("auscult/dev/request/ack", b"{}", qos=1)
        until(lambda: Commands.taken == ["ack"])
        assert len([one for one in live.of("event") if one["id"] == "a-raised"]) == 1


def test_mqtt_5_needs_no_proof(broker, publisher_on):
    publisher = publisher_on(broker.port)
    with Subscriber(broker.port) as live:
        publisher.start()
        tell(publisher, raised(0, "a"))
        live.wait("pump/event", lambda event: event["id"] == "a-raised")
        assert publisher.sender.proof.by == "broker"
        assert [event["type"] for event in live.of("event")] == ["auscult.alarm.raised"]
