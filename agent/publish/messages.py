"""What the agent tells the world, as plain data: pure functions from a decision to a payload."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any, TypeAlias

from agent import __version__
from agent.core.clock import ClockQuality, utc
from agent.core.reasons import Reason
from agent.core.records import AlarmEvent, AlarmStatus, Decision, Level, Window
from agent.core.scale import Scale, scale_of
from agent.core.schema import Strict
from agent.decide.reason import reason_words
from agent.publish.cloud_events import (
    AlarmEventData,
    BundleCloudEvent,
    BundleEventData,
    CloudEvent,
    DriftCloudEvent,
    DriftEventData,
    Explanation,
    ProbeCloudEvent,
    ProbeEventData,
)
from agent.publish.device_payloads import Status
from agent.publish.payloads import Alarm, Drift, Score, Sensor
from agent.window.condition import SensorCondition

Message: TypeAlias = dict[str, Any]

CLOUD_EVENT = "application/cloudevents+json"


def encode(message: Message) -> bytes:
    """A message as UTF-8 JSON on one line.

    Raises:
        ValueError: It holds NaN or infinity, which are not JSON.
    """
    text = json.dumps(message, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.encode()


def score_message(
    device: str,
    machine: str,
    decision: Decision,
    *,
    clock: ClockQuality = ClockQuality.UNSYNCHRONISED,
) -> Message:
    """One window judged, or why it could not be (`<machine>/score`).

    Args:
        device: This device's name.
        machine: The machine.
        decision: What was decided on the window.
        clock: Whether its times can be believed; unless somebody vouches for them, they cannot.
    """
    score, window, scale = decision.score, decision.score.window, scale_in(decision)
    return _message(
        Score(
            **_place(device, machine, window),
            clock=clock,
            validity=window.validity,
            reason=window.reason,
            p_value=score.p_value,
            **figures(scale, score.value),
            alert_threshold=scale.maybe(decision.alert_threshold),
            exceeded=decision.exceeded,
            level=decision.level,
            state=decision.state,
            level_change_db=None if score.level is None else round(score.level.decibels, 1),
            foreign=[sound.kind.value for sound in score.foreign],
            held=decision.held,
            inference_seconds=round(score.inference_seconds, 6),
        )
    )


def alarm_message(
    device: str,
    machine: str,
    status: AlarmStatus,
    *,
    time: float,
    score: float | None,
    scale: Scale,
) -> Message:
    """The machine's alarm as it now stands (`<machine>/alarm`, retained).

    Args:
        device: This device's name.
        machine: The machine.
        status: Its alarm.
        time: When that was so, seconds since the epoch.
        score: Of the latest window, raw; None when it could not be judged.
        scale: What it is told on.
    """
    return _message(
        Alarm(
            device=device,
            machine=machine,
            time=utc(time),
            **figures(scale, score),
            **standing(settled(status)),
        )
    )


def scale_in(told: Decision | AlarmEvent) -> Scale:
    """What a decision's or event's score is told on, also of one that knows but its threshold."""
    return told.scale or scale_of(told.threshold, None)


def figures(scale: Scale, score: float | None) -> Message:
    """A score and the threshold, both as people see them and raw.

    Args:
        scale: What the score is told on.
        score: Raw; None without one.
    """
    return {
        "score": scale.maybe(score),
        "zone": None if score is None else scale.zone(score),
        "raw_score": score,
        "threshold": 1.0,
        "raw_threshold": scale.threshold,
    }


def settled(status: AlarmStatus) -> AlarmStatus:
    """A state as it stands: the event that ends an alarm still bears its id, the state does not."""
    if status.level is not Level.NORMAL:
        return status
    return replace(status, alarm_id="", acknowledged=True, latched=False, reason=None)


def status_of(decision: Decision) -> AlarmStatus:
    """The alarm after a decision, also one that says no more than its level."""
    if decision.status is not None:
        return decision.status
    normal = decision.level is Level.NORMAL
    return AlarmStatus(
        decision.level, decision.since_wall, "" if normal else decision.alarm_id, normal
    )


def event_message(
    device: str,
    machine: str,
    event: AlarmEvent,
    *,
    clock: ClockQuality = ClockQuality.UNSYNCHRONISED,
) -> Message:
    """Something that happened to the alarm (`<machine>/event`).

    Args:
        device: This device's name.
        machine: The machine.
        event: What happened.
        clock: Whether its times can be believed; unless somebody vouches for them, they cannot.
    """
    none, why = event.window is None, event.explanation
    about_level = event.level_change_db is not None
    level = {"level_change_db": _tenths(event.level_change_db)} if about_level else {}
    data = AlarmEventData(
        **{**standing(event.status), "alarm_id": event.alarm_id or None, **level},
        device=device,
        machine=machine,
        time=utc(event.wall),
        clock=clock,
        event=event.kind,
        previous=event.previous,
        window=event.window,
        start=None if none else utc(event.window_wall),
        seconds=None if none else round(event.window_seconds, 3),
        origin=event.origin,
        p_value=event.p_value,
        **figures(scale_in(event), event.score),
        operator=event.operator,
        note=event.note,
        evidence=event.evidence,
        explanation=None if why is None else Explanation.model_validate(asdict(why)),
    )
    return enveloped(CloudEvent, event.id, f"auscult.alarm.{event.kind.value}", data)


def enveloped(
    envelope: type[CloudEvent | DriftCloudEvent | BundleCloudEvent | ProbeCloudEvent],
    event_id: str,
    kind: str,
    data: AlarmEventData | DriftEventData | BundleEventData | ProbeEventData,
) -> Message:
    """What happened, as the CloudEvent that tells it (CloudEvents 1.0, JSON format).

    Args:
        envelope: Its model.
        event_id: The same however often it is delivered.
        kind: Its type, such as `auscult.alarm.raised`.
        data: What happened.
    """
    event = envelope.model_validate(
        {
            "specversion": "1.0",
            "id": event_id,
            "source": f"/auscult/{data.device}",
            "type": kind,
            "subject": data.machine,
            "time": data.time,
            "datacontenttype": "application/json",
            "sequence": None,  # the outbox numbers what it sends
            "shortened": None,
            "data": data,
        }
    )
    return _message(event)


def probe_message(
    device: str,
    machine: str,
    event_id: str,
    *,
    time: float,
    clock: ClockQuality = ClockQuality.UNSYNCHRONISED,
) -> Message:
    """An event that proves nothing but the way (`<machine>/event`).

    Args:
        device: This device's name.
        machine: The machine.
        event_id: Its own.
        time: Now, seconds since the epoch.
        clock: Whether that can be believed.
    """
    data = ProbeEventData(device=device, machine=machine, time=utc(time), clock=clock)
    return enveloped(ProbeCloudEvent, event_id, "auscult.delivery.probe", data)


def sensor_message(
    device: str, machine: str, condition: SensorCondition, *, time: float
) -> Message:
    """The condition of a machine's microphone (`<machine>/sensor`, retained)."""
    return _message(
        Sensor(
            device=device,
            machine=machine,
            time=utc(time),
            status=condition.status,
            reason=condition.reason,
            since=utc(condition.since_wall),
        )
    )


