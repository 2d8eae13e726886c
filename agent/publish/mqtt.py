"""Scores and alarms over MQTT: never blocks scoring, and never gives up on the broker."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from agent.activity.plant import PlantSignal
from agent.bundle.offer import OFFER, OfferState
from agent.config.publish import MqttConfig
from agent.core.cloud_event import Message
from agent.core.text import plural
from agent.monitor.observed import Delivery, OutboxHealth
from agent.publish.about import Listening, health_message, info_message, outbox_health
from agent.publish.device_payloads import BundleInfo
from agent.publish.discovery.announce import Announcement
from agent.publish.discovery.messages import discovery_messages
from agent.publish.discovery.throttle import ScoreThrottle
from agent.publish.followed import FollowedDrift
from agent.publish.mqtt_message import MqttMessage
from agent.publish.outbox import Outbox
from agent.publish.payloads import Severity
from agent.publish.route import DRIFT, HEALTH, INFO, OFFERED, RESPONSE, SCORE, SEVERITY, Route
from agent.publish.sender import Hooks, Sender
from agent.publish.store import EventStore
from agent.publish.telling import Telling
from agent.publish.topics import Topics

log = logging.getLogger(__name__)


class Requests(Protocol):
    """Takes commands; `agent.request.Dispatcher`."""

    @property
    def commands(self) -> Sequence[str]:
        """Names of the commands that can be carried out."""
        ...

    def take(self, command: str, payload: bytes, *, retained: bool) -> None:
        """A request has arrived. Never raises, never waits."""
        ...


class MqttPublisher:
    """One connection to a broker for all machines.

    Messages are put into an outbox, from which a single thread (`Sender`) sends them. So nothing
    the network does reaches a caller; an alarm event alone makes its caller wait, until it is on
    the disk.

    Args:
        config: The broker and how to log in.
        device: This device's name.
        machines: The machines it listens to.
        folder: Where undelivered alarm events are kept.
        drifting: Tells, whenever asked, the machines whose drift is followed.
        unjudged: Likewise those that have no bundle yet.
        plant: Told of what the plant says.
        offered: Takes offers of bundles: the machine, and the bytes; must neither wait nor raise.
            None takes none.
    """

    def __init__(
        self,
        config: MqttConfig,
        device: str,
        machines: Sequence[str],
        folder: Path,
        *,
        drifting: Callable[[], Sequence[str]] = tuple,
        unjudged: Callable[[], Sequence[str]] = tuple,
        plant: Sequence[PlantSignal] = (),
        offered: Callable[[str, bytes], None] | None = None,
    ) -> None:
        self._config = config
        self._device = device
        self._machines = tuple(machines)
        self._drifting = drifting
        self._topics = Topics(config, device, self._machines, unjudged)
        self.outbox = Outbox(EventStore(folder, config.outbox_max_bytes))
        self._announcement = Announcement(self.outbox, self._discovery, self._pictures)
        self._throttle = ScoreThrottle() if config.home_assistant.enabled else None
        self._followed = FollowedDrift(self.outbox, self._topics, drifting)
        self.sender = Sender(
            config,
            config.client_id or f"auscult-{device}",
            self.outbox,
            self._topics,
            Hooks(self._on_request, self._on_taken, self._on_turn),
            [signal.topic for signal in plant] + ([] if offered is None else [self._topics.offers]),
        )
        self._plant = tuple(plant)
        self._offered = offered
        self._requests: Requests | None = None
        self._bundles: Callable[[], Mapping[str, BundleInfo | None]] | None = None
        self._listening: Callable[[], Sequence[Listening] | None] | None = None
        self._began = time.monotonic()
        self._health_due = 0.0

    @property
    def refused(self) -> int:
        """Messages that the broker refused."""
        return self.sender.refusals.count

    @property
    def reconnects(self) -> int:
        """Connections after the first."""
        return max(0, self.sender.connections - 1)

    def outbox_health(self) -> OutboxHealth:
        """How delivery goes."""
        return outbox_health(self.outbox, self.refused, self.sender.proof)

    def delivery(self) -> Delivery:
        """How delivery goes, as the metrics and the watchdog read it."""
        return Delivery(self.wait_connected(0.0), self.reconnects, self.outbox_health())

    def tell_about(
        self,
        bundles: Callable[[], Mapping[str, BundleInfo | None]],
        listening: Callable[[], Sequence[Listening] | None],
    ) -> None:
        """Publish `info` and `health` from now on; call before `start`.

        Args:
            bundles: By machine, the bundle it is judged with now.
            listening: The machines' pipelines; None while there are none yet.
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
        self.sender.prepare()
        self.outbox.start()
        self._announcement.begin()
        self._followed.begin()
        self._publish_info()
        self._began = time.monotonic()
        self.sender.start(listening=self._requests is not None)

    def handle(self, telling: Telling) -> None:
        """Queue each message; an event is on disk thereafter, before any other is queued."""
        for kind, message in sorted(telling.messages, key=lambda one: one[0].route.promise):
            if kind.route is DRIFT:
                self._followed.told(telling.machine)
            self._put(kind.route, message, telling.machine)
            if kind.route is SCORE and self._throttle is not None:
                self._severity(self._throttle, telling.machine, message)

    def picture(self, machine: str, png: bytes) -> None:
        """Queue what a machine's latest alarm looks like, for Home Assistant."""
        if self._config.home_assistant.enabled:
            self.outbox.put_state(self._topics.picture(machine, png))

    def offer_state(self, machine: str, state: OfferState) -> None:
        """Queue what became of an offered bundle."""
        self._put(OFFERED, state.model_dump(mode="json"), machine)

    def respond(self, command: str, message: Message) -> None:
        """Queue the answer to a command."""
        self._put(RESPONSE, message, command)

    def wait_connected(self, seconds: float) -> bool:
        """Wait until the broker is there; False when it isn't in time."""
        return self.sender.wait_connected(seconds)

    def stop(self) -> None:
        """Send what waits, say `offline`, disconnect: a couple of seconds at most. Idempotent."""
        if not self.sender.stop():
            return
        self.outbox.stop()
        if pending := self.outbox.pending_events():
            log.warning(
                "%s: %d alarm events were not delivered; they are kept for the next start",
                self.sender.broker, pending,
            )  # fmt: skip
        if lost := self.outbox.store.unsaved:
            log.error(
                "%s: %d alarm events are lost: the disk refused them", self.sender.broker, lost
            )

    def state(self) -> str:
        """Connected or since when not, and what waits or was dropped."""
        parts = []
        if (since := self.sender.away_since) is not None:
            parts.append(f"broker away for {time.monotonic() - since:.0f} s")
        if pending := self.outbox.pending_events():
            parts.append(f"{plural(pending, 'alarm event')} waiting")
        if unsaved := self.outbox.store.unsaved:
            parts.append(f"{unsaved} of them in memory alone, the disk refuses them")
        store = self.outbox.store
        if store.quarantined:
            parts.append(f"{plural(store.quarantined, 'damaged event')} not sent")
        if store.vanished:
            parts.append(f"{plural(store.vanished, 'event')} vanished from the disk before")
        if self.refused:
            parts.append(f"{self.refused} messages refused by the broker")
        if denied := self.sender.proof.denied:
            parts.append(f"nothing arrives at {', '.join(sorted(denied))}: the broker denies it")
        return ", ".join(parts)

    def bundle_changed(self) -> None:
        """A machine is judged with another bundle: all that names bundles is told anew."""
        self._publish_info()
        # Also that it is judged now. While the broker is away, each connection says so anyway.
        if self.sender.wait_connected(0.0):
            self.outbox.put_state(self._topics.status("online"))
        self._announcement.renew()
        self._followed.renew()

    def _publish_info(self) -> None:
        if self._bundles is not None:
            self._put(INFO, info_message(self._device, self._bundles(), self._commands()))

    def _put(self, way: Route, message: Message, below: str = "") -> None:
        self.outbox.put(self._topics.message(way, message, below), way.promise)

    def _severity(self, throttle: ScoreThrottle, machine: str, score: Message) -> None:
        if throttle.due(machine, score, time.monotonic()):
            told = {field: score[field] for field in Severity.model_fields}
            self._put(SEVERITY, told, machine)

    def _discovery(self) -> Mapping[str, Message]:
        if not self._config.home_assistant.enabled:
            return {}
        return discovery_messages(
            self._config.home_assistant,
            self._topics.base,
            self._device,
            self._machines,
            drifting=self._drifting(),
            commands=self._commands(),
        )

    def _pictures(self) -> list[str]:
        return [self._topics.picture(machine, b"").topic for machine in self._machines]

    def _commands(self) -> Sequence[str]:
        return () if self._requests is None else self._requests.commands

    # Called by the thread that owns the connection.

    def _on_turn(self, first: bool) -> None:
        """Tell how the agent is, when that is due."""
        now = time.monotonic()
        if self._listening is None or not (first or now >= self._health_due):
            return
        machines = self._listening()
        if machines is None:  # connected before they were begun: told at the next turn
            self._health_due = now
            return
        self._health_due = now + self._config.health_seconds
        message = health_message(
            self._device,
            machines,
            self.outbox,
            uptime=now - self._began,
            reconnects=self.reconnects,
            refused=self.refused,
            proof=self.sender.proof,
        )
        self._put(HEALTH, message)

    def _on_taken(self, message: MqttMessage) -> None:
        self._announcement.taken(message)
        self._followed.taken(message)

    def _on_request(self, topic: str, payload: bytes, retained: bool) -> None:
        if self._offered is not None and not topic.startswith(self._topics.requests[:-1]):
            head, _, last = topic.rpartition("/")
            base, _, machine = head.rpartition("/")
            if last == OFFER and base == self._topics.base:
                self._offered(machine, payload)
                return
        signals = [signal for signal in self._plant if signal.topic == topic]
        for signal in signals:
            signal.take(payload)
        if self._requests is not None and not signals:
            self._requests.take(topic.rpartition("/")[2], payload, retained=retained)
