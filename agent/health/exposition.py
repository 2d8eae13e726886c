"""The agent's counts in Prometheus' text format, version 0.0.4 (pure functions).

https://prometheus.io/docs/instrumenting/exposition_formats/
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from agent import __version__
from agent.errors import AuscultError
from agent.frames import AlarmStatus, Validity
from agent.health.clock import ClockQuality, WallClock
from agent.window.condition import ConditionStatus, SensorCondition

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Counts(Protocol):
    """A machine's counts; the pipeline's `Tally`."""

    @property
    def windows(self) -> int:
        """Windows that reached a decision."""
        ...

    @property
    def exceeded(self) -> int:
        """Those above the threshold."""
        ...

    @property
    def idle(self) -> int:
        """Those in which the machine stood idle."""
        ...

    @property
    def invalid(self) -> Mapping[str, int]:
        """Those that could not be judged, by validity."""
        ...

    @property
    def dropped(self) -> int:
        """Windows dropped unjudged."""
        ...

    @property
    def raised(self) -> int:
        """Alarms raised."""
        ...

    @property
    def inference_seconds(self) -> float:
        """Time the encoder took."""
        ...

    @property
    def last_window(self) -> float | None:
        """Monotonic time of the latest decision, None before the first."""
        ...


class Standing(Protocol):
    """A machine's alarm; `AlarmKeeper`."""

    @property
    def status(self) -> AlarmStatus:
        """As it stands."""
        ...


class Machine(Protocol):
    """A machine's path from sound to decision; `Pipeline`."""

    @property
    def name(self) -> str:
        """The machine."""
        ...

    @property
    def tally(self) -> Counts:
        """Its counts."""
        ...

    @property
    def sensor(self) -> SensorCondition:
        """Its microphone's condition."""
        ...

    @property
    def alarm(self) -> Standing:
        """Its alarm; AuscultError before it is listened to."""
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
    """

    connected: bool
    reconnects: int
    undelivered: int
    unsaved: int
    disk_failures: int
    dropped_telemetry: int
    refused: int


_Sample = tuple[Mapping[str, str], float]


@dataclass(slots=True)
class _Family:
    """One metric with all its samples, which must stand together.

    The name of a counter, and of no gauge, ends in `_total`.
    """

    name: str
    help: str
    samples: list[_Sample] = field(default_factory=list)

    def lines(self) -> Iterable[str]:
        yield f"# HELP {self.name} {_escape(self.help)}"
        yield f"# TYPE {self.name} {'counter' if self.name.endswith('_total') else 'gauge'}"
        for labels, value in self.samples:
            inner = ",".join(f'{key}="{_escape(text, quote=True)}"' for key, text in labels.items())
            yield f"{self.name}{{{inner}}} {value!r}" if inner else f"{self.name} {value!r}"


def exposition(
    machines: Sequence[Machine], delivery: Delivery | None, clock: WallClock, *, started: float
) -> str:
    """Everything there is to know.

    Args:
        machines: What is listened to.
        delivery: How delivery goes; None without a broker.
        clock: The wall clock.
        started: When the agent began, seconds since the epoch.
    """
    families = [
        _Family("auscult_info", "The agent.", [({"version": __version__}, 1)]),
        _Family("auscult_start_time_seconds", "Start, since the epoch.", [({}, started)]),
        _Family(
            "auscult_clock_synchronised",
            "1 when a time service keeps the wall clock right.",
            [({}, int(clock.quality is ClockQuality.SYNCHRONISED))],
        ),
        _Family("auscult_clock_jumps_total", "Wall clock steps.", [({}, clock.jumps)]),
        *_of_machines(machines),
        *([] if delivery is None else _of_delivery(delivery)),
    ]
    return "\n".join(line for family in families for line in family.lines()) + "\n"


def _of_machines(machines: Sequence[Machine]) -> list[_Family]:
    windows = _Family("auscult_windows_total", "Windows that reached a decision.")
    invalid = _Family("auscult_windows_invalid_total", "Windows not judged, by reason.")
    exceeded = _Family("auscult_windows_exceeded_total", "Windows above the threshold.")
    idle = _Family("auscult_windows_idle_total", "Windows of an idle machine.")
    dropped = _Family("auscult_windows_dropped_total", "Windows dropped unjudged.")
    inference = _Family("auscult_inference_seconds_total", "Time the encoder took.")
    last = _Family("auscult_last_window_timestamp_seconds", "Latest decision, epoch.")
    raised = _Family("auscult_alarms_raised_total", "Alarms raised.")
    level = _Family("auscult_alarm_level", "0 normal, 1 alert, 2 alarm.")
    sensor = _Family("auscult_sensor_good", "1 when the microphone is in order.")
    faults = _Family("auscult_source_faults_total", "Troubles of the source, by name.")
    now, wall = time.monotonic(), time.time()
    for machine in machines:
        tally, labels = machine.tally, {"machine": machine.name}
        windows.samples.append((labels, tally.windows))
        # Every reason from the start: a series that appears later has no rate for its first count.
        invalid.samples += [
            ({**labels, "reason": kind.value}, tally.invalid.get(kind.value, 0))
            for kind in Validity
            if kind is not Validity.VALID
        ]
        exceeded.samples.append((labels, tally.exceeded))
        idle.samples.append((labels, tally.idle))
        dropped.samples.append((labels, tally.dropped))
        inference.samples.append((labels, float(tally.inference_seconds)))
        if tally.last_window is not None:
            last.samples.append((labels, wall - (now - tally.last_window)))
        raised.samples.append((labels, tally.raised))
        # A machine that is just being begun anew has no alarm to ask.
        with contextlib.suppress(AuscultError):
            level.samples.append((labels, machine.alarm.status.level.rank))
        sensor.samples.append((labels, int(machine.sensor.status is ConditionStatus.GOOD)))
        faults.samples += [
            ({**labels, "fault": name}, count) for name, count in sorted(machine.faults().items())
        ]
    return [
        windows, invalid, exceeded, idle, dropped, inference, last, raised, level, sensor, faults,
    ]  # fmt: skip


def _of_delivery(of: Delivery) -> list[_Family]:
    return [
        _Family(f"auscult_{name}", text, [({}, value)])
        for name, text, value in (
            ("broker_connected", "1 while the broker is there.", int(of.connected)),
            ("broker_reconnects_total", "Connections after the first.", of.reconnects),
            ("broker_refused_total", "Messages the broker refused.", of.refused),
            ("outbox_events", "Alarm events to be delivered.", of.undelivered),
            ("outbox_unsaved_events", "Those in memory alone.", of.unsaved),
            ("outbox_disk_failures_total", "Times the disk refused.", of.disk_failures),
            (
                "telemetry_dropped_total",
                "Scores dropped while the broker was away.",
                of.dropped_telemetry,
            ),
        )
    ]


def _escape(text: str, *, quote: bool = False) -> str:
    text = text.replace("\\", "\\\\").replace("\n", "\\n")
    return text.replace('"', '\\"') if quote else text
