"""The agent: its machines' pipelines, what they share, and how it begins and ends."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence

from agent.activity.plant import signals_of
from agent.bundle.events import BundleEvent
from agent.bundle.offer import OfferState
from agent.capture.probe import check_paths
from agent.capture.supervise import attempt_seconds
from agent.commission.requests import commission_handler, commissions_of
from agent.config.agent import AgentConfig
from agent.core.clock import WALL_CLOCK, utc
from agent.core.cloud_event import Message
from agent.core.errors import ConfigError
from agent.decide.service import AlarmService
from agent.deploy.load import Bundle
from agent.deploy.offered import offer_taker
from agent.drift.service import DriftService
from agent.extensions import Extensions
from agent.listeners import Listeners, Listening
from agent.machine.circumstances import away_for
from agent.monitor.metrics import exposition
from agent.monitor.server import MetricsServer
from agent.monitor.systemd import Notifier
from agent.monitor.watchdog import WatchdogFeeder
from agent.notify.publisher import NotificationPublisher
from agent.pipeline.mending import Mending, start_all
from agent.pipeline.pipeline import Pipeline
from agent.publish.about import bundle_info, info_message, level_of, machine_health
from agent.publish.broadcaster import Broadcaster
from agent.publish.console import ConsolePublisher
from agent.publish.device_payloads import BundleInfo
from agent.publish.jsonl import JsonlPublisher
from agent.publish.mqtt import MqttPublisher
from agent.publish.sparkplug.publisher import sparkplug_of
from agent.publish.telling import Publisher
from agent.request.alarms import alarm_handlers
from agent.request.audit import AuditTrail
from agent.request.commands import Handler
from agent.request.dispatch import Dispatcher
from agent.request.drift import drift_handlers
from agent.request.level import level_handlers
from agent.request.resend import resend_handler
from agent.request.roles import Access, Origin, check_token
from agent.request.why import why_handler
from agent.web.attach import Page
from agent.web.backend import Backend
from agent.web.models import PageHealth

log = logging.getLogger(__name__)

# A replay as fast as possible would be over before a broker on the same network is connected.
_BROKER_SECONDS = 6.0
_STOP_SECONDS = 2.0
_STEP_SECONDS = 0.2


class Agent:
    """Runs until its sources end, it is stopped, or a fault that only a restart can mend.

    Args:
        config: What to listen to and whom to tell.
    """

    def __init__(self, config: AgentConfig) -> None:
        self.config = config
        self._wake = threading.Event()
        self._stopping = False
        self.extensions = Extensions(
            config,
            lambda name: self.listeners.named(name),  # noqa: PLW0108 - made below
            lambda name, bundle: self.listeners.begin_anew(name, bundle),  # noqa: PLW0108
            self._bundle_changed, self._tell_bundle, self._pictured,
        )  # fmt: skip
        self._offers = offer_taker(
            config, self.extensions.swapper.reload, self._digest_in_use, self._tell_offer
        )
        self._plant = signals_of({one.name: one.running for one in config.machines})
        self._commissions = commissions_of(config, self.extensions.commissioned)
        self._broker: MqttPublisher | None = None
        self._mending = Mending(self.extensions.begin_anew)
        self._publishers: list[Publisher] = []
        self._requests: Dispatcher | None = None
        self._vigil = WatchdogFeeder(Notifier())
        self._metrics: MetricsServer | None = None
        #: Which commands came, and what became of them.
        self.audit = AuditTrail(config.state_path / "audit")
        self._began_wall = time.time()
        self._began = time.monotonic()
        #: The device's own page, when there is one.
        self.page = Page(config) if config.web.enabled else None
        self.listeners = Listeners(
            config, self.extensions, self._broadcaster, self._wake.set, self._broker_away,
            self._plant, self._commissions, {} if self.page is None else self.page.sounds,
        )  # fmt: skip
        #: Who carries out which command; registered before `start`.
        self.handlers: dict[str, Handler] = {}

    def prepare(self, *, strict: bool = False) -> None:
        """Open and verify every bundle, and see that recordings to be played are there.

        Args:
            strict: Do not fall back on a bundle that worked before.

        Raises:
            BundleError: No machine's bundle is as it was exported, nor is there another; when
                strict, one machine's is not.
            AudioError: A path of recordings matches nothing.
            ConfigError: The page is asked for and not installed.
        """
        try:
            check_token(self.config.commands)
        except ConfigError as fault:
            if strict:
                raise
            # Nobody teaches or manages over MQTT meanwhile; machines are listened to.
            log.error("%s", fault)  # noqa: TRY400 - said in words, not as a trace
        # Before anything that takes time: a path is the likeliest mistake.
        if self.page is not None:
            self.page.check()
        for machine in self.config.machines:
            source = self.config.source_of(machine)
            if source is not None:
                check_paths(source)
        self.extensions.open_bundles(strict=strict)
        for machine in self.config.machines:
            bundle = self.extensions.bundle(machine.name)
            if bundle is None and self.extensions.refusal(machine.name):
                continue  # told
            if bundle is None:
                log.warning(
                    "%s: no bundle yet: it is heard and recorded, not judged. Put the bundle at %s",
                    machine.name, self.config.bundle_of(machine),
                )  # fmt: skip
                continue
            trained = bundle.manifest.trained_on
            log.info(
                "%s: bundle %s (%s, preset %s, %d rows) verified",
                machine.name, bundle.path, trained.machine, trained.preset, len(bundle.rows),
            )  # fmt: skip
            for note in dict.fromkeys((bundle.manifest.threshold.caveat, *bundle.manifest.notes)):
                if note:
                    log.info("%s: the bundle notes: %s", machine.name, note)

    def start(self) -> None:
        """Begin to publish and to listen; `prepare` comes first.

        Raises:
            AuscultError: A publisher or source cannot work as configured.
        """
        WALL_CLOCK.look()
        names = self.config.names
        device = self.config.device_name
        publishers: list[Publisher] = [ConsolePublisher()]
        if self.page is not None:
            publishers.append(self.page.live)
        if self.config.jsonl is not None:
            publishers.append(JsonlPublisher(self.config.jsonl, device, names, self._unjudged))
        broker = None
        if self.config.mqtt is not None:
            folder = self.config.state_path / "outbox"
            broker = MqttPublisher(
                self.config.mqtt, device, names, folder,
                drifting=self._drifting, unjudged=self._unjudged,
                plant=list(self._plant.values()),
                offered=None if self._offers is None else self._offers.take,
            )  # fmt: skip
        if broker is not None or self.page is not None:
            self.handlers.update(alarm_handlers(self.answer_alarm, self.extensions.acknowledged))
            self.handlers.update(drift_handlers(self._drift))
            self.handlers.update(level_handlers(self.listeners.judging, self._bundle_changed))
            if self._commissions:
                answer = self.extensions.handlers()["feedback"]
                self.handlers["commission"] = commission_handler(self._commissions, answer)
            self.handlers.update(self.extensions.handlers())
            if broker is not None:
                self.handlers["resend"] = resend_handler(broker.outbox)
            if self.page is not None:
                decide = {machine.name: machine.decide for machine in self.config.machines}
                self.handlers["why"] = why_handler(self.page.history, decide)
            respond = _unheard if broker is None else broker.respond
            self._requests = Dispatcher(
                device, names, self.handlers, respond,
                access=Access(self.config.commands), audit=self.audit,
            )  # fmt: skip
        if broker is not None and self._requests is not None:
            broker.tell_about(self.bundle_infos, lambda: self.pipelines or None)
            broker.listen_to(self._requests)
            publishers.append(broker)
        publishers += sparkplug_of(self.config)
        if self.config.notify is not None:
            folder = self.config.state_path / "notify"
            publishers.append(NotificationPublisher(self.config.notify, device, folder))
        if self.page is not None:
            publishers.append(self.page.history)
        self._broker = broker
        for publisher in publishers:
            publisher.start()
            self._publishers.append(publisher)
        self.extensions.start()
        self.listeners.make()
        if broker is not None and not all(pipeline.live for pipeline in self.pipelines):
            broker.wait_connected(_BROKER_SECONDS)
        machines = self.config.machines
        self._vigil.begin(
            max(self.listeners.step(machine) for machine in machines),
            max(attempt_seconds(self.config.source_of(machine)) for machine in machines),
        )
        start_all(self.pipelines)
        if broker is not None:
            broker.bundle_changed()  # what the thresholds promise is known only now
        self.extensions.attend()
        if self._offers is not None:
            self._offers.start()
        if self.config.metrics is not None:
            self._metrics = MetricsServer(self.config.metrics, self.exposition)
            self._metrics.start()
        if self._requests is not None:
            self._requests.start()
            if self.page is not None:
                self.page.start(self._backend(self.page, self._requests))

    def _backend(self, page: Page, requests: Dispatcher) -> Backend:
        """What the page gets."""
        return Backend(
            config=self.config,
            live=page.live,
            history=page.history,
            sounds=page.sounds,
            collector=self.extensions.collector,
            info=self.info,
            health=self.health,
            ask=lambda name, data, respond, client: requests.take(
                name, data, respond=respond, origin=Origin("page", client)
            ),
            choose=self.listeners.choose_microphone,
            audit=self.audit,
            days=self.listeners.days,
            recent=self.extensions.recent,
        )

    def info(self) -> Message:
        commands = () if self._requests is None else self._requests.commands
        return info_message(self.config.device_name, self.bundle_infos(), commands)

    def health(self) -> Message:
        broker, infos = self._broker, self.bundle_infos()
        return PageHealth(
            device=self.config.device_name,
            time=utc(time.time()),
            clock=WALL_CLOCK.quality,
            uptime_seconds=round(time.monotonic() - self._began, 1),
            broker=None if broker is None else broker.sender.broker,
            connected=None if broker is None else broker.wait_connected(0.0),
            reconnects=0 if broker is None else broker.reconnects,
            outbox=None if broker is None else broker.outbox_health(),
            machines={pipeline.name: machine_health(pipeline) for pipeline in self.pipelines},
            levels={name: one.level for name, one in infos.items() if one},
            promises={name: list(one.promise) for name, one in infos.items() if one},
            blind={name: one.blind for name, one in infos.items() if one and one.blind},
            remarks=self.publisher_states(),
        ).model_dump(mode="json")

    def bundle_infos(self) -> dict[str, BundleInfo | None]:
        found: dict[str, BundleInfo | None] = {}
        # It is told before the pipelines are there, too.
        judging = {one.name: one for one in self.pipelines if isinstance(one, Pipeline)}
        for machine in self.config.machines:
            name, bundle = machine.name, self.extensions.bundle(machine.name)
            one = judging.get(name)
            level = level_of(machine.level, None if one is None else one.level)
            promise, blind = ((), "") if one is None else one.promise
            found[name] = None if bundle is None else bundle_info(bundle, level, promise, blind)
        return found

    def _unjudged(self) -> list[str]:
        """The machines that have no bundle yet."""
        names = self.config.names
        return [name for name in names if self.extensions.bundle(name) is None]

    def _drifting(self) -> list[str]:
        """The machines whose drift is followed, by the bundles in use now."""
        names = self.config.names
        found = {name: self.extensions.bundle(name) for name in names}
        return [name for name, one in found.items() if one is not None and one.drift is not None]

    def exposition(self) -> str:
        return exposition(
            self.pipelines,
            None if self._broker is None else self._broker.delivery(),
            WALL_CLOCK,
            started=self._began_wall,
            keeping=self.extensions.keeping(),
        )

    @property
    def pipelines(self) -> Sequence[Listening]:
        """What listens to each machine, in the order of the configuration; none before `start`."""
        return self.listeners.all

    def answer_alarm(self, machine: str) -> AlarmService:
        return self.listeners.named(machine).alarm

    def _drift(self, machine: str) -> DriftService:
        return self.listeners.named(machine).drift

    def _broker_away(self) -> float | None:
        """For how long the broker has been away, seconds; None while it is there, or is none."""
        broker = self._broker
        return None if broker is None else away_for(broker.sender.away_since)

    def _bundle_changed(self, machine: str, bundle: Bundle | None = None) -> None:  # noqa: ARG002
        if self._broker is not None:
            self._broker.bundle_changed()

    def _tell_bundle(self, machine: str, event: BundleEvent) -> None:
        self._broadcaster(machine).tell(event)

    def _digest_in_use(self, machine: str) -> str:
        bundle = self.extensions.bundle(machine)
        if bundle is None:
            return ""
        growth = bundle.manifest.growth
        return bundle.manifest.digest if growth is None else growth.origin

    def _tell_offer(self, machine: str, state: OfferState) -> None:
        if self._broker is not None:
            self._broker.offer_state(machine, state)

    def _pictured(self, machine: str, png: bytes) -> None:
        if self._broker is not None:
            self._broker.picture(machine, png)

    def _broadcaster(self, machine: str) -> Broadcaster:
        return Broadcaster(self.config.device_name, machine, self._publishers)

    def wait(self, heartbeat: Callable[[], None] = lambda: None) -> None:
        """Wait for the end: every stream over, `request_stop`, or every pipeline at fault.

        Args:
            heartbeat: Called every `heartbeat_seconds`.
        """
        due = time.monotonic() + self.config.heartbeat_seconds
        while not self._stopping:
            # In short steps: a signal handler may only set a flag (the event's lock may be held
            # by the very code that the signal interrupts).
            self._wake.wait(min(_STEP_SECONDS, max(0.0, due - time.monotonic())))
            self._wake.clear()
            WALL_CLOCK.look()
            self._vigil.look(self.pipelines)
            if not self._mending.look(self.pipelines):
                return
            if not self.listeners.changing and all(pipeline.ended for pipeline in self.pipelines):
                return
            if time.monotonic() >= due:
                due += self.config.heartbeat_seconds
                heartbeat()

    def request_stop(self) -> None:
        """End `wait`. Safe in a signal handler."""
        self._stopping = True

    def stop(self) -> None:
        """End everything within a few seconds, the publishers last so that they hear it all."""
        self._vigil.end()
        if self.page is not None:
            self.page.stop()
        if self._metrics is not None:
            self._metrics.stop()
        if self._requests is not None:
            self._requests.stop()
        if self._offers is not None:
            self._offers.stop()
        self.extensions.settle()
        for pipeline in self.pipelines:
            pipeline.stop()
        for pipeline in self.pipelines:
            if not pipeline.join(_STOP_SECONDS):
                log.warning("%s: has not ended within %.0f s", pipeline.name, _STOP_SECONDS)
        self.extensions.stop()
        for publisher in self._publishers:
            publisher.stop()

    def fault(self) -> Exception | None:
        """What ended the first pipeline that failed."""
        return next((pipe.fault for pipe in self.pipelines if pipe.fault is not None), None)

    def publisher_states(self) -> str:
        """What the publishers have to say for the heartbeat."""
        states = [*(one.state() for one in self._publishers), self.extensions.state()]
        return ", ".join(state for state in states if state)


def _unheard(command: str, message: Message) -> None:
    """The page's commands are answered to whoever asked; there is nobody else."""
