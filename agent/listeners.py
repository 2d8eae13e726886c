"""What listens to each machine: made from its bundle and source, begun anew when these change."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import TypeAlias

from agent.activity.plant import PlantSignal
from agent.capture.source import as_trained, open_source
from agent.commission.shadow import Commission
from agent.config.agent import AgentConfig, MachineConfig
from agent.config.capture import MicrophoneSource
from agent.config.chosen import choose_microphone
from agent.core.errors import AuscultError, ConfigError
from agent.deploy.load import Bundle
from agent.extensions import Extensions
from agent.machine.circumstances import Surroundings
from agent.machine.days import SoundDays
from agent.pipeline.listen_only import HOP_SECONDS, WINDOW_SECONDS, ListenOnly
from agent.pipeline.pipeline import Pipeline
from agent.publish.broadcaster import Broadcaster
from agent.web.sound import SoundFeed

log = logging.getLogger(__name__)

_STOP_SECONDS = 2.0

Listening: TypeAlias = Pipeline | ListenOnly


class Listeners:
    """All machines' pipelines, in the order of the configuration.

    Args:
        config: The agent's.
        extensions: Hold the bundles, and listen in.
        told: By a machine's name, what tells of it.
        on_end: Called when one has ended.
        broker_away: For how long the broker has been away, seconds; None while it is not.
        plant: By machine, what the plant says of it.
        commissions: By machine, its commissioning.
        page: By machine, the page's ear.
    """

    def __init__(
        self,
        config: AgentConfig,
        extensions: Extensions,
        told: Callable[[str], Broadcaster],
        on_end: Callable[[], None],
        broker_away: Callable[[], float | None],
        plant: Mapping[str, PlantSignal],
        commissions: Mapping[str, Commission],
        page: Mapping[str, SoundFeed],
    ) -> None:
        self._config = config
        self._extensions = extensions
        self._told = told
        self._on_end = on_end
        self._broker_away = broker_away
        self._plant = plant
        self._commissions = commissions
        self._page = page
        #: Machines that are being begun anew.
        self.changing = 0
        #: None before `make`.
        self.all: list[Listening] = []

    def make(self) -> None:
        """Make them; none is started.

        Raises:
            AuscultError: A source cannot work as configured.
        """
        self.all = [
            self._listener(machine, self._extensions.judging(machine.name))
            for machine in self._config.machines
        ]

    def named(self, machine: str) -> Listening:
        """What listens to a machine."""
        return next(one for one in self.all if one.name == machine)

    def judging(self, machine: str) -> Pipeline:
        """What judges a machine.

        Raises:
            AuscultError: Nothing does yet.
        """
        listener = self.named(machine)
        if not isinstance(listener, Pipeline):
            raise AuscultError(
                f"'{machine}' is not judged yet, so it has no level to take anew",
                remedy="It needs a bundle and a microphone first; see `auscult doctor`.",
            )
        return listener

    def days(self, machine: str) -> SoundDays | None:
        """How a machine's spectrum changes over days; None while it is not judged."""
        listener = self.named(machine)
        return listener.days if isinstance(listener, Pipeline) else None

    def step(self, machine: MachineConfig) -> float:
        """Longest time to the next window while all is well, seconds."""
        bundle = self._extensions.bundle(machine.name)
        if bundle is None:
            return WINDOW_SECONDS + HOP_SECONDS
        manifest = bundle.manifest
        seconds = manifest.window_seconds
        return seconds + machine.hop_of(manifest.hop_seconds, seconds).calm

    def _listener(self, machine: MachineConfig, bundle: Bundle | None) -> Listening:
        """What listens to a machine: a learner as long as it has no bundle, or no microphone."""
        config = self._config.source_of(machine)
        rate = self._config.collect.rate
        if bundle is not None:
            rate = bundle.manifest.encoder.sample_rate
        if bundle is not None and config is not None:
            config = as_trained(config, bundle.manifest.conditions)
        source = None if config is None else open_source(config, rate)
        page = (self._page[machine.name],) if self._page else ()
        if bundle is None or source is None:
            collecting = self._extensions.collector.observers[machine.name]
            return ListenOnly(
                machine, source, rate, self._told(machine.name), self._on_end,
                observers=(collecting, *page), bundle=bundle is not None,
                refusal=self._extensions.refusal(machine.name),
            )  # fmt: skip
        return Pipeline(
            machine,
            bundle,
            source,
            self._told(machine.name),
            on_end=self._on_end,
            state=self._config.state_path / "state",
            observers=(
                *self._extensions.observers(machine.name),
                Surroundings(self._broker_away),
                *page,
            ),
            plant=self._plant.get(machine.name),
            commission=self._commissions.get(machine.name),
            number=[one.name for one in self._config.machines].index(machine.name),
        )

    def begin_anew(self, name: str, bundle: Bundle | None) -> None:
        """The machine is listened to in another way: its pipeline ends and a new one begins."""
        old = self.named(name)
        machine = self._config.machine(name)
        self.changing += 1
        try:
            old.stop()
            old.join(_STOP_SECONDS)
            new = self._listener(machine, bundle)
            self.all[self.all.index(old)] = new
            try:
                new.start()
            except Exception as fault:
                new.give_up(fault)
                raise
        finally:
            self.changing -= 1

    def choose_microphone(self, name: str, source: MicrophoneSource) -> None:
        """Listen to a machine through another microphone from now on, also after a restart.

        Args:
            name: The machine, whose configuration names no source.
            source: The microphone.

        Raises:
            ConfigError: Its configuration names one, or the choice cannot be kept.
            AuscultError: It is being recorded from, or cannot be listened to so.
        """
        machine = self._config.machine(name)
        if machine.source is not None:
            raise ConfigError(
                f"the configuration says what '{name}' listens to, so it cannot be chosen here",
                remedy="Change its `source` there, or take it out to choose it on the page.",
            )
        recording = self._extensions.collector.observers[name].recording
        if recording is not None and not recording.done:
            raise AuscultError(f"'{name}' is being recorded from", remedy="Stop that first.")
        choose_microphone(self._config.state_path, name, source)
        log.info("%s: microphone chosen: %s", name, source.device or "the default one")
        self._extensions.begin_anew(name)
