"""One connection to the broker: how it is opened, in the version of MQTT that the broker speaks."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

from agent.config.publish import MqttConfig
from agent.core.errors import ConfigError, DeliveryError
from agent.core.tls import tls_context
from agent.publish.credentials import read_password
from agent.publish.mqtt_message import MqttMessage

log = logging.getLogger(__name__)

_CONNECT_SECONDS = 5.0  # for the TCP connection, and again for the broker's answer
POLL_SECONDS = 0.1
# Sent and not yet acknowledged; a broker may ask for less (MQTT 5, Receive Maximum).
_UNDER_WAY = 20
# The largest packet that the broker may send us (MQTT 5): far beyond any command.
_PACKET_BYTES = 1_000_000
# What a packet has beside topic, content type and payload, at most.
_HEADER_BYTES = 32
# Reason code of MQTT 5: session taken over.
_TAKEN_OVER = 0x8E
_VERSIONS = {MQTTProtocolVersion.MQTTv5: "5", MQTTProtocolVersion.MQTTv311: "3.1.1"}

OnAnswered = Callable[[int, str], None]
"""Told of an acknowledged message: its number, and why it was refused (empty when it wasn't)."""
OnMessage = Callable[[str, bytes, bool], None]
"""Told of a message received: topic, payload, whether the broker had it retained."""


class NotReachedError(DeliveryError):
    """There is no way to the broker, or its certificate is not believed: it was asked nothing."""


class Connection:
    """Opens, serves and closes connections, one at a time, all from one thread.

    The session is persistent: commands that arrive while we are away for a while wait at the
    broker. MQTT 5 is tried first, then 3.1.1, at each connection: a broker that was too busy to
    answer the first is not held to it. Password and certificates are read at each connection.

    Args:
        config: The broker and how to log in.
        client_id: Stable, so that the broker knows us again.
        will: What the broker publishes when the connection is lost.
        on_answered: Called in `turn` for each message that was acknowledged.
        on_message: Called in `turn` for each message received; must not raise.
        stopping: Ends waiting for the broker.
        keep_session: Whether the broker is to keep the session while we are away.
    """

    def __init__(
        self,
        config: MqttConfig,
        client_id: str,
        will: MqttMessage,
        *,
        on_answered: OnAnswered,
        on_message: OnMessage,
        stopping: threading.Event,
        keep_session: bool = True,
    ) -> None:
        self._config = config
        self._client_id = client_id
        self._will = will
        self._on_answered = on_answered
        self._on_message = on_message
        self._stopping = stopping
        self._keep_session = keep_session
        self._password: str | None = None
        self._protocol = (
            MQTTProtocolVersion.MQTTv311
            if config.version == "3.1.1"
            else MQTTProtocolVersion.MQTTv5
        )
        self._client: paho.Client | None = None
        self._told_losses = False
        self._farewell = ""  # why the broker says that it hangs up (MQTT 5)
        #: Whether another client with our id took the session over.
        self.taken_over = False
        self._answer: Any = None  # the broker's to our request to connect
        self._most_bytes: int | None = None  # of a packet that the broker takes (MQTT 5)
        #: QoS 1 messages that may be sent before the first is acknowledged.
        self.window = _UNDER_WAY

    @property
    def version(self) -> str:
        """The version of MQTT spoken."""
        return _VERSIONS[self._protocol]

    def prepare(self) -> None:
        """Read the password and certificates: finds a broken one now, not at night.

        Raises:
            ConfigError: A file that the configuration names cannot be used.
        """
        self._password = read_password(self._config)
        self._new_client(self._protocol)

    def open(self) -> None:
        """Connect.

        Raises:
            DeliveryError: The broker cannot be reached or refuses us.
        """
        versions = list(_VERSIONS) if self._config.version == "auto" else [self._protocol]
        problem = ""
        self._read_secret()
        for version in versions:
            try:
                client = self._new_client(version)
                self._call(client, version)
            except ConfigError as fault:
                raise NotReachedError(str(fault)) from fault
            except OSError as fault:
                # Also a certificate that doesn't verify: ssl's errors are OSErrors.
                raise NotReachedError(f"not reached ({fault.strerror or fault})") from fault
            answer = self._await_answer(client, _CONNECT_SECONDS)
            if answer is None:
                # Some brokers just close, or say nothing, when they don't know the version.
                problem = "it does not answer the request to connect"
                if self._config.tls is not None and self._config.tls.cert_file is None:
                    # So it looks in TLS 1.3 where a certificate of the client is missing.
                    problem += "; does it ask for a certificate (`mqtt.tls.cert_file`)?"
            elif not answer.is_failure:
                self._protocol, self._client = version, client
                if version == MQTTProtocolVersion.MQTTv311:
                    self._tell_losses()
                return
            elif "protocol version" in str(answer).lower():
                problem = f"it refuses the protocol ({answer})"
            else:
                _hang_up(client)
                raise DeliveryError(
                    f"it refuses us ({answer})",
                    remedy="Check `mqtt.username`, the password file and the broker's rules",
                )
            _hang_up(client)
        raise DeliveryError(problem)

    def _read_secret(self) -> None:
        """Read the password anew: it may have been changed since."""
        try:
            self._password = read_password(self._config)
        except ConfigError as fault:
            # It may be written just now: the one known so far is as good as none.
            log.warning("%s; the password known so far is tried", fault)

    def _tell_losses(self) -> None:
        """Say, once, what a broker of MQTT 3.1.1 cannot tell us."""
        if not self._told_losses:
            self._told_losses = True
            log.warning(
                "%s: speaks MQTT 3.1.1, which has no way to say that a message was refused: a rule "
                "that denies a topic loses what is sent to it unseen",
                self._config.host,
            )  # fmt: skip

    def subscribe(self, topic: str, *, retained: bool = False) -> None:
        """Ask for the messages of a topic filter.

        Args:
            topic: The filter.
            retained: Also for those that the broker has retained.

        Raises:
            DeliveryError: The connection was lost.
        """
        assert self._client is not None
        if self._protocol == MQTTProtocolVersion.MQTTv5 and not retained:
            # What was retained while we were away comes later: it must be seen to be that.
            options = SubscribeOptions(
                qos=1, retainAsPublished=True, retainHandling=SubscribeOptions.RETAIN_DO_NOT_SEND
            )
            code, _ = self._client.subscribe(topic, options=options)
        else:
            code, _ = self._client.subscribe(topic, qos=1)
        _lost_unless_well(code)

    def too_large(self, message: MqttMessage) -> str:
        """Why the broker would hang up if it were sent a message; empty when it would not."""
        text = f"{message.topic}{message.content_type}"
        size = len(message.payload) + len(text.encode()) + _HEADER_BYTES
        if self._most_bytes is None or size <= self._most_bytes:
            return ""
        return f"it has {size} bytes, and the broker takes {self._most_bytes} at most"

    def send(self, message: MqttMessage) -> int:
        """Send a message.

        Returns:
            Its number, which `on_answered` gives again when its QoS is 1.

        Raises:
            DeliveryError: The connection was lost.
        """
        assert self._client is not None
        properties = None
        if self._protocol == MQTTProtocolVersion.MQTTv5:
            properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
            if message.expiry_seconds is not None:
                properties.MessageExpiryInterval = message.expiry_seconds
            if message.content_type:
                properties.ContentType = message.content_type
        info = self._client.publish(
            message.topic, message.payload, message.qos, message.retain, properties
        )
        _lost_unless_well(info.rc)
        return info.mid

    @property
    def congested(self) -> bool:
        """Whether what was sent before has yet to leave this device."""
        return self._client is not None and self._client.want_write()

    def turn(self) -> None:
        """One turn of the network, of at most `POLL_SECONDS`: reads, writes, keeps alive.

        Raises:
            DeliveryError: The connection was lost.
        """
        assert self._client is not None
        code = self._client.loop(POLL_SECONDS)
        if self._farewell:
            raise DeliveryError(self._farewell)
        _lost_unless_well(code)

    def farewell(self) -> None:
        """Disconnect politely, so that the broker keeps the last will to itself."""
        assert self._client is not None
        self._client.disconnect()

    def close(self) -> None:
        """Close the socket without a farewell; after `farewell` this changes nothing."""
        if self._client is not None:
            _hang_up(self._client)
            self._client = None

    def _call(self, client: paho.Client, version: MQTTProtocolVersion) -> None:
        config = self._config
        if version != MQTTProtocolVersion.MQTTv5:
            client.connect(config.host, config.broker_port, config.keepalive_seconds)
            return
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.SessionExpiryInterval = (
            config.session_expiry_seconds if self._keep_session else 0
        )
        properties.MaximumPacketSize = _PACKET_BYTES
        client.connect(
            config.host,
            config.broker_port,
            config.keepalive_seconds,
            clean_start=not self._keep_session,
            properties=properties,
        )

    def _await_answer(self, client: paho.Client, seconds: float) -> Any:
        """The broker's answer to the request to connect; None when it closes or says nothing."""
        self._answer = None
        deadline = time.monotonic() + seconds
        while self._answer is None and time.monotonic() < deadline and not self._stopping.is_set():
            if client.loop(POLL_SECONDS) != paho.MQTT_ERR_SUCCESS:
                break
        return self._answer

    def _new_client(self, version: MQTTProtocolVersion) -> paho.Client:
        client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=self._client_id,
            # MQTT 5 says it when it connects.
            clean_session=None if version == MQTTProtocolVersion.MQTTv5 else not self._keep_session,
            protocol=version,
            reconnect_on_failure=False,
        )
        client.connect_timeout = _CONNECT_SECONDS
        if self._config.username is not None:
            client.username_pw_set(self._config.username, self._password)
        if self._config.tls is not None:
            client.tls_set_context(tls_context(self._config.tls, "mqtt.tls"))
        client.will_set(
            self._will.topic, self._will.payload, qos=self._will.qos, retain=self._will.retain
        )
        self._farewell, self.taken_over = "", False
        client.on_connect = self._connected
        client.on_disconnect = self._disconnected
        client.on_publish = self._published
        client.on_subscribe = self._subscribed
        client.on_message = self._received
        return client

    # paho's callbacks, called within `turn`.

    def _connected(
        self, _client: paho.Client, _data: Any, _flags: Any, reason: Any, properties: Any
    ) -> None:
        self._answer = reason
        self.window = min(_UNDER_WAY, getattr(properties, "ReceiveMaximum", _UNDER_WAY))
        self._most_bytes = getattr(properties, "MaximumPacketSize", None)

    def _disconnected(
        self, _client: paho.Client, _data: Any, flags: Any, reason: Any, _properties: Any
    ) -> None:
        if not getattr(flags, "is_disconnect_packet_from_server", False):
            return
        self.taken_over = getattr(reason, "value", 0) == _TAKEN_OVER
        if self.taken_over:
            self._farewell = (
                f"another client has taken our session over: it has the same client id, "
                f"{self._client_id!r}; give one of the two another `device` or `mqtt.client_id`"
            )
        else:
            self._farewell = f"it hangs up ({reason})"

    def _published(
        self, _client: paho.Client, _data: Any, mid: int, reason: Any, _properties: Any
    ) -> None:
        refused = reason is not None and reason.is_failure
        self._on_answered(mid, str(reason) if refused else "")

    def _subscribed(
        self, _client: paho.Client, _data: Any, _mid: int, reasons: Any, _properties: Any
    ) -> None:
        if any(reason.is_failure for reason in reasons):
            log.error(
                "%s: the broker does not let us hear commands, or what the plant says (%s): allow "
                "this user to read `request/+` and the topics of `running`",
                self._config.host, reasons[0],
            )  # fmt: skip

    def _received(self, _client: paho.Client, _data: Any, message: paho.MQTTMessage) -> None:
        self._on_message(message.topic, bytes(message.payload), message.retain)


def _lost_unless_well(code: MQTTErrorCode) -> None:
    if code != paho.MQTT_ERR_SUCCESS:
        raise DeliveryError(f"the connection was lost ({paho.error_string(code)})")


def _hang_up(client: paho.Client) -> None:
    """Close the socket without a farewell; after `disconnect` this changes nothing."""
    if (sock := client.socket()) is not None:
        sock.close()
