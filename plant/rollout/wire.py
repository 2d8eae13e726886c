"""The plant's side of the broker for rollouts: hears what is retained, publishes offers."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from agent.bundle.offer import OFFER
from agent.core.broker import BrokerConfig
from agent.core.errors import DeliveryError
from agent.core.secret_file import read_secret
from agent.core.tls import tls_context
from plant.rollout.fleet import FILTERS, Fleet

log = logging.getLogger(__name__)

_LONGEST_WAIT = 30


class RolloutWire:
    """A connection that comes back by itself; `start` connects.

    Args:
        config: The broker.
        fleet: Takes what devices say.
        connected: Called at each connection, by the network's thread.
    """

    def __init__(
        self, config: BrokerConfig, fleet: Fleet, connected: Callable[[], None] = lambda: None
    ) -> None:
        self._config = config
        self._fleet = fleet
        self._connected = connected
        self._client: paho.Client | None = None
        self._up = threading.Event()
        self._problem = ""

    def start(self, *, wait_seconds: float = 0.0) -> None:
        """Connect in the background, for ever.

        Args:
            wait_seconds: Raise when the broker was not there within this; 0 does not wait.

        Raises:
            ConfigError: Password or certificates cannot be used.
            DeliveryError: The broker is not there in time.
        """
        config = self._config
        # 3.1.1 is all that it takes, and every broker speaks it.
        client = paho.Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv311)
        if config.username is not None:
            password = None
            if config.password_file is not None:
                password = read_secret(
                    config.password_file, "the broker's password file",
                    remedy="Write the password on its first line.",
                )  # fmt: skip
            client.username_pw_set(config.username, password)
        if config.tls is not None:
            client.tls_set_context(tls_context(config.tls, "broker.tls"))
        client.reconnect_delay_set(1, _LONGEST_WAIT)
        client.suppress_exceptions = True
        client.on_connect = self._on_connect
        client.on_connect_fail = self._on_connect_fail
        client.on_disconnect = self._on_disconnect
        client.on_message = self._on_message
        client.connect_async(config.host, config.broker_port, config.keepalive_seconds)
        client.loop_start()
        self._client = client
        if wait_seconds and not self._up.wait(wait_seconds):
            self.stop()
            raise DeliveryError(
                self._problem or "does not answer",
                where=f"{config.host}:{config.broker_port}",
                remedy="Check `broker` in PLANT.yaml, and that it runs.",
            )

    def stop(self) -> None:
        """Disconnect. Idempotent."""
        if self._client is not None:
            self._up.clear()
            self._client.disconnect()
            self._client.loop_stop()
            self._client = None

    def publish(self, device: str, machine: str, payload: bytes) -> None:
        """Publish an offer, retained; while the broker is away it goes out at the connection."""
        if self._client is not None and self._up.is_set():
            topic = f"{self._config.prefix}/{device}/{machine}/{OFFER}"
            self._client.publish(topic, payload, qos=1, retain=True)

    def _on_connect(
        self, client: paho.Client, _data: Any, _flags: Any, reason: Any, _properties: Any
    ) -> None:
        if reason.is_failure:
            self._tell(f"refuses us ({reason})")
            return
        self._problem = ""
        for one in FILTERS:
            client.subscribe(f"{self._config.prefix}/{one}", qos=1)
        self._up.set()
        log.info("%s:%d: connected", self._config.host, self._config.broker_port)
        self._connected()

    def _on_disconnect(
        self, _client: paho.Client, _data: Any, _flags: Any, reason: Any, _properties: Any
    ) -> None:
        if not reason.is_failure:  # we hung up ourselves
            return
        if self._up.is_set():
            self._tell(f"is away ({reason}); it is tried again")
        elif not self._problem:
            # What TLS 1.3 makes of a client whose certificate is missing or not believed.
            shown = self._config.tls is not None
            asks = "; does it ask for a certificate (`broker.tls.cert_file`)?" if shown else ""
            self._tell(f"hangs up before it has answered{asks}")
        self._up.clear()

    def _on_connect_fail(self, _client: paho.Client, _data: Any) -> None:
        fault = sys.exc_info()[1]  # paho calls this where it has caught it, and does not hand it on
        why = getattr(fault, "strerror", None) or fault or "no reason is known"
        self._tell(f"is not reached ({why})")

    def _tell(self, problem: str) -> None:
        """Log why there is no connection, once for each reason."""
        if problem != self._problem:
            self._problem = problem
            log.warning("%s:%d: %s", self._config.host, self._config.broker_port, problem)

    def _on_message(self, _client: paho.Client, _data: Any, message: paho.MQTTMessage) -> None:
        levels = tuple(message.topic.removeprefix(f"{self._config.prefix}/").split("/"))
        self._fleet.take(levels, bytes(message.payload))
