"""The thread that owns the connection: it sends what the outbox holds, and never gives up."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from agent.config.publish import MqttConfig
from agent.core.errors import DeliveryError
from agent.core.text import plural
from agent.publish.connection import Connection
from agent.publish.held import HeldRequests
from agent.publish.mqtt_message import MqttMessage
from agent.publish.outbox import Outbox
from agent.publish.proof import DeliveryProof
from agent.publish.refusals import Refusals
from agent.publish.suspicion import SHORT_SECONDS, Suspicion
from agent.publish.topics import Topics

log = logging.getLogger(__name__)

_FIRST_WAIT_SECONDS = 1.0
_UNSENT = -1  # no message's number
_FLUSH_SECONDS = 2.0  # at the end, for what is still to be acknowledged


@dataclass(frozen=True, slots=True)
class Hooks:
    """Who is asked and told by the sending thread.

    Attributes:
        requested: A request has arrived: its topic, its bytes, whether the broker had retained it.
        taken: The broker has a retained message.
        turn: Called before each turn of the network; whether it is the first of a connection.
    """

    requested: Callable[[str, bytes, bool], None]
    taken: Callable[[MqttMessage], None]
    turn: Callable[[bool], None]


class Sender:
    """Connects, sends, and connects again with growing waits, for ever.

    Args:
        config: The broker and how to log in.
        client_id: Stable, so that the broker knows us again.
        outbox: What there is to send; only this thread takes from it.
        envelopes: Makes `status`, and knows where commands arrive.
        hooks: Who is asked and told.
        topics: Listened to beside commands, also what the broker has retained of them.
    """

    def __init__(
        self,
        config: MqttConfig,
        client_id: str,
        outbox: Outbox,
        envelopes: Topics,
        hooks: Hooks,
        topics: Sequence[str] = (),
    ) -> None:
        self._config = config
        self._topics = tuple(dict.fromkeys(topics))
        self._outbox = outbox
        self._envelopes = envelopes
        self._hooks = hooks
        self._stop = threading.Event()
        self._connection = Connection(
            config,
            client_id,
            envelopes.status("offline", reason="connection lost", timeless=True),
            on_answered=self._on_answered,
            on_message=self._on_message,
            stopping=self._stop,
        )
        self._client_id = client_id
        self._held = HeldRequests(envelopes.requests, hooks.requested)
        self._thread: threading.Thread | None = None
        # What the broker has yet to acknowledge, oldest first, and since when.
        self._unanswered: dict[int, tuple[MqttMessage, float]] = {}
        self._suspicion = Suspicion()
        self.proof = DeliveryProof(envelopes.base, self.broker)
        self._began = 0.0
        self._up = threading.Event()
        self._listening = False
        self.refusals = Refusals(self.broker)
        #: Monotonic time since which the broker is away; None while it is there.
        self.away_since: float | None = None
        #: Connections so far.
        self.connections = 0

    @property
    def broker(self) -> str:
        """`host:port`, for people."""
        return f"{self._config.host}:{self._config.broker_port}"

    @property
    def idle(self) -> bool:
        """Whether the broker has acknowledged all that was sent."""
        return not self._unanswered

    def prepare(self) -> None:
        """Read the password and certificates.

        Raises:
            ConfigError: A file that the configuration names cannot be used.
        """
        self._connection.prepare()

    def start(self, *, listening: bool) -> None:
        """Connect in the background.

        Args:
            listening: Whether commands are taken.
        """
        self._listening = listening
        self.away_since = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="mqtt", daemon=True)
        self._thread.start()

    def stop(self) -> bool:
        """Send what waits, say `offline`, disconnect; False when it had not been started."""
        if self._thread is None:
            return False
        self._stop.set()
        self._thread.join(_FLUSH_SECONDS + 1.0)
        self._thread = None
        return True

    def wait_connected(self, seconds: float) -> bool:
        """Wait until the broker is there; False when it isn't in time."""
        return self._up.wait(seconds)

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
            if self.away_since is None:
                self.away_since = time.monotonic()
                lasted = self.away_since - self._began
                if self._connection.taken_over:
                    pass  # whoever has our name comes back: both wait longer and longer
                elif lasted >= SHORT_SECONDS:
                    wait, told = _FIRST_WAIT_SECONDS, False
                    self._suspicion.well()
                else:
                    self._blame(lasted)
                    problem += self._hint()
            if not told:
                log.warning("%s: %s; trying again in %.0f s", self.broker, problem, wait)
            # Every step is told once; when the longest is reached, the heartbeat goes on telling.
            told = wait >= self._config.reconnect_max_seconds
            # A plant's devices must not all return in the same instant after a power cut.
            self._pause(wait * random.uniform(0.8, 1.2))  # noqa: S311 - no secret
            wait = min(2 * wait, self._config.reconnect_max_seconds)

    def _pause(self, seconds: float) -> None:
        """Wait for the next attempt; what the disk refused is offered to it again meanwhile."""
        deadline = time.monotonic() + seconds
        while not self._stop.wait(min(1.0, max(0.0, deadline - time.monotonic()))):
            self._outbox.settle()
            if time.monotonic() >= deadline:
                return

    def _session(self) -> None:
        """Connect and serve; returns when stopped.

        Raises:
            DeliveryError: The broker cannot be reached, refuses us, or went away.
        """
        self._connection.open()
        log.info("%s: connected (MQTT %s)", self.broker, self._connection.version)
        self.connections += 1
        self.away_since, self._began = None, time.monotonic()
        self._outbox.connected()
        self._up.set()
        try:
            self._unanswered.clear()
            # MQTT 5 says of each message whether it was retained, and whether it was refused.
            mute = self._connection.version == "3.1.1"
            self._held.begin(hold=mute)
            self.proof.begin(active=mute)
            for topic in self.proof.filters if mute else ():
                self._connection.subscribe(topic)
            self._send(self._envelopes.status("online"))
            if self._listening:
                self._connection.subscribe(self._envelopes.requests)
            for topic in self._topics:
                self._connection.subscribe(topic, retained=True)
            first = True
            while not self._stop.is_set():
                self._hooks.turn(first)
                first = False
                self._pump()
                self._connection.turn()
                self._held.look()
                self._outbox.settle()
                self._look_at_the_clock()
                self._prove()
            self._finish()
        finally:
            self._up.clear()
            self._outbox.disconnected()
            self._connection.close()

    def _look_at_the_clock(self) -> None:
        """The connection has lasted, or the broker owes us an answer for too long.

        Raises:
            DeliveryError: It does.
        """
        now = time.monotonic()
        if self._suspicion.careful and now - self._began >= SHORT_SECONDS:
            self._suspicion.well()
        _, since = next(iter(self._unanswered.values()), (None, now))
        if now - since >= self._config.acknowledge_seconds:
            raise DeliveryError(
                f"has not acknowledged a message for {now - since:.0f} s "
                f"({plural(len(self._unanswered), 'message')} under way)",
                remedy="The connection is made anew, and they are sent again",
            )

    def _prove(self) -> None:
        """Send what proves the way, and settle what should be back by now."""
        if self.proof.probe_due():
            for probe in self._envelopes.probes():
                self._send(probe)
        for mid, denied in self.proof.overdue():
            if denied:
                self._outbox.denied(mid)
            else:
                self._outbox.acknowledged(mid)

    def _hint(self) -> str:
        """What may be the matter when connections keep ending soon, and nobody says why."""
        if not self._suspicion.careful:
            return ""
        return f". Has another client the same client id, {self._client_id!r}?"

    def _blame(self, lasted: float) -> None:
        """A connection has ended: was it a message that ended it?"""
        under_way = [message for message, _ in self._unanswered.values()]
        found = self._suspicion.ended(lasted, under_way)
        if found is None:
            return
        if found.id:
            fate = self._outbox.condemn(found)
        else:
            self._suspicion.ban(found)
            fate = "messages of that topic and size are left out for a while"
        self.refusals.ended(found, fate)

    def _pump(self) -> None:
        """Send what is due: states, then events, then answers, then telemetry."""
        outbox = self._outbox
        while self._room() and (state := outbox.next_state()) is not None:
            self._send(state)
        while self._room() and (event := outbox.next_event()) is not None:
            mid = self._send(event)
            outbox.sent(mid)
            if mid == _UNSENT:
                outbox.acknowledged(mid, refused=True)
        while self._room() and (reply := outbox.next_reply()) is not None:
            self._send(reply)
        # Nothing bounds what is handed over with QoS 0: on a link slower than the scores it would
        # grow, and alarms stand behind it. In the outbox the oldest gives way, and is counted.
        careful = self._suspicion.careful
        while (
            not self._connection.congested
            and (not careful or self._room())
            and (telemetry := outbox.next_telemetry()) is not None
        ):
            self._send(replace(telemetry, qos=1) if careful else telemetry)

    def _room(self) -> int:
        """Messages that may be under way beside those that are."""
        window = 1 if self._suspicion.careful else self._connection.window
        return max(0, window - len(self._unanswered))

    def _send(self, message: MqttMessage) -> int:
        """Send a message; its number, or `_UNSENT` for one that would cost us the connection."""
        if why := self._connection.too_large(message):
            self.refusals.note(message.topic, why, is_event=bool(message.id))
            return _UNSENT
        if not message.id and self._suspicion.banned(message):
            return _UNSENT
        try:
            mid = self._connection.send(message)
        except ValueError as fault:  # paho's own: it is no message that MQTT knows
            self.refusals.note(message.topic, str(fault), is_event=bool(message.id))
            return _UNSENT
        if message.qos:
            self._unanswered[mid] = message, time.monotonic()
            self.proof.sent(mid, message)
        return mid

    def _finish(self) -> None:
        """Send the rest, then `offline`, and wait for the broker to have it all."""
        deadline = time.monotonic() + _FLUSH_SECONDS
        said = False
        while time.monotonic() < deadline:
            self._pump()
            if not said and not self._outbox.waiting():
                self._send(self._envelopes.status("offline", reason="stopped"))
                said = True
            if said and not self._unanswered:
                break
            self._connection.turn()
            self._outbox.settle()
        if not said:
            self._send(self._envelopes.status("offline", reason="stopped"))
        self._connection.farewell()

    def _on_answered(self, mid: int, refusal: str) -> None:
        message, _ = self._unanswered.pop(mid, (None, 0.0))
        if message is not None and self.proof.answered(mid, refused=bool(refusal)):
            if message.retain:
                self._hooks.taken(message)
            return
        is_event = self._outbox.acknowledged(mid, refused=bool(refusal))
        if message is None:
            return
        if refusal:
            self.refusals.note(message.topic, refusal, is_event=is_event)
        elif message.retain:
            self._hooks.taken(message)

    def _on_message(self, topic: str, payload: bytes, retained: bool) -> None:
        denied = self.proof.denied
        for mid in self.proof.returned(topic, payload, retained=retained):
            self._outbox.acknowledged(mid)
        if self.proof.denied < denied:
            self._outbox.offer_again()
        if topic in self._topics or not self.proof.owns(topic):
            self._held.take(topic, payload, retained=retained)
