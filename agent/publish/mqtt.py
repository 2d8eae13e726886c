"""Scores and alarms over MQTT: never blocks scoring, and never gives up on the broker."""

from __future__ import annotations

import logging
import random
import ssl
import threading
import time
from collections.abc import Sequence
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from agent.errors import ConfigError, DeliveryError
from agent.frames import Decision
from agent.publish.config import MqttConfig
from agent.publish.messages import (
    Message,
    alarm_message,
    encode,
    event_message,
    score_message,
    status_message,
)
from agent.publish.outbox import MemoryOutbox, Outgoing

log = logging.getLogger(__name__)

_CONNECT_SECONDS = 5.0  # for the TCP connection, and again for the broker's answer
# Some brokers never answer a version they don't know: the next is tried sooner.
_VERSION_SECONDS = 2.5
_POLL_SECONDS = 0.1
_FIRST_WAIT_SECONDS = 1.0
_FLUSH_SECONDS = 2.0  # at the end, for what is still to be acknowledged
_UNDER_WAY = 20  # events sent and not yet acknowledged
_VERSIONS = {MQTTProtocolVersion.MQTTv5: "5", MQTTProtocolVersion.MQTTv311: "3.1.1"}


class MqttPublisher:
    """One connection to a broker for all machines.

    A single thread owns it: it connects, sends what the outbox holds, and connects again with
    growing waits, for ever. Others only put messages into the outbox, so nothing the network does
    reaches them. MQTT 5 is tried first, then 3.1.1, and what worked is kept.

    Args:
        config: The broker and how to log in.
        device: This device's name.
        machines: The machines it listens to.
    """

    def __init__(self, config: MqttConfig, device: str, machines: Sequence[str]) -> None:
        self._config = config
        self._device = device
        self._machines = tuple(machines)
        self._base = f"{config.prefix}/{device}"
        self._outbox = MemoryOutbox(config.max_pending_events)
        self._password: str | None = None
        self._protocol = (
            MQTTProtocolVersion.MQTTv311
            if config.version == "3.1.1"
            else MQTTProtocolVersion.MQTTv5
        )
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._answer: Any = None  # the broker's to our request to connect
        self._unanswered: set[int] = set()  # what it has yet to acknowledge
        self._refused = 0
        self._up = threading.Event()
        self._away_since: float | None = None
        self.connections = 0

    @property
    def broker(self) -> str:
        """`host:port`, for people."""
        return f"{self._config.host}:{self._config.broker_port}"

    def start(self) -> None:
        """Read the password and certificates, then connect in the background.

        Raises:
            ConfigError: A file that the configuration names cannot be used.
        """
        self._password = _password(self._config)
        self._new_client()  # finds a missing or broken certificate now, not at night
        self._away_since = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="mqtt", daemon=True)
        self._thread.start()

    def publish(self, machine: str, decision: Decision, *, first: bool) -> None:
        """Queue the window's score, and what changed with it."""
        topic = f"{self._base}/{machine}"
        score = score_message(self._device, machine, decision)
        self._outbox.put_telemetry(Outgoing(f"{topic}/score", encode(score), 0, retain=False))
        if decision.changed or first:
            state = alarm_message(self._device, machine, decision)
            self._outbox.put_state(Outgoing(f"{topic}/alarm", encode(state), 1, retain=True))
        if decision.changed:
            event = event_message(self._device, machine, decision)
            fits = self._outbox.put_event(Outgoing(f"{topic}/event", encode(event), 1, False))
            if not fits:
                log.error(
                    "%s: more than %d alarm events wait for the broker; the oldest was dropped "
                    "(%d so far)",
                    self.broker, self._config.max_pending_events, self._outbox.dropped_events,
                )  # fmt: skip

    def wait_connected(self, seconds: float) -> bool:
        """Wait until the broker is there; False when it isn't in time."""
        return self._up.wait(seconds)

    def stop(self) -> None:
        """Send what waits, say `offline`, disconnect: a couple of seconds at most."""
        if self._thread is None:
            return
        self._stop.set()
        self._thread.join(_FLUSH_SECONDS + 1.0)
        self._thread = None
        if pending := self._outbox.pending_events():
            log.error("%s: %d alarm events were not delivered", self.broker, pending)

    def state(self) -> str:
        """Connected or since when not, and what waits or was dropped."""
        parts = []
        if self._away_since is not None:
            parts.append(f"broker away for {time.monotonic() - self._away_since:.0f} s")
        if pending := self._outbox.pending_events():
            parts.append(f"{pending} alarm events wait")
        if self._refused:
            parts.append(f"{self._refused} messages refused by the broker")
        if self._outbox.dropped_events:
            parts.append(f"{self._outbox.dropped_events} alarm events dropped")
        return ", ".join(parts)

    # Everything below runs in the thread that owns the connection.

    def _run(self) -> None:
        wait, told = _FIRST_WAIT_SECONDS, False
        while not self._stop.is_set():
            try:
                self._session()
            except DeliveryError as fault:
                problem = str(fault)
            except Exception as fault:
                problem = f"the connection failed: {fault!r}"
                log.debug("mqtt", exc_info=True)
            else:
                return
            if self._away_since is None:
                self._away_since = time.monotonic()
                wait, told = _FIRST_WAIT_SECONDS, False
            if not told:
                log.warning("%s: %s; trying again in %.0f s", self.broker, problem, wait)
            # Every step is told once; when the longest is reached, the heartbeat goes on telling.
            told = wait >= self._config.reconnect_max_seconds
            # A plant's devices must not all return in the same instant after a power cut.
            self._stop.wait(wait * random.uniform(0.8, 1.2))  # noqa: S311 - no secret
            wait = min(2 * wait, self._config.reconnect_max_seconds)

    def _session(self) -> None:
        """Connect and serve; returns when stopped.

        Raises:
            DeliveryError: The broker cannot be reached, refuses us, or went away.
        """
        client = self._connect()
        log.info("%s: connected (MQTT %s)", self.broker, _VERSIONS[self._protocol])
        self.connections += 1
        self._away_since = None
        self._outbox.connected()
        self._up.set()
        try:
            self._unanswered.clear()
            self._send(client, self._status("online"))
            while not self._stop.is_set():
                self._pump(client)
                self._turn(client)
            self._finish(client)
        finally:
            self._up.clear()
            self._outbox.disconnected()
            _hang_up(client)

    def _connect(self) -> paho.Client:
        """A connected client, of the MQTT version the broker speaks."""
        versions = [self._protocol]
        if self._config.version == "auto":
            versions += [version for version in _VERSIONS if version is not self._protocol]
        problem = ""
        for version in versions:
            client = self._new_client(version)
            try:
                client.connect(
                    self._config.host, self._config.broker_port, self._config.keepalive_seconds
                )
            except OSError as fault:
                # Also a certificate that doesn't verify: ssl's errors are OSErrors.
                raise DeliveryError(f"not reached ({fault.strerror or fault})") from fault
            patience = _CONNECT_SECONDS if version is versions[-1] else _VERSION_SECONDS
            answer = self._await_answer(client, patience)
            if answer is None:
                # Some brokers just close, or say nothing, when they don't know the version.
                problem = "it does not answer the request to connect"
            elif not answer.is_failure:
                self._protocol = version
                return client
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

    def _await_answer(self, client: paho.Client, seconds: float) -> Any:
        """The broker's answer to the request to connect; None when it closes or says nothing."""
        self._answer = None
        deadline = time.monotonic() + seconds
        while self._answer is None and time.monotonic() < deadline and not self._stop.is_set():
            if client.loop(_POLL_SECONDS) != paho.MQTT_ERR_SUCCESS:
                break
        return self._answer

    def _new_client(self, version: MQTTProtocolVersion | None = None) -> paho.Client:
        client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=self._config.client_id or f"auscult-{self._device}",
            protocol=version or self._protocol,
            reconnect_on_failure=False,
        )
        client.connect_timeout = _CONNECT_SECONDS
        if self._config.username is not None:
            client.username_pw_set(self._config.username, self._password)
        if self._config.tls is not None:
            _secure(client, self._config)
        will = self._status("offline", reason="connection lost", at=None)
        client.will_set(will.topic, will.payload, qos=1, retain=True)
        client.on_connect = self._on_connect
        client.on_publish = self._on_publish
        return client

    def _on_connect(
        self, _client: paho.Client, _data: Any, _flags: Any, reason: Any, _properties: Any
    ) -> None:
        self._answer = reason

    def _on_publish(
        self, _client: paho.Client, _data: Any, mid: int, reason: Any, _properties: Any
    ) -> None:
        self._unanswered.discard(mid)
        self._outbox.acknowledged(mid)
        if reason is not None and reason.is_failure:
            self._refused += 1
            # Offering it again would be refused again, and hold up all that comes after it.
            log.error("%s: the broker refused a message (%s)", self.broker, reason)

    def _status(self, status: str, *, reason: str = "", at: float | None = 0.0) -> Outgoing:
        moment = None if at is None else time.time()
        message: Message = status_message(
            self._device, status, machines=self._machines, time=moment, reason=reason
        )
        return Outgoing(f"{self._base}/status", encode(message), qos=1, retain=True)

    def _pump(self, client: paho.Client) -> None:
        """Send what is due: states, then events, then telemetry."""
        while (state := self._outbox.next_state()) is not None:
            self._send(client, state)
        while (event := self._outbox.next_event(_UNDER_WAY)) is not None:
            self._outbox.sent(event, self._send(client, event))
        while (telemetry := self._outbox.next_telemetry()) is not None:
            self._send(client, telemetry)

    def _send(self, client: paho.Client, message: Outgoing) -> int:
        info = client.publish(message.topic, message.payload, message.qos, message.retain)
        if info.rc != paho.MQTT_ERR_SUCCESS:
            raise DeliveryError(f"the connection was lost ({paho.error_string(info.rc)})")
        if message.qos:
            self._unanswered.add(info.mid)
        return info.mid

    def _turn(self, client: paho.Client) -> None:
        """One turn of the network: reads, writes, keeps alive."""
        code = client.loop(_POLL_SECONDS)
        if code != paho.MQTT_ERR_SUCCESS:
            raise DeliveryError(f"the connection was lost ({paho.error_string(code)})")

    def _finish(self, client: paho.Client) -> None:
        """Send the rest, then `offline`, and wait for the broker to have it all."""
        deadline = time.monotonic() + _FLUSH_SECONDS
        said = False
        while time.monotonic() < deadline:
            self._pump(client)
            if not said and not self._outbox.pending_events():
                self._send(client, self._status("offline", reason="stopped"))
                said = True
            if said and not self._unanswered:
                break
            self._turn(client)
        client.disconnect()


