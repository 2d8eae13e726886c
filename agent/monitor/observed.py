"""What the metrics are read from: one machine's path, delivery, and what the agent keeps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Literal, Protocol

from pydantic import Field

from agent.core.counters import Counters
from agent.core.fields import Count
from agent.core.records import AlarmStatus
from agent.core.schema import Strict
from agent.drift.service import DriftService
from agent.window.condition import SensorCondition


class Standing(Protocol):
    """A machine's alarm; `AlarmService`."""

    @property
    def status(self) -> AlarmStatus:
        """The alarm as it stands."""
        ...


class Machine(Protocol):
    """A machine's path from sound to decision, as it is watched: a `Listener`, floors above."""

    @property
    def name(self) -> str:
        """The machine."""
        ...

    @property
    def counters(self) -> Counters:
        """Counts of the machine's windows and alarms."""
        ...

    @property
    def sensor(self) -> SensorCondition:
        """Condition of the machine's microphone."""
        ...

    @property
    def alarm(self) -> Standing:
        """The machine's alarm; AuscultError before it is listened to."""
        ...

    @property
    def drift(self) -> DriftService:
        """Its drift; AuscultError before it is listened to."""
        ...

    @property
    def waiting(self) -> int:
        """Windows captured that wait to be judged."""
        ...

    @property
    def attempts(self) -> int:
        """How often opening its microphone failed so far."""
        ...

    @property
    def ended(self) -> bool:
        """Whether its sound is over."""
        ...

    @property
    def expected(self) -> bool:
        """Whether windows are to come: not while nobody has chosen its microphone."""
        ...

    @property
    def missing(self) -> Sequence[str]:
        """What it lacks to judge the machine: `bundle`, `microphone`."""
        ...

    @property
    def remarks(self) -> Sequence[str]:
        """What people should know of how it is listened to."""
        ...

    def faults(self) -> Mapping[str, int]:
        """Troubles of its source."""
        ...


Proof = Literal["broker", "returned", "none", "unknown"]
"""Who says that messages arrive: the broker (MQTT 5), their return, nobody, or not known yet."""


class OutboxHealth(Strict):
    """How delivery goes; counts since the agent's start."""

    undelivered: Annotated[Count, Field(description="Alarm events the broker has yet to take")]
    acknowledged: Annotated[
        Count,
        Field(
            description="Events up to this `sequence` were acknowledged: one that did not arrive "
            "was lost after that, and the command `resend` brings it; 0 before any"
        ),
    ]
    unsaved: Annotated[
        Count, Field(description="Those of them in memory alone, as the disk refuses them")
    ]
    disk_failures: Annotated[Count, Field(description="Times the disk refused")]
    damaged_files: Annotated[Count, Field(description="Damaged outbox files set aside")]
    damaged_events: Annotated[
        Count, Field(description="Events that the disk altered: put aside, never sent")
    ]
    vanished_events: Annotated[
        Count,
        Field(
            description="Events, delivered or not, that the outbox had lost when the agent "
            "started: its file or write-ahead log was deleted, emptied or put back"
        ),
    ]
    dropped_telemetry: Annotated[
        Count, Field(description="Scores dropped while the broker was away")
    ]
    refused: Annotated[Count, Field(description="Messages the broker refused")]
    proof: Annotated[
        Proof,
        Field(
            description="Who says that messages arrive: the broker itself (MQTT 5), the messages, "
            "as they come back (3.1.1), nobody, or not known yet"
        ),
    ]
    denied_topics: Annotated[
        list[str],
        Field(
            description="Topics whose messages are acknowledged and reach nobody: the broker's "
            "rules deny them"
        ),
    ]


@dataclass(frozen=True, slots=True)
class Delivery:
    """How delivery to the broker goes.

    Attributes:
        connected: Whether the broker is there.
        reconnects: Connections after the first.
        outbox: What waits, and what went wrong.
    """

    connected: bool
    reconnects: int
    outbox: OutboxHealth


@dataclass(frozen=True, slots=True)
class BundleUse:
    """The bundle that a machine is judged with.

    Attributes:
        digest: Of its manifest.
        rows: Of its bank.
        version: Of its bank; 0 as exported.
    """

    digest: str
    rows: int
    version: int


@dataclass(frozen=True, slots=True)
class Keeping:
    """What the agent keeps and exchanges; counts since its start.

    Attributes:
        bundles: By machine.
        swapped: Bundles taken up.
        rolled_back: Those that failed their trial.
        refused: Bundles that could not be taken up.
        evidence_written: Times that evidence of an alarm was written.
        evidence_skipped: Times that it was not kept.
        collected_added: Sessions removed that a bank had taken in.
        collected_unused: Sessions removed that none had.
        collected_bytes: What the sessions kept take, at the last look.
    """

    bundles: Mapping[str, BundleUse | None] = field(default_factory=dict)
    swapped: int = 0
    rolled_back: int = 0
    refused: int = 0
    evidence_written: int = 0
    evidence_skipped: int = 0
    collected_added: int = 0
    collected_unused: int = 0
    collected_bytes: int = 0
