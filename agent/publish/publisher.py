"""The face that every way of telling the world shows to the pipelines."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from agent.frames import AlarmEvent, Decision


class Publisher(Protocol):
    """Takes decisions. Called from the scoring threads of all machines, so it must never wait.

    A fault of the outside (a broker away, a full disk) is the publisher's own to handle: it is
    logged and counted, and never raised to a pipeline.
    """

    def start(self) -> None:
        """Begin.

        Raises:
            AuscultError: It cannot work as configured.
        """
        ...

    def publish(self, machine: str, decision: Decision, *, first: bool) -> None:
        """Tell of a window.

        Args:
            machine: Name of the machine.
            decision: What was decided on it.
            first: It is the machine's first since the start: the alarm's state is new to all.
        """
        ...

    def stop(self) -> None:
        """Finish what can be finished within a couple of seconds. Idempotent."""
        ...

    def state(self) -> str:
        """A few words for the heartbeat; empty when there is nothing to say."""
        ...


@runtime_checkable
class EventPublisher(Protocol):
    """A publisher that is told of every alarm event by itself, whatever brought it about.

    An acknowledgement, the end of a shelving or a re-alarm does not wait for a window, and what was
    decided just before a crash is told again after it. `publish` then has the windows alone to
    tell of; the alarm's state (`AlarmEvent.status`) changes with the events.
    """

    def notify(self, machine: str, event: AlarmEvent) -> None:
        """Tell of an event. Called from any thread, in the order of the events; must not wait.

        Args:
            machine: Name of the machine.
            event: What happened; an event told twice has the same id.
        """
        ...
