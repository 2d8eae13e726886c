"""The agent's counts and states as metrics for Prometheus (docs/guide/service.md lists them)."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Sequence

from prometheus_client import generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from agent import __version__
from agent.core.clock import ClockQuality, WallClock
from agent.core.errors import AuscultError
from agent.core.records import MachineState, Shelving, Validity
from agent.monitor.observed import Delivery, Keeping, Machine
from agent.window.condition import ConditionStatus

_Family = CounterMetricFamily | GaugeMetricFamily


def exposition(
    machines: Sequence[Machine],
    delivery: Delivery | None,
    clock: WallClock,
    *,
    started: float,
    keeping: Keeping | None = None,
) -> str:
    """Everything there is to know, in Prometheus' text format (version 0.0.4).

    Args:
        machines: What is listened to.
        delivery: How delivery goes; None without a broker.
        clock: The wall clock.
        started: When the agent began, seconds since the epoch.
        keeping: What the agent keeps; None for a part that keeps nothing.
    """
    info = _family("info", "The agent.", "version")
    info.add_metric([__version__], 1)
    told = _Told(
        [
            info,
            _single("start_time_seconds", "Start, since the epoch.", started),
            _single(
                "clock_synchronised",
                "1 when a time service keeps the wall clock right.",
                int(clock.quality is ClockQuality.SYNCHRONISED),
            ),
            _single("clock_jumps_total", "Wall clock steps.", clock.jumps),
            *_of_windows(machines),
            *_of_alarms(machines),
            *_of_sensors(machines),
            *_of_drift(machines),
            *([] if keeping is None else _of_keeping(keeping)),
            *([] if delivery is None else _of_delivery(delivery)),
        ]
    )
    return generate_latest(told).decode()


class _Told(Collector):
    """What one scrape is told: the library's own registry would keep counts of its own."""

    def __init__(self, families: Sequence[_Family]) -> None:
        self._families = families

    def collect(self) -> Iterable[_Family]:
        return self._families


def _family(name: str, help_: str, *labels: str) -> _Family:
    """A metric without samples. The name of a counter, and of no gauge, ends in `_total`."""
    kind = CounterMetricFamily if name.endswith("_total") else GaugeMetricFamily
    return kind(f"auscult_{name}", help_, labels=labels)


def _machines(name: str, help_: str, *labels: str) -> _Family:
    """A metric of each machine."""
    return _family(name, help_, "machine", *labels)


def _single(name: str, help_: str, value: float) -> _Family:
    """A metric with one sample and no labels."""
    family = _family(name, help_)
    family.add_metric([], value)
    return family


def _of_windows(machines: Sequence[Machine]) -> list[_Family]:
    windows = _machines("windows_total", "Windows that reached a decision.")
    invalid = _family(
        "windows_invalid_total", "Windows not judged, by reason.", "machine", "reason"
    )
    exceeded = _machines("windows_exceeded_total", "Windows above the threshold.")
    unjudged = _family(
        "windows_unjudged_total", "Windows heard while there is no bundle yet.", "machine"
    )
    idle = _machines("windows_idle_total", "Windows of an idle machine.")
    dropped = _machines("windows_dropped_total", "Windows dropped unjudged.")
    waiting = _machines("windows_waiting", "Windows captured that wait to be judged.")
    inference = _machines("inference_seconds_total", "Time the encoder took.")
    last = _machines("last_window_timestamp_seconds", "Latest decision, epoch.")
    score = _family(
        "score", "Latest window's score: 0 healthy median, 1 threshold; absent invalid.", "machine"
    )
    raw = _machines("score_raw", "The same as the bundle's scorer gave it.")
    zone = _machines("severity_zone", "Of that score: 0 to 3 for the zones A to D.")
    now_idle = _machines("machine_idle", "1 when the latest window is of an idle machine.")
    now, wall = time.monotonic(), time.time()
    for machine in machines:
        counters, name = machine.counters, machine.name
        windows.add_metric([name], counters.windows)
        # Every reason from the start: a series that appears later has no rate for its first count.
        for kind in Validity:
            if kind is not Validity.VALID:
                count = counters.invalid.get(kind.value, 0)
                invalid.add_metric([name, kind.value], count)
        exceeded.add_metric([name], counters.exceeded)
        unjudged.add_metric([name], counters.unjudged)
        idle.add_metric([name], counters.idle)
        dropped.add_metric([name], counters.dropped)
        waiting.add_metric([name], machine.waiting)
        inference.add_metric([name], float(counters.inference_seconds))
        if counters.last_window is not None:
            last.add_metric([name], wall - (now - counters.last_window))
        if counters.state is not MachineState.UNKNOWN:
            now_idle.add_metric([name], int(counters.state is MachineState.IDLE))
        if counters.score is not None:
            raw.add_metric([name], float(counters.score))
            if counters.scale is not None:
                score.add_metric([name], counters.scale.of(counters.score))
                zone.add_metric([name], counters.scale.zone(counters.score).rank)
    return [
        windows, invalid, exceeded, unjudged, idle, dropped, waiting, inference, last, score,
        raw, zone, now_idle,
    ]  # fmt: skip


