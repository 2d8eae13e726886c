"""One connection to the broker in MQTT 5, where messages are acknowledged when they are written."""

from __future__ import annotations

import select
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

from agent.core.broker import BrokerConfig
from agent.core.errors import DeliveryError
from agent.core.secret_file import read_secret
from agent.core.tls import tls_context

_CONNECT_SECONDS = 5.0
_POLL_SECONDS = 0.1
# A message of an agent is far smaller.
_PACKET_BYTES = 5_000_000
_NOBODY = 0x10  # reason code of MQTT 5: no matching subscribers
_TAKEN_OVER = 0x8E


@dataclass(frozen=True, slots=True)
class Incoming:
    """A message from the broker.

    Attributes:
        topic: Where it was published.
        payload: As it came.
        mid: Its number on this connection, to acknowledge it by.
        qos: 0 or 1.
        retained: The broker had kept it.
    """

    topic: str
    payload: bytes
    mid: int
    qos: int
    retained: bool


class Link:
    """Opens, serves and closes a connection, all from one thread.

    Args:
        config: The broker.
        client_id: Stable, where the broker is to keep a session.
        session_seconds: The broker keeps the session so long; 0 for none.
        ahead: Messages of QoS 1 that the broker sends before the first is acknowledged.
    """

    def __init__(
        self, config: BrokerConfig, client_id: str, *, session_seconds: int = 0, ahead: int = 100
    ) -> None:
        self._config = config
        self._session_seconds = session_seconds
        self._ahead = ahead
        self.client_id = client_id
        self._client: paho.Client | None = None
        self._answer: Any = None
        self._refused = ""
        self._published: dict[int, Any] = {}
        self._arrived: list[Incoming] = []
        self._farewell = ""
        #: Whether another client with our id took the session over.
        self.taken_over = False
        #: Whether the broker lets us hear what we asked for.
        self.subscribed = False
        #: Whether the broker had a session of ours.
        self.resumed = False

    def open(self, *, seconds: float = _CONNECT_SECONDS) -> None:
        """Connect.

        Raises:
            DeliveryError: The broker cannot be reached, refuses us, or speaks no MQTT 5.
            ConfigError: A file that the configuration names cannot be used.
        """
        self._answer, self._farewell, self._refused = None, "", ""
        self.taken_over = self.subscribed = False
        self._arrived.clear()
        client = self._new_client()
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.SessionExpiryInterval = self._session_seconds
        properties.ReceiveMaximum = self._ahead
        properties.MaximumPacketSize = _PACKET_BYTES
        try:
            client.connect(
                self._config.host, self._config.broker_port, self._config.keepalive_seconds,
                clean_start=not self._session_seconds, properties=properties,
            )  # fmt: skip
        except OSError as fault:
            raise self._problem(f"not reached ({fault.strerror or fault})") from fault
        self._client = client
        deadline = time.monotonic() + seconds
        try:
            while self._answer is None:
                if time.monotonic() > deadline:
                    raise self._problem("it does not answer in MQTT 5")
                self._pump(_POLL_SECONDS)
        except DeliveryError:
            self.close()
            raise
        if self._answer.is_failure:
            answer = self._answer
            self.close()
            raise DeliveryError(
                f"the broker refuses us ({answer})", where=self._config.host,
                remedy="Check `broker.username`, its password file and the broker's rules.",
            )  # fmt: skip

    def subscribe(self, filters: Sequence[str], *, qos: int, retained: bool) -> None:
        """Ask for the messages of topic filters.

        The broker's word comes while `turn` is called, behind whatever it has kept for us: then
        `subscribed` is true, or `turn` raises.

        Args:
            filters: Of topics.
            qos: 0 or 1, at most.
            retained: Whether what the broker has kept is to come first.

        Raises:
            DeliveryError: The connection was lost.
        """
        assert self._client is not None
        handling = SubscribeOptions.RETAIN_SEND_ON_SUBSCRIBE
        if not retained:
            handling = SubscribeOptions.RETAIN_DO_NOT_SEND
        options = SubscribeOptions(qos=qos, retainAsPublished=False, retainHandling=handling)
        self.subscribed = False
        code, _ = self._client.subscribe([(one, options) for one in filters])
        self._lost_unless_well(code)

    def unsubscribe(self, filters: Sequence[str]) -> None:
        """Ask for no more messages of topic filters.

        Raises:
            DeliveryError: The connection was lost.
        """
        assert self._client is not None
        code, _ = self._client.unsubscribe(list(filters))
        self._lost_unless_well(code)

    def turn(self, seconds: float) -> list[Incoming]:
        """Serve the network: wait for something at most so long, and take what is there.

        Raises:
            DeliveryError: The connection was lost.
        """
        self._pump(seconds)
        found, self._arrived = self._arrived, []
        return found

    def _pump(self, seconds: float) -> None:
        """One turn; what arrives is kept for the next `turn`."""
        client = self._client
        assert client is not None
        sock = client.socket()
        if sock is None:
            raise self._problem(self._farewell or "the connection was lost")
        pending = getattr(sock, "pending", None)
        writing = [sock] if client.want_write() else []
        if not (pending and pending()):
            ready, _, _ = select.select([sock], writing, [], seconds)
        else:
            ready = [sock]
        if writing:
            self._lost_unless_well(client.loop_write())
        if ready:
            self._read_all(client)
        self._lost_unless_well(client.loop_misc())
        if self._refused:
            raise DeliveryError(
                f"the broker does not let us hear the devices ({self._refused})",
                where=self._config.host,
                remedy="Allow this user to read their topics (docs/guide/plant.md#the-broker).",
            )

    def _read_all(self, client: paho.Client) -> None:
        """Read until nothing is left, or enough has come for one turn."""
        while len(self._arrived) < self._ahead:
            before = len(self._arrived)
            self._lost_unless_well(client.loop_read())
            if len(self._arrived) == before:
                return

    def acknowledge(self, messages: Sequence[Incoming]) -> None:
        """Tell the broker that messages are written: it forgets them.

        Raises:
            DeliveryError: The connection was lost.
        """
        for message in messages:
            if message.qos:
                assert self._client is not None
                self._lost_unless_well(self._client.ack(message.mid, message.qos))

    def publish(self, topic: str, payload: bytes, *, expiry_seconds: int, seconds: float) -> bool:
        """Publish a message of QoS 1, and wait until the broker has taken it.

        Returns:
            Whether anybody is there who subscribed to it, by the broker's word.

        Raises:
            DeliveryError: It was refused, or not taken within `seconds`.
        """
        assert self._client is not None
        properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
        properties.MessageExpiryInterval = expiry_seconds
        properties.ContentType = "application/json"
        info = self._client.publish(topic, payload, qos=1, properties=properties)
        self._lost_unless_well(info.rc)
        deadline = time.monotonic() + seconds
        while info.mid not in self._published:
            if time.monotonic() > deadline:
                raise self._problem("it does not acknowledge the command")
            self._pump(_POLL_SECONDS)
        reason = self._published.pop(info.mid)
        if reason.is_failure:
            raise DeliveryError(
                f"the broker refuses the command ({reason})", where=topic,
                remedy="Allow this user to write there (docs/guide/plant.md).",
            )  # fmt: skip
        return bool(reason.value != _NOBODY)

    def close(self, *, end_session: bool = False) -> None:
        """Disconnect. Idempotent.

        Args:
            end_session: Have the broker forget the session, too.
        """
        client, self._client = self._client, None
        if client is None:
            return
        properties = None
        if end_session:
            properties = Properties(PacketTypes.DISCONNECT)  # type: ignore[no-untyped-call]
            properties.SessionExpiryInterval = 0
        client.disconnect(properties=properties)
        if (sock := client.socket()) is not None:
            sock.close()

    def _new_client(self) -> paho.Client:
        client = paho.Client(
            CallbackAPIVersion.VERSION2, client_id=self.client_id,
            protocol=MQTTProtocolVersion.MQTTv5, reconnect_on_failure=False, manual_ack=True,
        )  # fmt: skip
        client.connect_timeout = _CONNECT_SECONDS
        config = self._config
        if config.username is not None:
            password = None
            if config.password_file is not None:
                password = read_secret(
                    config.password_file, "the broker's password file",
                    remedy="Put the password on its first line (chmod 600).",
                )  # fmt: skip
            client.username_pw_set(config.username, password)
        if config.tls is not None:
            client.tls_set_context(tls_context(config.tls, "broker.tls"))
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_subscribe = self._on_subscribe
        client.on_publish = self._on_publish
        client.on_message = self._on_message
        return client

    def _lost_unless_well(self, code: MQTTErrorCode) -> None:
        if code not in {MQTTErrorCode.MQTT_ERR_SUCCESS, MQTTErrorCode.MQTT_ERR_AGAIN}:
            raise self._problem(
                self._farewell or f"the connection was lost ({paho.error_string(code)})"
            )

    def _problem(self, said: str) -> DeliveryError:
        return DeliveryError(f"broker: {said}", where=self._config.host)

    # paho's callbacks, called within `turn`.

    def _on_connect(
        self, _client: paho.Client, _data: Any, flags: Any, reason: Any, _properties: Any
    ) -> None:
        self._answer, self.resumed = reason, bool(flags.session_present)

    def _on_disconnect(
        self, _client: paho.Client, _data: Any, flags: Any, reason: Any, _properties: Any
    ) -> None:
        if getattr(flags, "is_disconnect_packet_from_server", False):
            self.taken_over = getattr(reason, "value", 0) == _TAKEN_OVER
            self._farewell = f"it hangs up ({reason})"

    def _on_subscribe(
        self, _client: paho.Client, _data: Any, _mid: int, reasons: Any, _properties: Any
    ) -> None:
        refused = [str(reason) for reason in reasons if reason.is_failure]
        self.subscribed, self._refused = not refused, refused[0] if refused else ""

    def _on_publish(
        self, _client: paho.Client, _data: Any, mid: int, reason: Any, _properties: Any
    ) -> None:
        self._published[mid] = reason

    def _on_message(self, _client: paho.Client, _data: Any, message: paho.MQTTMessage) -> None:
        self._arrived.append(
            Incoming(
                message.topic, bytes(message.payload), message.mid, message.qos, message.retain
            )
        )