def drift_message(
    device: str,
    machine: str,
    *,
    time: float,
    active: bool,
    exceeded: bool,
    distance: float,
    threshold: float,
    reference: int,
    warning_id: str = "",
    since: float | None = None,
    movement: str = "",
) -> Message:
    """An evaluation of the drift monitor (`<machine>/drift`, retained).

    Args:
        device: This device's name.
        machine: The machine.
        time: End of the newest window evaluated, seconds since the epoch.
        active: Whether a warning stands.
        exceeded: Whether this evaluation was above the threshold.
        distance: Distance to the nearest normal state, nats.
        threshold: The distance that counts as drift, nats.
        reference: Which normal state was nearest; 0 is the baseline.
        warning_id: The standing warning; empty when none stands.
        since: When that was raised, seconds since the epoch.
        movement: What moved, in words.
    """
    return _message(
        Drift(
            device=device,
            machine=machine,
            time=utc(time),
            active=active,
            exceeded=exceeded,
            distance=distance,
            threshold=threshold,
            reference=reference,
            warning_id=warning_id or None,
            since=_maybe(since),
            movement=movement,
        )
    )


def status_message(
    device: str,
    status: str,
    *,
    machines: Sequence[str],
    time: float | None,
    reason: str = "",
    unjudged: Sequence[str] = (),
) -> Message:
    """Whether the agent runs (`status`, retained).

    Args:
        device: This device's name.
        status: `online` or `offline`.
        machines: The machines it listens to.
        time: When, seconds since the epoch; None in the last will, which is written beforehand.
        reason: Why it is offline.
        unjudged: Those of the machines that have no bundle yet.
    """
    return Status.model_validate(
        {
            "device": device,
            "status": status,
            "time": None if time is None else utc(time),
            "reason": reason,
            "machines": list(machines),
            "unjudged": list(unjudged),
            "version": __version__,
        }
    ).model_dump(mode="json")


def _message(payload: Strict) -> Message:
    return payload.model_dump(mode="json")


def standing(status: AlarmStatus) -> Message:
    """How an alarm stands, as `alarm` and `event` tell it."""
    return {
        "level": status.level.value,
        "since": utc(status.since_wall),
        "alarm_id": status.alarm_id or None,
        "acknowledged": status.acknowledged,
        "latched": status.latched,
        "shelving": status.shelving.value,
        "shelved_until": _maybe(status.shelved_until_wall),
        "muted_until": _maybe(status.muted_until_wall),
        "level_change_db": _tenths(status.level_change_db),
        "planned": status.planned,
        "reason": _reason(status.reason),
        "context": [] if status.reason is None else [asdict(c) for c in status.reason.context],
    }


def _reason(reason: Reason | None) -> Message | None:
    if reason is None:
        return None
    return {
        "text": reason_words(reason),
        "zone": reason.zone,
        "bands": [asdict(band) for band in reason.bands],
        "count": reason.count,
        "since": utc(reason.since_wall),
        "new": list(reason.new),
    }


def _tenths(decibels: float | None) -> float | None:
    return None if decibels is None else round(decibels, 1)


def _maybe(seconds: float | None) -> str | None:
    return None if seconds is None else utc(seconds)


def _place(device: str, machine: str, window: Window) -> Message:
    """Which window, and where in the sound it lies."""
    return {
        "device": device,
        "machine": machine,
        "time": utc(window.end_wall),
        "window": window.index,
        "start": utc(window.wall),
        "seconds": round(window.seconds, 3),
        "origin": window.origin,
    }