def _of_alarms(machines: Sequence[Machine]) -> list[_Family]:
    raised = _machines("alarms_raised_total", "Alarms raised.")
    alerts = _family(
        "alerts_raised_total", "Alerts given that had not been alarms before.", "machine"
    )
    level = _machines("alarm_level", "0 normal, 1 alert, 2 alarm.")
    since = _family(
        "alarm_level_since_timestamp_seconds", "When that level began, epoch.", "machine"
    )
    unacknowledged = _family(
        "alarm_unacknowledged", "1 when an alarm waits for an operator.", "machine"
    )
    latched = _family(
        "alarm_latched", "1 when it stands although the machine is quiet again.", "machine"
    )
    shelved = _machines("alarm_shelved", "1 when an operator took it out of view.")
    muted = _machines("machine_muted", "1 while the machine is being worked on.")
    louder = _family(
        "level_change_db", "Lasting change of level alone, dB; absent without.", "machine"
    )
    threshold = _machines("threshold", "A score above this is anomalous: 1.")
    raw = _machines("threshold_raw", "The same for the raw score.")
    alert = _machines("alert_threshold", "A score above this speaks for an alert.")
    for machine in machines:
        name = machine.name
        raised.add_metric([name], machine.counters.raised)
        alerts.add_metric([name], machine.counters.alerts)
        scale, early = machine.counters.scale, machine.counters.alert_threshold
        if scale is not None:
            threshold.add_metric([name], 1.0)
            raw.add_metric([name], scale.threshold)
            if early is not None:
                alert.add_metric([name], scale.of(early))
        # A machine that is just being begun anew has no alarm to ask.
        with contextlib.suppress(AuscultError):
            status = machine.alarm.status
            level.add_metric([name], status.level.rank)
            since.add_metric([name], float(status.since_wall))
            unacknowledged.add_metric([name], int(not status.acknowledged))
            latched.add_metric([name], int(status.latched))
            if status.level_change_db is not None:
                louder.add_metric([name], float(status.level_change_db))
            shelved.add_metric([name], int(status.shelving is not Shelving.UNSHELVED))
            muted.add_metric([name], int(status.muted_until_wall is not None))
    return [
        raised, alerts, level, since, unacknowledged, latched, shelved, muted, threshold, raw,
        alert, louder,
    ]  # fmt: skip


def _of_sensors(machines: Sequence[Machine]) -> list[_Family]:
    good = _machines("sensor_good", "1 when the microphone is in order.")
    status = _family(
        "sensor_status",
        "1 for the microphone's condition (NAMUR NE 107), else 0.",
        "machine",
        "status",
    )
    faults = _machines("source_faults_total", "Troubles of the source, by name.", "fault")
    for machine in machines:
        name, present = machine.name, machine.sensor.status
        good.add_metric([name], int(present is ConditionStatus.GOOD))
        for one in ConditionStatus:
            status.add_metric([name, one.value], int(one is present))
        for fault, count in sorted(machine.faults().items()):
            faults.add_metric([name, fault], count)
    return [good, status, faults]


def _of_drift(machines: Sequence[Machine]) -> list[_Family]:
    distance = _machines("drift_distance_nats", "Distance to the nearest normal state.")
    threshold = _machines("drift_threshold_nats", "The distance that counts as drift.")
    warning = _machines("drift_warning", "1 while a drift warning stands.")
    last = _family(
        "drift_evaluated_timestamp_seconds", "Newest window evaluated, epoch.", "machine"
    )
    for machine in machines:
        with contextlib.suppress(AuscultError):
            if (status := machine.drift.status) is not None:
                distance.add_metric([machine.name], float(status.distance))
                threshold.add_metric([machine.name], float(status.threshold))
                warning.add_metric([machine.name], int(status.active))
                last.add_metric([machine.name], float(status.wall))
    return [distance, threshold, warning, last]


def _of_keeping(of: Keeping) -> list[_Family]:
    bundle = _machines("bundle_info", "The bundle in use.", "digest", "version")
    rows = _machines("bundle_rows", "Rows of its memory bank.")
    missing = _family(
        "bundle_missing", "1 while there is no bundle to judge the machine with.", "machine"
    )
    for machine, use in of.bundles.items():
        missing.add_metric([machine], int(use is None))
        if use is None:
            continue
        bundle.add_metric([machine, use.digest, str(use.version)], 1)
        rows.add_metric([machine], use.rows)
    removed = _family(
        "collected_sessions_removed_total", "Sessions removed, by whether in a bank.", "in_bank"
    )
    removed.add_metric(["yes"], of.collected_added)
    removed.add_metric(["no"], of.collected_unused)
    return [
        bundle,
        rows,
        missing,
        _single("bundles_swapped_total", "Bundles taken up.", of.swapped),
        _single("bundles_rolled_back_total", "Those that failed their trial.", of.rolled_back),
        _single("bundles_refused_total", "Bundles that could not be taken up.", of.refused),
        _single("evidence_written_total", "Evidence of alarms written.", of.evidence_written),
        _single("evidence_skipped_total", "Evidence not kept.", of.evidence_skipped),
        _single("collected_bytes", "What collected sound takes.", of.collected_bytes),
        removed,
    ]


def _of_delivery(of: Delivery) -> list[_Family]:
    box = of.outbox
    return [
        _single("broker_connected", "1 while the broker is there.", int(of.connected)),
        _single("broker_reconnects_total", "Connections after the first.", of.reconnects),
        _single("broker_refused_total", "Messages the broker refused.", box.refused),
        _single("broker_denied_topics", "Acknowledged, reaching nobody.", len(box.denied_topics)),
        _single("outbox_events", "Events to be delivered.", box.undelivered),
        _single("outbox_unsaved_events", "Those in memory alone.", box.unsaved),
        _single("outbox_disk_failures_total", "Times the disk refused.", box.disk_failures),
        _single("outbox_damaged_files_total", "Damaged files set aside.", box.damaged_files),
        _single(
            "outbox_damaged_events_total", "Events the disk altered, not sent.", box.damaged_events
        ),
        _single(
            "outbox_vanished_events_total", "Events lost from the disk before.", box.vanished_events
        ),
        _single(
            "telemetry_dropped_total",
            "Scores dropped while the broker was away.",
            box.dropped_telemetry,
        ),
    ]
