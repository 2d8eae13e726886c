"""What the agent tells the world, as plain data: pure functions, their fields in docs/mqtt.md."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime, timezone
from typing import Any, TypeAlias

from agent import __version__
from agent.frames import Decision, Level, Window

Message: TypeAlias = dict[str, Any]


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
    return {
        "device": device,
        "machine": machine,
        "time": utc(window.end_wall),
        **_place(window),
        "validity": window.validity.value,
        "reason": window.reason,
        "score": score.value,
        "threshold": decision.threshold,
        "exceeded": decision.exceeded,
        "level": decision.level.value,
        "inference_seconds": round(score.inference_seconds, 6),
    }


def alarm_message(device: str, machine: str, decision: Decision) -> Message:
    """The machine's alarm as it now stands (`<machine>/alarm`, retained)."""
    alarmed = decision.level is Level.ALARM
    return {
        "device": device,
        "machine": machine,
        "time": utc(decision.score.window.end_wall),
        "level": decision.level.value,
        "since": utc(decision.since_wall),
        "alarm_id": decision.alarm_id if alarmed else None,
        "score": decision.score.value,
        "threshold": decision.threshold,
    }


def event_message(device: str, machine: str, decision: Decision) -> Message:
    """An alarm raised or cleared (`<machine>/event`); `decision.changed` must hold.

    The id follows from the alarm's, so a message delivered twice can be told from two events.
    """
    kind = "raised" if decision.level is Level.ALARM else "cleared"
    window = decision.score.window
    return {
        "id": f"{decision.alarm_id}-{kind}",
        "event": kind,
        "alarm_id": decision.alarm_id,
        "device": device,
        "machine": machine,
        "time": utc(window.end_wall),
        **_place(window),
        "score": decision.score.value,
        "threshold": decision.threshold,
        "level": decision.level.value,
    }


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
    return {
        "device": device,
        "status": status,
        "time": None if time is None else utc(time),
        "reason": reason,
        "machines": list(machines),
        "version": __version__,
    }


def _place(window: Window) -> Message:
    """Where in the sound a window lies."""
    return {
        "window": window.index,
        "start": utc(window.wall),
        "seconds": round(window.seconds, 3),
        "origin": window.origin,
    }
