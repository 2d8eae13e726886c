"""What the metrics are read from: one machine's path, delivery, and what the agent keeps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from agent.core.counters import Counters
from agent.core.records import AlarmStatus
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


@dataclass(frozen=True, slots=True)
class Delivery:
    """How delivery to the broker goes.

    Attributes:
        connected: Whether the broker is there.
        reconnects: Connections after the first.
        undelivered: Alarm events that the broker has yet to take.
        unsaved: Those of them in memory alone.
        disk_failures: Times the disk refused.
        dropped_telemetry: Scores dropped while the broker was away.
        refused: Messages that the broker refused.
        damaged_files: Damaged outbox files renamed.
        damaged_events: Events that the disk altered: put aside, never sent.
        vanished_events: Events that the outbox had lost at the start.
        denied_topics: Topics whose messages are acknowledged and reach nobody.
    """

    connected: bool
    reconnects: int
    undelivered: int
    unsaved: int
    disk_failures: int
    dropped_telemetry: int
    refused: int
    damaged_files: int = 0
    damaged_events: int = 0
    vanished_events: int = 0
    denied_topics: int = 0


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