def _hang_up(client: paho.Client) -> None:
    """Close the socket without a farewell; after `disconnect` this changes nothing."""
    if (sock := client.socket()) is not None:
        sock.close()


def _password(config: MqttConfig) -> str | None:
    """The first line of the password file.

    Raises:
        ConfigError: It cannot be read, or is empty.
    """
    path = config.password_file
    if path is None:
        return None
    remedy = "Put the password on its first line, readable by the agent's user only (chmod 600)."
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as fault:
        raise ConfigError(
            f"the password file cannot be read: {fault.strerror}", where=path, remedy=remedy
        ) from fault
    except UnicodeDecodeError as fault:
        raise ConfigError("the password file is not UTF-8", where=path, remedy=remedy) from fault
    password = text.splitlines()[0] if text else ""
    if not password:
        raise ConfigError("the password file's first line is empty", where=path, remedy=remedy)
    if path.stat().st_mode & 0o007:
        log.warning("%s: every user of this device can read the password (chmod 600)", path)
    return password


def _secure(client: paho.Client, config: MqttConfig) -> None:
    tls = config.tls
    assert tls is not None
    for field in ("ca_file", "cert_file", "key_file"):
        path = getattr(tls, field)
        if path is not None and not path.is_file():
            raise ConfigError(
                "there is no such file", where=path, remedy=f"Check `mqtt.tls.{field}`."
            )
    try:
        context = ssl.create_default_context(cafile=tls.ca_file)
        if tls.cert_file is not None:
            context.load_cert_chain(tls.cert_file, tls.key_file, password=_no_passphrase)
    except (OSError, ValueError) as fault:
        raise ConfigError(
            f"the TLS files cannot be used: {fault}",
            where=tls.cert_file or tls.ca_file,
            remedy="They must be PEM, the key without a pass phrase and matching the certificate.",
        ) from fault
    client.tls_set_context(context)


def _no_passphrase() -> str:
    """Where OpenSSL would ask at the terminal, for which nobody is there."""
    raise ValueError("the key has a pass phrase")
