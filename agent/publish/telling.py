"""Something that is to be told of a machine, and who takes it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from agent.core.cloud_event import Message
from agent.publish.kinds import Kind


@dataclass(frozen=True, slots=True)
class Telling:
    """What happened, and every message about it: built once, for all who take it.

    Attributes:
        machine: Name of the machine.
        happened: The decision, event, condition or status that it tells of.
        messages: Its messages with their kinds, in order; not to be changed.
        first: It is the first of its type since the machine is listened to.
    """

    machine: str
    happened: Any
    messages: tuple[tuple[Kind, Message], ...]
    first: bool = False


class Publisher(Protocol):
    """Takes what is to be told. Called from the threads of all machines.

    It must never wait for a network. For the disk it may, so that an alarm's event is safe there
    when `handle` returns. A fault of the outside (a broker away, a full disk) is the publisher's
    own to handle: it is logged and counted, and never raised to a pipeline.
    """

    def start(self) -> None:
        """Begin.

        Raises:
            AuscultError: It cannot work as configured.
        """
        ...

    def handle(self, telling: Telling) -> None:
        """Take what is told.

        An acknowledgement, the end of a shelving or a reminder does not wait for a window. What
        was decided just before a crash is told again after it: such an event has the same id.
        """
        ...

    def stop(self) -> None:
        """Finish what can be finished within a couple of seconds. Idempotent."""
        ...

    def state(self) -> str:
        """A few words for the heartbeat; empty when there is nothing to say."""
        ...
