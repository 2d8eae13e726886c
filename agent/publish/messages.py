"""What the agent tells the world, as plain data: pure functions from a decision to a payload."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime, timezone
from typing import Any, TypeAlias

from agent import __version__
from agent.frames import Decision, Level, Window
from agent.publish.payloads import Alarm, AlarmEvent, AlarmEventData, Drift, Score, Status
from agent.schema import Strict

Message: TypeAlias = dict[str, Any]

CLOUD_EVENT = "application/cloudevents+json"


def utc(seconds: float) -> str:
    """Seconds since the epoch as ISO 8601, UTC, in milliseconds: `2025-03-01T12:00:00.000Z`."""
    moment = datetime.fromtimestamp(seconds, tz=timezone.utc)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def encode(message: Message) -> bytes:
    """A message as UTF-8 JSON on one line.

    Raises:
        ValueError: It holds NaN or infinity, which are not JSON.
    """
    text = json.dumps(message, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.encode()


def score_message(device: str, machine: str, decision: Decision) -> Message:
    """One window judged, or why it could not be (`<machine>/score`)."""
    score, window = decision.score, decision.score.window
    return _message(
        Score(
            **_place(device, machine, window),
            validity=window.validity,
            reason=window.reason,
            score=score.value,
            threshold=decision.threshold,
            exceeded=decision.exceeded,
            level=decision.level,
            inference_seconds=round(score.inference_seconds, 6),
        )
    )


def alarm_message(device: str, machine: str, decision: Decision) -> Message:
    """The machine's alarm as it now stands (`<machine>/alarm`, retained)."""
    return _message(
        Alarm(
            device=device,
            machine=machine,
            time=utc(decision.score.window.end_wall),
            level=decision.level,
            since=utc(decision.since_wall),
            alarm_id=None if decision.level is Level.NORMAL else decision.alarm_id,
            score=decision.score.value,
            threshold=decision.threshold,
        )
    )


def event_message(device: str, machine: str, decision: Decision) -> Message:
    """An alarm raised or cleared (`<machine>/event`); `decision.changed` must hold.

    The id follows from the alarm's, so a message delivered twice can be told from two events.
    """
    data = AlarmEventData(
        **_place(device, machine, decision.score.window),
        event="cleared" if decision.level is Level.NORMAL else "raised",
        alarm_id=decision.alarm_id,
        score=decision.score.value,
        threshold=decision.threshold,
        level=decision.level,
    )
    return _message(
        AlarmEvent(
            id=f"{decision.alarm_id}-{data.event}",
            source=f"/auscult/{device}",
            type=f"auscult.alarm.{data.event}",
            subject=machine,
            time=data.time,
            data=data,
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
        )
    )


def status_message(
    device: str, status: str, *, machines: Sequence[str], time: float | None, reason: str = ""
) -> Message:
    """Whether the agent runs (`status`, retained).

    Args:
        device: This device's name.
        status: `online` or `offline`.
        machines: The machines it listens to.
        time: When, seconds since the epoch; None in the last will, which is written beforehand.
        reason: Why it is offline.
    """
    return Status.model_validate(
        {
            "device": device,
            "status": status,
            "time": None if time is None else utc(time),
            "reason": reason,
            "machines": list(machines),
            "version": __version__,
        }
    ).model_dump(mode="json")


def _message(payload: Strict) -> Message:
    return payload.model_dump(mode="json")


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
