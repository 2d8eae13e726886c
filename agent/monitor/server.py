"""The agent's counts and states as metrics for Prometheus (docs/guide/service.md lists them)."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence

from agent import __version__
from agent.core.clock import ClockQuality, WallClock
from agent.core.errors import AuscultError
from agent.core.records import MachineState, Shelving, Validity
from agent.monitor.families import Family, single, text
from agent.monitor.observed import Delivery, Keeping, Machine
from agent.window.condition import ConditionStatus


def exposition(
    machines: Sequence[Machine],
    delivery: Delivery | None,
    clock: WallClock,
    *,
    started: float,
    keeping: Keeping | None = None,
) -> str:
    """Everything there is to know.

    Args:
        machines: What is listened to.
        delivery: How delivery goes; None without a broker.
        clock: The wall clock.
        started: When the agent began, seconds since the epoch.
        keeping: What the agent keeps; None for a part that keeps nothing.
    """
    return text(
        [
            Family("info", "The agent.", [({"version": __version__}, 1)]),
            single("start_time_seconds", "Start, since the epoch.", started),
            single(
                "clock_synchronised",
                "1 when a time service keeps the wall clock right.",
                int(clock.quality is ClockQuality.SYNCHRONISED),
            ),
            single("clock_jumps_total", "Wall clock steps.", clock.jumps),
            *_of_windows(machines),
            *_of_alarms(machines),
            *_of_sensors(machines),
            *_of_drift(machines),
            *([] if keeping is None else _of_keeping(keeping)),
            *([] if delivery is None else _of_delivery(delivery)),
        ]
    )


def _of_windows(machines: Sequence[Machine]) -> list[Family]:
    windows = Family("windows_total", "Windows that reached a decision.")
    invalid = Family("windows_invalid_total", "Windows not judged, by reason.")
    exceeded = Family("windows_exceeded_total", "Windows above the threshold.")
    unjudged = Family("windows_unjudged_total", "Windows heard while there is no bundle yet.")
    idle = Family("windows_idle_total", "Windows of an idle machine.")
    dropped = Family("windows_dropped_total", "Windows dropped unjudged.")
    waiting = Family("windows_waiting", "Windows captured that wait to be judged.")
    inference = Family("inference_seconds_total", "Time the encoder took.")
    last = Family("last_window_timestamp_seconds", "Latest decision, epoch.")
    score = Family("score", "Latest window's score: 0 healthy median, 1 threshold; absent invalid.")
    raw = Family("score_raw", "The same as the bundle's scorer gave it.")
    zone = Family("severity_zone", "Of that score: 0 to 3 for the zones A to D.")
    now_idle = Family("machine_idle", "1 when the latest window is of an idle machine.")
    now, wall = time.monotonic(), time.time()
    for machine in machines:
        counters, name = machine.counters, machine.name
        windows.add(counters.windows, machine=name)
        # Every reason from the start: a series that appears later has no rate for its first count.
        for kind in Validity:
            if kind is not Validity.VALID:
                count = counters.invalid.get(kind.value, 0)
                invalid.add(count, machine=name, reason=kind.value)
        exceeded.add(counters.exceeded, machine=name)
        unjudged.add(counters.unjudged, machine=name)
        idle.add(counters.idle, machine=name)
        dropped.add(counters.dropped, machine=name)
        waiting.add(machine.waiting, machine=name)
        inference.add(float(counters.inference_seconds), machine=name)
        if counters.last_window is not None:
            last.add(wall - (now - counters.last_window), machine=name)
        if counters.state is not MachineState.UNKNOWN:
            now_idle.add(int(counters.state is MachineState.IDLE), machine=name)
        if counters.score is not None:
            raw.add(float(counters.score), machine=name)
            if counters.scale is not None:
                score.add(counters.scale.of(counters.score), machine=name)
                zone.add(counters.scale.zone(counters.score).rank, machine=name)
    return [
        windows, invalid, exceeded, unjudged, idle, dropped, waiting, inference, last, score,
        raw, zone, now_idle,
    ]  # fmt: skip


def _of_alarms(machines: Sequence[Machine]) -> list[Family]:
    raised = Family("alarms_raised_total", "Alarms raised.")
    alerts = Family("alerts_raised_total", "Alerts given that had not been alarms before.")
    level = Family("alarm_level", "0 normal, 1 alert, 2 alarm.")
    since = Family("alarm_level_since_timestamp_seconds", "When that level began, epoch.")
    unacknowledged = Family("alarm_unacknowledged", "1 when an alarm waits for an operator.")
    latched = Family("alarm_latched", "1 when it stands although the machine is quiet again.")
    shelved = Family("alarm_shelved", "1 when an operator took it out of view.")
    muted = Family("machine_muted", "1 while the machine is being worked on.")
    louder = Family("level_change_db", "Lasting change of level alone, dB; absent without.")
    threshold = Family("threshold", "A score above this is anomalous: 1.")
    raw = Family("threshold_raw", "The same for the raw score.")
    alert = Family("alert_threshold", "A score above this speaks for an alert.")
    for machine in machines:
        name = machine.name
        raised.add(machine.counters.raised, machine=name)
        alerts.add(machine.counters.alerts, machine=name)
        scale, early = machine.counters.scale, machine.counters.alert_threshold
        if scale is not None:
            threshold.add(1.0, machine=name)
            raw.add(scale.threshold, machine=name)
            if early is not None:
                alert.add(scale.of(early), machine=name)
        # A machine that is just being begun anew has no alarm to ask.
        with contextlib.suppress(AuscultError):
            status = machine.alarm.status
            level.add(status.level.rank, machine=name)
            since.add(float(status.since_wall), machine=name)
            unacknowledged.add(int(not status.acknowledged), machine=name)
            latched.add(int(status.latched), machine=name)
            if status.level_change_db is not None:
                louder.add(float(status.level_change_db), machine=name)
            shelved.add(int(status.shelving is not Shelving.UNSHELVED), machine=name)
            muted.add(int(status.muted_until_wall is not None), machine=name)
    return [
        raised, alerts, level, since, unacknowledged, latched, shelved, muted, threshold, raw,
        alert, louder,
    ]  # fmt: skip


def _of_sensors(machines: Sequence[Machine]) -> list[Family]:
    good = Family("sensor_good", "1 when the microphone is in order.")
    status = Family("sensor_status", "1 for the microphone's condition (NAMUR NE 107), else 0.")
    faults = Family("source_faults_total", "Troubles of the source, by name.")
    for machine in machines:
        name, present = machine.name, machine.sensor.status
        good.add(int(present is ConditionStatus.GOOD), machine=name)
        for one in ConditionStatus:
            status.add(int(one is present), machine=name, status=one.value)
        for fault, count in sorted(machine.faults().items()):
            faults.add(count, machine=name, fault=fault)
    return [good, status, faults]


def _of_drift(machines: Sequence[Machine]) -> list[Family]:
    distance = Family("drift_distance_nats", "Distance to the nearest normal state.")
    threshold = Family("drift_threshold_nats", "The distance that counts as drift.")
    warning = Family("drift_warning", "1 while a drift warning stands.")
    last = Family("drift_evaluated_timestamp_seconds", "Newest window evaluated, epoch.")
    for machine in machines:
        with contextlib.suppress(AuscultError):
            if (status := machine.drift.status) is not None:
                distance.add(float(status.distance), machine=machine.name)
                threshold.add(float(status.threshold), machine=machine.name)
                warning.add(int(status.active), machine=machine.name)
                last.add(float(status.wall), machine=machine.name)
    return [distance, threshold, warning, last]


def _of_keeping(of: Keeping) -> list[Family]:
    bundle = Family("bundle_info", "The bundle in use.")
    rows = Family("bundle_rows", "Rows of its memory bank.")
    missing = Family("bundle_missing", "1 while there is no bundle to judge the machine with.")
    for machine, use in of.bundles.items():
        missing.add(int(use is None), machine=machine)
        if use is None:
            continue
        bundle.add(1, machine=machine, digest=use.digest, version=str(use.version))
        rows.add(use.rows, machine=machine)
    removed = Family("collected_sessions_removed_total", "Sessions removed, by whether in a bank.")
    removed.add(of.collected_added, in_bank="yes")
    removed.add(of.collected_unused, in_bank="no")
    return [
        bundle,
        rows,
        missing,
        single("bundles_swapped_total", "Bundles taken up.", of.swapped),
        single("bundles_rolled_back_total", "Those that failed their trial.", of.rolled_back),
        single("bundles_refused_total", "Bundles that could not be taken up.", of.refused),
        single("evidence_written_total", "Evidence of alarms written.", of.evidence_written),
        single("evidence_skipped_total", "Evidence not kept.", of.evidence_skipped),
        single("collected_bytes", "What collected sound takes.", of.collected_bytes),
        removed,
    ]


def _of_delivery(of: Delivery) -> list[Family]:
    return [
        single("broker_connected", "1 while the broker is there.", int(of.connected)),
        single("broker_reconnects_total", "Connections after the first.", of.reconnects),
        single("broker_refused_total", "Messages the broker refused.", of.refused),
        single("broker_denied_topics", "Acknowledged, reaching nobody.", of.denied_topics),
        single("outbox_events", "Events to be delivered.", of.undelivered),
        single("outbox_unsaved_events", "Those in memory alone.", of.unsaved),
        single("outbox_disk_failures_total", "Times the disk refused.", of.disk_failures),
        single("outbox_damaged_files_total", "Damaged files set aside.", of.damaged_files),
        single(
            "outbox_damaged_events_total", "Events the disk altered, not sent.", of.damaged_events
        ),
        single(
            "outbox_vanished_events_total", "Events lost from the disk before.", of.vanished_events
        ),
        single(
            "telemetry_dropped_total",
            "Scores dropped while the broker was away.",
            of.dropped_telemetry,
        ),
    ]
