"""The face that every way of telling the world shows to the pipelines."""

from __future__ import annotations

from typing import Protocol

from agent.bundle.events import BundleEvent
from agent.core.records import AlarmEvent, Decision
from agent.drift.events import DriftEvent, DriftStatus
from agent.window.condition import SensorCondition


class Publisher(Protocol):
    """Takes what is to be told. Called from the threads of all machines.

    It must never wait for a network. For the disk it may, so that an alarm's event is safe there
    when `tell` returns. A fault of the outside (a broker away, a full disk) is the publisher's own
    to handle: it is logged and counted, and never raised to a pipeline.
    """

    def start(self) -> None:
        """Begin.

        Raises:
            AuscultError: It cannot work as configured.
        """
        ...

    def publish(self, machine: str, decision: Decision, *, first: bool) -> None:
        """Tell of a window, and of the alarm's state when that is new.

        Args:
            machine: Name of the machine.
            decision: What was decided on it.
            first: It is the machine's first since the start: the alarm's state is new to all.
        """
        ...

    def tell(self, machine: str, event: AlarmEvent) -> None:
        """Something happened to the alarm: the event, and the state it led to (`event.status`).

        An acknowledgement, the end of a shelving or a reminder does not wait for a window, and what
        was decided just before a crash is told again after it.

        Args:
            machine: Name of the machine.
            event: What happened; an event told twice has the same id.
        """
        ...

    def sensor(self, machine: str, condition: SensorCondition) -> None:
        """The condition of the machine's microphone is new.

        Args:
            machine: Name of the machine.
            condition: How it is now.
        """
        ...

    def drift(self, machine: str, status: DriftStatus) -> None:
        """The machine's drift has been evaluated.

        Args:
            machine: Name of the machine.
            status: How it stands.
        """
        ...

    def tell_drift(self, machine: str, event: DriftEvent) -> None:
        """Something happened to a drift warning; as `tell`.

        Args:
            machine: Name of the machine.
            event: What happened; an event told twice has the same id.
        """
        ...

    def tell_bundle(self, machine: str, event: BundleEvent) -> None:
        """The machine's bundle was exchanged, put back or refused; as `tell`.

        Args:
            machine: Name of the machine.
            event: What happened; an event told twice has the same id.
        """
        ...

    def stop(self) -> None:
        """Finish what can be finished within a couple of seconds. Idempotent."""
        ...

    def state(self) -> str:
        """A few words for the heartbeat; empty when there is nothing to say."""
        ...
