"""Scores and alarms over MQTT: never blocks scoring, and never gives up on the broker."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from agent.drift.events import DriftEvent, DriftStatus
from agent.errors import DeliveryError
from agent.frames import AlarmEvent, AlarmStatus, Decision
from agent.health.clock import WALL_CLOCK
from agent.publish.about import Listening, health_message, info_message
from agent.publish.announce import Announcement
from agent.publish.config import MqttConfig
from agent.publish.connection import Connection
from agent.publish.drift import drift_event_message, drift_status_message
from agent.publish.home_assistant import discovery_message
from agent.publish.messages import (
    CLOUD_EVENT,
    Message,
    alarm_message,
    encode,
    event_message,
    score_message,
    sensor_message,
    status_message,
    status_of,
)
from agent.publish.news import AlarmNews
from agent.publish.outbox import Outbox
from agent.publish.outgoing import Outgoing
from agent.publish.payloads import BundleInfo
from agent.publish.store import EventStore
from agent.window.condition import SensorCondition

log = logging.getLogger(__name__)

_FIRST_WAIT_SECONDS = 1.0
_FLUSH_SECONDS = 2.0  # at the end, for what is still to be acknowledged
_TELL_REFUSED_SECONDS = 60.0


class Requests(Protocol):
    """Takes commands; `agent.request.Dispatcher`."""

    @property
    def commands(self) -> Sequence[str]:
        """Those that can be carried out."""
        ...

    def take(self, command: str, payload: bytes, *, retained: bool) -> None:
        """A request has arrived. Never raises, never waits."""
        ...


class MqttPublisher:
    """One connection to a broker for all machines.

    A single thread owns it: it connects, sends what the outbox holds, and connects again with
    growing waits, for ever. Others only put messages into the outbox, so nothing the network does
    reaches them; an alarm event alone makes its caller wait, until it is on the disk.

    Args:
        config: The broker and how to log in.
        device: This device's name.
        machines: The machines it listens to.
        folder: Where undelivered alarm events are kept.
        drifting: The machines whose drift is followed (`publish_drift`).
    """

    def __init__(
        self,
        config: MqttConfig,
        device: str,
        machines: Sequence[str],
        folder: Path,
        *,
        drifting: Collection[str] = (),
    ) -> None:
        self._config = config
        self._device = device
        self._machines = tuple(machines)
        self._drifting = frozenset(drifting)
        self._base = f"{config.prefix}/{device}"
        self._outbox = Outbox(EventStore(folder, config.outbox_max_bytes))
        self._news = AlarmNews()
        self._stop = threading.Event()
        self._connection = Connection(
            config,
            config.client_id or f"auscult-{device}",
            self._status("offline", reason="connection lost", at=None),
            on_answered=self._on_answered,
            on_message=self._on_message,
            stopping=self._stop,
        )
        self._announcement = Announcement(
            config.home_assistant, device, self._outbox, self._discovery
        )
        self._thread: threading.Thread | None = None
        self._requests: Requests | None = None
        self._bundles: Callable[[], Mapping[str, BundleInfo]] | None = None
        self._listening: Callable[[], Sequence[Listening]] | None = None
        self._unanswered: dict[int, Outgoing] = {}  # what the broker has yet to acknowledge
        self._refused = 0
        self._refusal_told: dict[str, float] = {}
        self._up = threading.Event()
        self._began = time.monotonic()
        self._away_since: float | None = None
        self._health_due = 0.0
        self.connections = 0

    @property
    def broker(self) -> str:
        """`host:port`, for people."""
        return f"{self._config.host}:{self._config.broker_port}"

    @property
    def outbox(self) -> Outbox:
        """What waits for the broker."""
        return self._outbox

    @property
    def refused(self) -> int:
        """Messages that the broker refused."""
        return self._refused

    def tell_about(
        self,
        bundles: Callable[[], Mapping[str, BundleInfo]],
        listening: Callable[[], Sequence[Listening]],
    ) -> None:
        """Publish `info` and `health` from now on; call before `start`.

        Args:
            bundles: By machine, the bundle it is judged with now.
            listening: The machines' pipelines.
        """
        self._bundles, self._listening = bundles, listening

    def listen_to(self, requests: Requests) -> None:
        """Take commands from now on; call before `start`."""
        self._requests = requests

    def start(self) -> None:
        """Read the password and certificates, open the outbox, then connect in the background.

        Raises:
            ConfigError: A file that the configuration names cannot be used, or another agent uses
                the outbox.
        """
        self._connection.prepare()
        self._outbox.start()
        self._announcement.begin()
        self.publish_info()
        self._began = self._away_since = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="mqtt", daemon=True)
        self._thread.start()

    def publish(self, machine: str, decision: Decision, *, first: bool) -> None:
        """Queue the window's score, and the alarm's state when that is new."""
        status = status_of(decision)
        if self._news.note(machine, status) or first:
            moment, score = decision.score.window.end_wall, decision.score.value
            self._put_alarm(machine, status, moment, score, decision.threshold)
        message = score_message(self._device, machine, decision, clock=WALL_CLOCK.quality)
        self._outbox.put_telemetry(
            Outgoing(
                self._topic(machine, "score"), encode(message), 0, retain=False,
                expiry_seconds=self._config.score_expiry_seconds,
            )
        )  # fmt: skip

    def tell(self, machine: str, event: AlarmEvent) -> None:
        """Take an alarm's event, which is on disk thereafter, and the state it led to."""
        self._put_event(
            machine, event_message(self._device, machine, event, clock=WALL_CLOCK.quality)
        )
        self._news.note(machine, event.status)
        self._put_alarm(machine, event.status, event.wall, event.score, event.threshold)

    def sensor(self, machine: str, condition: SensorCondition) -> None:
        """Queue the condition of a machine's microphone."""
        message = sensor_message(self._device, machine, condition, time=time.time())
        self._put_state(self._topic(machine, "sensor"), message)

    def drift(self, machine: str, status: DriftStatus) -> None:
        """Queue how a machine's drift stands."""
        self.publish_drift(machine, drift_status_message(self._device, machine, status))

    def tell_drift(self, machine: str, event: DriftEvent) -> None:
        """Take a drift warning's event, which is on disk thereafter."""
        message = drift_event_message(self._device, machine, event, clock=WALL_CLOCK.quality)
        self._put_event(machine, message)

    def publish_drift(self, machine: str, message: Message) -> None:
        """Queue an evaluation of a machine's drift, as `messages.drift_message` makes it."""
        self._put_state(self._topic(machine, "drift"), message)

    def publish_info(self) -> None:
        """Queue `info`: at the start, and whenever a bundle has changed."""
        if self._bundles is not None:
            commands = () if self._requests is None else self._requests.commands
            message = info_message(self._device, self._bundles(), commands)
            self._put_state(f"{self._base}/info", message)

    def respond(self, command: str, message: Message) -> None:
        """Queue the answer to a command."""
        topic = f"{self._base}/response/{command}"
        self._outbox.put_reply(Outgoing(topic, encode(message), 1, retain=False))

    def wait_connected(self, seconds: float) -> bool:
        """Wait until the broker is there; False when it isn't in time."""
        return self._up.wait(seconds)

    def stop(self) -> None:
        """Send what waits, say `offline`, disconnect: a couple of seconds at most. Idempotent."""
        if self._thread is None:
            return
        self._stop.set()
        self._thread.join(_FLUSH_SECONDS + 1.0)
        self._thread = None
        self._outbox.stop()
        if pending := self._outbox.pending_events():
            log.warning(
                "%s: %d alarm events were not delivered; they are kept for the next start",
                self.broker, pending,
            )  # fmt: skip
        if lost := self._outbox.store.unsaved:
            log.error("%s: %d alarm events are lost: the disk refused them", self.broker, lost)

    def state(self) -> str:
        """Connected or since when not, and what waits or was dropped."""
        parts = []
        if self._away_since is not None:
            parts.append(f"broker away for {time.monotonic() - self._away_since:.0f} s")
        if pending := self._outbox.pending_events():
            parts.append(f"{pending} alarm events wait")
        if unsaved := self._outbox.store.unsaved:
            parts.append(f"{unsaved} of them in memory alone, the disk refuses them")
        if self._refused:
            parts.append(f"{self._refused} messages refused by the broker")
        return ", ".join(parts)

    def _topic(self, machine: str, kind: str) -> str:
        return f"{self._base}/{machine}/{kind}"

    def _put_alarm(
        self,
        machine: str,
        status: AlarmStatus,
        moment: float,
        score: float | None,
        threshold: float,
    ) -> None:
        message = alarm_message(
            self._device, machine, status, time=moment, score=score, threshold=threshold
        )
        self._put_state(self._topic(machine, "alarm"), message)

    def _put_event(self, machine: str, message: Message) -> None:
        """Take a CloudEvent: on disk, until the broker has it."""
        self._outbox.put_event(
            Outgoing(
                self._topic(machine, "event"), encode(message), 1, retain=False,
                id=message["id"], content_type=CLOUD_EVENT,
            )
        )  # fmt: skip

    def _put_state(self, topic: str, message: Message) -> None:
        self._outbox.put_state(Outgoing(topic, encode(message), 1, retain=True))

    def _discovery(self, removed: Mapping[str, str]) -> Message:
        return discovery_message(
            self._base,
            self._device,
            self._machines,
            drifting=self._drifting,
            commands=() if self._requests is None else self._requests.commands,
            removed=removed,
        )

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
        self._away_since = None
        self._outbox.connected()
        self._up.set()
        try:
            self._unanswered.clear()
            self._send(self._status("online"))
            if self._requests is not None:
                self._connection.subscribe(f"{self._base}/request/+")
            self._health_due = time.monotonic()
            while not self._stop.is_set():
                self._tell_health()
                self._pump()
                self._connection.turn()
                self._outbox.settle()
            self._finish()
        finally:
            self._up.clear()
            self._outbox.disconnected()
            self._connection.close()

    def _tell_health(self) -> None:
        if self._listening is None or time.monotonic() < self._health_due:
            return
        step = self._config.health_seconds
        self._health_due = time.monotonic() + step
        message = health_message(
            self._device,
            self._listening(),
            self._outbox,
            uptime=time.monotonic() - self._began,
            reconnects=self.connections - 1,
            refused=self._refused,
        )
        # Retained for who comes later, but not for ever: old health is no health.
        self._outbox.put_telemetry(
            Outgoing(
                f"{self._base}/health", encode(message), 0, retain=True,
                expiry_seconds=max(1, round(3 * step)),
            )
        )  # fmt: skip

    def _pump(self) -> None:
        """Send what is due: states, then events, then answers, then telemetry."""
        outbox = self._outbox
        while self._room() and (state := outbox.next_state()) is not None:
            self._send(state)
        while self._room() and (event := outbox.next_event()) is not None:
            outbox.sent(self._send(event))
        while self._room() and (reply := outbox.next_reply()) is not None:
            self._send(reply)
        while (telemetry := outbox.next_telemetry()) is not None:
            self._send(telemetry)

    def _room(self) -> int:
        """Messages that may be under way beside those that are."""
        return max(0, self._connection.window - len(self._unanswered))

    def _send(self, message: Outgoing) -> int:
        mid = self._connection.send(message)
        if message.qos:
            self._unanswered[mid] = message
        return mid

    def _finish(self) -> None:
        """Send the rest, then `offline`, and wait for the broker to have it all."""
        deadline = time.monotonic() + _FLUSH_SECONDS
        said = False
        while time.monotonic() < deadline:
            self._pump()
            if not said and not self._outbox.waiting():
                self._send(self._status("offline", reason="stopped"))
                said = True
            if said and not self._unanswered:
                break
            self._connection.turn()
            self._outbox.settle()
        if not said:
            self._send(self._status("offline", reason="stopped"))
        self._connection.farewell()

    def _on_answered(self, mid: int, refusal: str) -> None:
        message = self._unanswered.pop(mid, None)
        is_event = self._outbox.acknowledged(mid, refused=bool(refusal))
        if message is None:
            return
        if refusal:
            self._tell_refused(message, refusal, is_event=is_event)
        elif message.retain:
            self._announcement.taken(message)

    def _tell_refused(self, message: Outgoing, refusal: str, *, is_event: bool) -> None:
        self._refused += 1
        now = time.monotonic()
        if now < self._refusal_told.get(message.topic, 0.0):
            return
        self._refusal_told[message.topic] = now + _TELL_REFUSED_SECONDS
        log.error(
            "%s: the broker refused a message to %s (%s); check its access rules. %s",
            self.broker, message.topic, refusal,
            "The alarm event is kept and offered again" if is_event else "It is not offered again",
        )  # fmt: skip

    def _on_message(self, topic: str, payload: bytes, retained: bool) -> None:
        if self._requests is not None:
            self._requests.take(topic.rpartition("/")[2], payload, retained=retained)

    def _status(self, status: str, *, reason: str = "", at: float | None = 0.0) -> Outgoing:
        moment = None if at is None else time.time()
        message = status_message(
            self._device, status, machines=self._machines, time=moment, reason=reason
        )
        return Outgoing(f"{self._base}/status", encode(message), qos=1, retain=True)
