"""The agent: its machines' pipelines, what they share, and how it begins and ends."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path

from agent.bundle.load import Bundle, open_bundle
from agent.capture.source import open_source
from agent.config import AgentConfig, MachineConfig
from agent.decide.keeper import AlarmKeeper
from agent.pipeline import Pipeline
from agent.publish.about import bundle_info
from agent.publish.console import ConsolePublisher
from agent.publish.jsonl import JsonlPublisher
from agent.publish.mqtt import MqttPublisher
from agent.publish.payloads import BundleInfo
from agent.publish.publisher import Publisher
from agent.request.alarms import alarm_handlers
from agent.request.commands import Handler
from agent.request.dispatch import Dispatcher

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
        self._config = config
        self._wake = threading.Event()
        self._stopping = False
        self._bundles: dict[Path, Bundle] = {}
        self._publishers: list[Publisher] = []
        self._requests: Dispatcher | None = None
        self.pipelines: list[Pipeline] = []
        #: Who carries out which command; registered before `start`.
        self.handlers: dict[str, Handler] = {}

    def prepare(self) -> None:
        """Open and verify every bundle.

        Raises:
            BundleError: One of them is not as it was exported.
        """
        inference = self._config.inference
        for machine in self._config.machines:
            place = machine.bundle.resolve()
            if place not in self._bundles:
                self._bundles[place] = open_bundle(
                    machine.bundle, threads=inference.threads, providers=inference.providers
                )
            bundle = self._bundles[place]
            trained = bundle.manifest.trained_on
            log.info(
                "%s: bundle %s (%s, preset %s, %d rows) verified",
                machine.name, machine.bundle, trained.machine, trained.preset, len(bundle.rows),
            )  # fmt: skip
            for note in (bundle.manifest.threshold.caveat, *bundle.manifest.notes):
                if note:
                    log.info("%s: the bundle notes: %s", machine.name, note)

    def start(self) -> None:
        """Begin to publish and to listen; `prepare` comes first.

        Raises:
            AuscultError: A publisher or source cannot work as configured.
        """
        names = [machine.name for machine in self._config.machines]
        device = self._config.device_name
        publishers: list[Publisher] = [ConsolePublisher()]
        if self._config.jsonl is not None:
            publishers.append(JsonlPublisher(self._config.jsonl, device, names))
        broker = None
        if self._config.mqtt is not None:
            folder = self._config.state_path / "outbox"
            broker = MqttPublisher(self._config.mqtt, device, names, folder)
            self.handlers.update(alarm_handlers(self._alarm))
            self._requests = Dispatcher(device, names, self.handlers, broker.respond)
            broker.tell_about(self._bundle_infos, lambda: self.pipelines)
            broker.listen_to(self._requests)
            publishers.append(broker)
        for publisher in publishers:
            publisher.start()
            self._publishers.append(publisher)
        self.pipelines = [self._pipeline(machine) for machine in self._config.machines]
        if broker is not None and not all(pipeline.live for pipeline in self.pipelines):
            broker.wait_connected(_BROKER_SECONDS)
        for pipeline in self.pipelines:
            pipeline.start()
        if self._requests is not None:
            self._requests.start()

    def _bundle_infos(self) -> dict[str, BundleInfo]:
        found = {}
        for machine in self._config.machines:
            bundle = self._bundles[machine.bundle.resolve()]
            found[machine.name] = bundle_info(bundle.path, bundle.manifest, len(bundle.rows))
        return found

    def _alarm(self, machine: str) -> AlarmKeeper:
        return next(pipeline.alarm for pipeline in self.pipelines if pipeline.name == machine)

    def _pipeline(self, machine: MachineConfig) -> Pipeline:
        bundle = self._bundles[machine.bundle.resolve()]
        source = open_source(machine.source, bundle.manifest.encoder.sample_rate)
        return Pipeline(
            machine,
            bundle,
            source,
            self._publishers,
            on_end=self._wake.set,
            state=self._config.state_path / "state",
        )

    def wait(self, heartbeat: Callable[[], None] = lambda: None) -> None:
        """Wait for the end: every stream over, `request_stop`, or a pipeline at fault.

        Args:
            heartbeat: Called every `heartbeat_seconds`.
        """
        due = time.monotonic() + self._config.heartbeat_seconds
        while not self._stopping:
            # In short steps: a signal handler may only set a flag (the event's lock may be held
            # by the very code that the signal interrupts).
            self._wake.wait(min(_STEP_SECONDS, max(0.0, due - time.monotonic())))
            self._wake.clear()
            if any(pipeline.fault for pipeline in self.pipelines):
                return
            if all(pipeline.ended for pipeline in self.pipelines):
                return
            if time.monotonic() >= due:
                due += self._config.heartbeat_seconds
                heartbeat()

    def request_stop(self) -> None:
        """End `wait`. Safe in a signal handler."""
        self._stopping = True

    def stop(self) -> None:
        """End everything within a few seconds, the publishers last so that they hear it all."""
        if self._requests is not None:
            self._requests.stop()
        for pipeline in self.pipelines:
            pipeline.stop()
        for pipeline in self.pipelines:
            if not pipeline.join(_STOP_SECONDS):
                log.warning("%s: has not ended within %.0f s", pipeline.name, _STOP_SECONDS)
        for publisher in self._publishers:
            publisher.stop()
        for bundle in self._bundles.values():
            bundle.close()

    def fault(self) -> Exception | None:
        """What ended the first pipeline that failed."""
        return next((pipe.fault for pipe in self.pipelines if pipe.fault is not None), None)

    def publisher_states(self) -> str:
        """What the publishers have to say for the heartbeat."""
        return ", ".join(state for one in self._publishers if (state := one.state()))
