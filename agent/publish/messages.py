"""What the agent tells the world, as plain data: pure functions from a decision to a payload."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from agent import __version__
from agent.core.clock import utc
from agent.core.cloud_event import Message, Stamp, enveloped
from agent.core.reasons import Reason
from agent.core.records import AlarmEvent, AlarmStatus, Decision, Level, Window
from agent.core.scale import Scale, scale_of
from agent.core.schema import Strict
from agent.decide.reason import reason_words
from agent.publish.cloud_events import CloudEvent, ProbeCloudEvent
from agent.publish.device_payloads import Status
from agent.publish.payloads import Alarm, Score, Sensor
from agent.window.condition import SensorCondition

# What an alarm's event tells as its record has it.
_TOLD = (
    "previous", "window", "origin", "p_value", "operator", "note", "evidence", "explanation",
)  # fmt: skip


def score_message(stamp: Stamp, decision: Decision) -> Message:
    """One window judged, or why it could not be (`<machine>/score`)."""
    score, window, scale = decision.score, decision.score.window, scale_in(decision)
    return _message(
        Score(
            **_place(stamp, window),
            clock=stamp.clock,
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


def alarm_message(stamp: Stamp, told: Decision | AlarmEvent) -> Message:
    """The machine's alarm as it now stands (`<machine>/alarm`, retained).

    Args:
        stamp: Device and machine.
        told: The window or event that it stands so after.
    """
    if isinstance(told, AlarmEvent):
        moment, score = told.wall, told.score
    else:
        moment, score = told.score.window.end_wall, told.score.value
    return _message(
        Alarm(
            device=stamp.device,
            machine=stamp.machine,
            time=utc(moment),
            **figures(scale_in(told), score),
            **standing(settled(status_of(told))),
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


def status_of(told: Decision | AlarmEvent) -> AlarmStatus:
    """The alarm after an event or decision, also one that says no more than its level."""
    if told.status is not None:
        return told.status
    normal = told.level is Level.NORMAL
    return AlarmStatus(told.level, told.since_wall, "" if normal else told.alarm_id, normal)


def event_message(stamp: Stamp, event: AlarmEvent) -> Message:
    """Something that happened to the alarm (`<machine>/event`)."""
    none = event.window is None
    about_level = event.level_change_db is not None
    level = {"level_change_db": _tenths(event.level_change_db)} if about_level else {}
    return enveloped(
        CloudEvent,
        stamp,
        event.id,
        f"auscult.alarm.{event.kind.value}",
        event.wall,
        **{**standing(event.status), "alarm_id": event.alarm_id or None, **level},
        event=event.kind,
        start=None if none else utc(event.window_wall),
        seconds=None if none else round(event.window_seconds, 3),
        **figures(scale_in(event), event.score),
        **{name: getattr(event, name) for name in _TOLD},
    )


def probe_message(stamp: Stamp, event_id: str) -> Message:
    """An event of an id of its own that proves nothing but the way (`<machine>/event`)."""
    return enveloped(ProbeCloudEvent, stamp, event_id, "auscult.delivery.probe", stamp.time)


def sensor_message(stamp: Stamp, condition: SensorCondition) -> Message:
    """The condition of a machine's microphone (`<machine>/sensor`, retained)."""
    return _message(
        Sensor(
            device=stamp.device,
            machine=stamp.machine,
            time=utc(stamp.time),
            status=condition.status,
            reason=condition.reason,
            since=utc(condition.since_wall),
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
        "context": () if status.reason is None else status.reason.context,
    }


def _reason(reason: Reason | None) -> Message | None:
    if reason is None:
        return None
    return {
        "text": reason_words(reason),
        "zone": reason.zone,
        "bands": reason.bands,
        "count": reason.count,
        "since": utc(reason.since_wall),
        "new": list(reason.new),
    }


def _tenths(decibels: float | None) -> float | None:
    return None if decibels is None else round(decibels, 1)


def _maybe(seconds: float | None) -> str | None:
    return None if seconds is None else utc(seconds)


def _place(stamp: Stamp, window: Window) -> Message:
    """Which window, and where in the sound it lies."""
    return {
        "device": stamp.device,
        "machine": stamp.machine,
        "time": utc(window.end_wall),
        "window": window.index,
        "start": utc(window.wall),
        "seconds": round(window.seconds, 3),
        "origin": window.origin,
    }
