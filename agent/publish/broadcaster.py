"""All who are told of one machine."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from agent.bundle.events import BundleEvent
from agent.core.records import AlarmEvent, Decision
from agent.drift.events import DriftEvent, DriftStatus
from agent.publish.publisher import Publisher
from agent.window.condition import SensorCondition

log = logging.getLogger(__name__)


class Broadcaster:
    """Tells every publisher; one that fails is logged, and silences neither scoring nor others.

    Args:
        machine: The machine's name.
        publishers: Who is told.
    """

    def __init__(self, machine: str, publishers: Sequence[Publisher]) -> None:
        self._machine = machine
        self._publishers = publishers
        self._sensor: SensorCondition | None = None

    def publish(self, decision: Decision, *, first: bool) -> None:
        """Tell of a window."""
        self._each(lambda one: one.publish(self._machine, decision, first=first))

    def tell(self, event: AlarmEvent) -> None:
        """Tell what happened to the alarm."""
        self._each(lambda one: one.tell(self._machine, event))

    def sensor(self, condition: SensorCondition) -> None:
        """Tell the microphone's condition, when it is new."""
        if condition != self._sensor:
            self._sensor = condition
            self._each(lambda one: one.sensor(self._machine, condition))

    def drift(self, status: DriftStatus) -> None:
        """Tell how drift stands."""
        self._each(lambda one: one.drift(self._machine, status))

    def tell_drift(self, event: DriftEvent) -> None:
        """Tell what happened to a drift warning."""
        self._each(lambda one: one.tell_drift(self._machine, event))

    def tell_bundle(self, event: BundleEvent) -> None:
        """Tell what happened to the machine's bundle."""
        self._each(lambda one: one.tell_bundle(self._machine, event))

    def _each(self, act: Callable[[Publisher], None]) -> None:
        for publisher in self._publishers:
            try:
                act(publisher)
            except Exception:  # noqa: PERF203 - one way of telling must not silence the others
                log.exception("%s: %s failed", self._machine, type(publisher).__name__)
