"""One thing that people are notified of, made of what is told of a machine."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from typing import Any

from agent.bundle.events import BundleEvent, BundleEventKind
from agent.config.notify import Occasion
from agent.core.clock import utc
from agent.core.cloud_event import Message
from agent.core.records import AlarmEvent, EventKind, Level
from agent.core.text import local_time
from agent.drift.events import DriftEvent, DriftEventKind
from agent.publish.telling import Telling
from agent.window.condition import ConditionStatus, SensorCondition

_RISEN = (EventKind.ALERT, EventKind.RAISED, EventKind.REALARM)
_UNFIT = (ConditionStatus.FAILURE, ConditionStatus.OUT_OF_SPECIFICATION)


@dataclass(frozen=True, slots=True)
class Notice:
    """What people are notified of.

    Attributes:
        id: The same if it is told twice.
        machine: The machine.
        occasion: Which of `notify.occasions`; `escalation` when nobody has acknowledged an alarm.
        title: A few words.
        text: The rest.
        wall: When it happened, seconds since the epoch.
        alarm_id: The alarm it is about; empty of anything else.
        zone: Its severity zone; empty where there is none.
        due: Not to be told before, seconds since the epoch; 0 for at once.
    """

    id: str
    machine: str
    occasion: str
    title: str
    text: str
    wall: float
    alarm_id: str = ""
    zone: str = ""
    due: float = 0.0

    def encode(self) -> bytes:
        """The notice as JSON, for the store."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def decode(cls, payload: bytes) -> Notice:
        """What was stored.

        Raises:
            ValueError: It is none.
        """
        try:
            # The store adds the number it has given; a later version may add more.
            known = {field.name for field in fields(cls)}
            return cls(**{k: v for k, v in json.loads(payload).items() if k in known})
        except TypeError as fault:
            raise ValueError(str(fault)) from fault


def answered(telling: Telling) -> str:
    """Id of the alarm that somebody has seen, or that is over, by this; else empty."""
    event = telling.happened
    seen = (EventKind.ACKNOWLEDGED, EventKind.CLEARED, EventKind.SHELVED, EventKind.MUTED)
    return event.alarm_id if isinstance(event, AlarmEvent) and event.kind in seen else ""


def notice_of(telling: Telling) -> Notice | None:
    """What is notified of it, whatever is configured; None of what nobody need be told."""
    event, machine = telling.happened, telling.machine
    if isinstance(event, AlarmEvent):
        messages = {kind.name: message for kind, message in telling.messages}
        return _alarm(event, machine, messages["event"]["data"])
    if isinstance(event, DriftEvent) and event.kind is DriftEventKind.WARNED:
        text = f"{event.status.movement or 'Its sound has moved away from what it was'}."
        return Notice(event.id, machine, "drift", f"{machine}: drift", text, event.wall)
    if isinstance(event, BundleEvent) and event.kind in (
        BundleEventKind.REFUSED,
        BundleEventKind.MISSING,
        BundleEventKind.ROLLED_BACK,
    ):
        title = f"{machine}: bundle {event.kind.value.replace('_', ' ')}"
        return Notice(event.id, machine, "bundle", title, event.reason, event.wall)
    if isinstance(event, SensorCondition) and event.status in _UNFIT:
        title = f"{machine}: microphone, {event.status.value.replace('_', ' ')}"
        text = f"{event.reason}. The machine is not judged."
        id_ = f"{machine}-microphone-{utc(event.since_wall)}"
        return Notice(id_, machine, "microphone", title, text, event.since_wall)
    return None


def _alarm(event: AlarmEvent, machine: str, data: Message) -> Notice | None:
    occasion: Occasion
    if event.kind in _RISEN:
        occasion = "alarm" if event.status.level is Level.ALARM else "alert"
        again = " again" if event.kind is EventKind.REALARM else ""
        title = f"{machine}: {occasion}{again}"
    elif event.kind is EventKind.CLEARED:
        occasion, title = "over", f"{machine}: sounds healthy again"
    elif event.kind is EventKind.LEVEL:
        # No alarm, but nobody has said yet that it is the microphone: it may be a fault.
        text = _explained(data)
        text = f"{text[:1].upper()}{text[1:]}. Look at machine and microphone, and answer it."
        return Notice(event.id, machine, "level", f"{machine}: level changed", text, event.wall)
    elif event.kind is EventKind.LEVEL_RETURNED:
        text = "As loud as healthy sound again."
        return Notice(event.id, machine, "level", f"{machine}: level as before", text, event.wall)
    else:
        return None
    reason = (data.get("reason") or {}).get("text") or _explained(data)
    reason = reason[:1].upper() + reason[1:]
    parts = [f"Score {data['score']:.1f}" if data.get("score") is not None else ""]
    parts += [f"zone {data['zone']}" if data.get("zone") else ""]
    figures = ", ".join(part for part in parts if part)
    text = " ".join(part for part in (f"{figures}." if figures else "", reason) if part)
    return Notice(
        event.id, machine, occasion, title, text, event.wall, event.alarm_id, data.get("zone") or ""
    )


def _explained(data: Message) -> str:
    explanation: dict[str, Any] = data.get("explanation") or {}
    return str(explanation.get("text", ""))


def together(notices: list[Notice], device: str, page_url: str | None) -> tuple[str, str]:
    """Title and text of one message about them, in order.

    Args:
        notices: At least one.
        device: This device's name.
        page_url: Address of its page, or None.
    """
    if len(notices) == 1:
        (one,) = notices
        title, lines = one.title, [one.text, f"{local_time(utc(one.wall))}, {device}"]
    else:
        machines = sorted({one.machine for one in notices})
        title = f"{len(notices)} messages about {', '.join(machines)}"
        lines = [f"{local_time(utc(one.wall))} {one.title}. {one.text}" for one in notices]
        lines.append(device)
    if page_url:
        lines.append(page_url)
    return title, "\n".join(line for line in lines if line.strip())
