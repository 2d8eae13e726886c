"""The embedded broker carries messages between real MQTT clients, and goes away."""

from __future__ import annotations

import json
import socket

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from agent.core.errors import DeliveryError
from export.demo.broker import EmbeddedBroker
from export.demo.subscriber import Subscriber


def test_messages_arrive_in_order_and_the_port_closes():
    broker = EmbeddedBroker()
    broker.start()
    try:
        subscriber = Subscriber(broker.host, broker.port, "plant/#")
        subscriber.start()
        client = paho.Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv311)
        client.connect(broker.host, broker.port)
        client.loop_start()
        for number in range(20):
            client.publish("plant/fan/score", json.dumps({"n": number}), qos=1)
        got = [subscriber.receive(10.0) for _ in range(20)]
        client.disconnect()
        client.loop_stop()
        subscriber.stop()
    finally:
        broker.stop()
    assert got == [("plant/fan/score", {"n": number}) for number in range(20)]
    with pytest.raises(OSError), socket.create_connection((broker.host, broker.port), timeout=2):
        pass


def test_a_subscriber_without_a_broker_says_so():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with pytest.raises(DeliveryError, match=str(port)):
        Subscriber("127.0.0.1", port, "#").start()


def test_stopping_what_never_started_is_harmless():
    EmbeddedBroker().stop()
