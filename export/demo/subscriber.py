"""Whoever listens at the plant: an MQTT client that receives what the agent publishes."""

from __future__ import annotations

import json
import queue
import threading
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from agent.core.errors import DeliveryError

_CONNECT_SECONDS = 10.0


class Subscriber:
    """Subscribes to a topic filter and hands messages on in order.

    Args:
        host: The broker's.
        port: The broker's.
        topics: Filter, e.g. `auscult/demo/#`.
    """

    def __init__(self, host: str, port: int, topics: str) -> None:
        self._address = (host, port)
        self._topics = topics
        self._messages: queue.Queue[tuple[str, dict[str, Any]]] = queue.Queue()
        self._ready = threading.Event()
        self._client = paho.Client(
            CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv311
        )
        self._client.suppress_exceptions = True
        self._client.on_connect = self._on_connect
        self._client.on_subscribe = self._on_subscribe
        self._client.on_message = self._on_message

    def start(self) -> None:
        """Connect and subscribe.

        Raises:
            DeliveryError: The broker does not answer.
        """
        where = f"{self._address[0]}:{self._address[1]}"
        try:
            self._client.connect(*self._address, keepalive=30)
        except OSError as fault:
            raise DeliveryError(f"no broker answers: {fault}", where=where) from fault
        self._client.loop_start()
        if not self._ready.wait(_CONNECT_SECONDS):
            self._client.loop_stop()
            raise DeliveryError("the broker accepts no subscription", where=where)

    def stop(self) -> None:
        """Disconnect."""
        self._client.disconnect()
        self._client.loop_stop()

    def receive(self, seconds: float) -> tuple[str, dict[str, Any]] | None:
        """The next message as (topic, JSON object); None when there is none in time."""
        try:
            return self._messages.get(timeout=seconds)
        except queue.Empty:
            return None

    def _on_connect(self, client: paho.Client, *_: Any) -> None:
        client.subscribe(self._topics, qos=1)

    def _on_subscribe(self, *_: Any) -> None:
        self._ready.set()

    def _on_message(self, _client: paho.Client, _user: Any, message: paho.MQTTMessage) -> None:
        self._messages.put((message.topic, json.loads(message.payload)))
