"""The face that every way of telling the world shows to the pipelines."""

from __future__ import annotations

from typing import Protocol

from agent.frames import Decision


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
