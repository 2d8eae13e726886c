"""The metrics of a machine, and how each follows from the agent's own messages."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from agent.core.cloud_event import Message
from agent.publish.sparkplug.payload import DataType, Metric, Value


@dataclass(frozen=True, slots=True)
class Row:
    """One metric.

    Attributes:
        name: Its name; `/` makes folders at the host.
        type: Its data type.
        kind: The kind of message that tells it (`agent/publish/kinds.py`).
        value: Its value in such a message.
    """

    name: str
    type: DataType
    kind: str
    value: Callable[[Message], Value]


def _field(name: str) -> Callable[[Message], Value]:
    return lambda message: _plain(message.get(name))


def _plain(value: Any) -> Value:
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def _reason(message: Message) -> Value:
    reason = message.get("reason")
    return None if reason is None else str(reason["text"])


def milliseconds(text: str | None) -> int | None:
    """ISO 8601 to milliseconds since 1970."""
    if text is None:
        return None
    return round(datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp() * 1000)


_F, _B, _S, _T = DataType.FLOAT, DataType.BOOLEAN, DataType.STRING, DataType.DATETIME
#: In the order of their aliases, which is that of the birth.
ROWS: tuple[Row, ...] = (
    Row("Score", _F, "score", _field("score")),
    Row("Zone", _S, "score", _field("zone")),
    Row("Exceeded", _B, "score", _field("exceeded")),
    Row("Validity", _S, "score", _field("validity")),
    Row("State", _S, "score", _field("state")),
    Row("Alarm/Level", _S, "alarm", _field("level")),
    Row("Alarm/Active", _B, "alarm", lambda message: message["level"] != "normal"),
    Row("Alarm/Acknowledged", _B, "alarm", _field("acknowledged")),
    Row("Alarm/Latched", _B, "alarm", _field("latched")),
    Row("Alarm/Shelving", _S, "alarm", _field("shelving")),
    Row("Alarm/Id", _S, "alarm", _field("alarm_id")),
    Row("Alarm/Since", _T, "alarm", lambda message: milliseconds(message["since"])),
    Row("Alarm/Reason", _S, "alarm", _reason),
    Row("Alarm/Level Change dB", _F, "alarm", _field("level_change_db")),
    Row("Drift/Warning", _B, "drift", _field("active")),
    Row("Drift/Distance", _F, "drift", _field("distance")),
    Row("Microphone/Status", _S, "sensor", _field("status")),
    Row("Microphone/Good", _B, "sensor", lambda message: message["status"] == "good"),
    Row("Microphone/Reason", _S, "sensor", _field("reason")),
)
# These come with every window; they are told at their own pace.
_PACED = frozenset({"Score"})


class MachineMetrics:
    """What is known of one machine, and what of it has yet to be told. Any thread.

    Args:
        machine: Its name.
        first_alias: Alias of its first metric; the others follow.
        score_seconds: Least step between scores.
        aliases: Tell what changed by alias, else by name.
    """

    def __init__(
        self, machine: str, first_alias: int, score_seconds: float, *, aliases: bool = True
    ) -> None:
        self.machine = machine
        self._aliases, self._step = aliases, score_seconds
        self._lock = threading.Lock()
        now = round(time.time() * 1000)
        self._now = [
            Metric(row.name, first_alias + n if aliases else None, row.type, None, now)
            for n, row in enumerate(ROWS)
        ]
        self._changed: set[int] = set()
        self._held: set[int] = set()
        self._scored = -float("inf")

    def take(self, kind: str, message: Message) -> None:
        """A message about the machine."""
        told = milliseconds(message.get("time")) or round(time.time() * 1000)
        with self._lock:
            before = {row.name: self._now[n].value for n, row in enumerate(ROWS)}
            for number, row in enumerate(ROWS):
                if row.kind != kind:
                    continue
                value = row.value(message)
                if value == self._now[number].value:
                    continue
                self._now[number] = replace(self._now[number], value=value, time=told)
                (self._held if row.name in _PACED else self._changed).add(number)
            zone = message.get("zone") if kind == "score" else before["Zone"]
            now = time.monotonic()
            if self._held and (zone != before["Zone"] or now - self._scored >= self._step):
                self._changed |= self._held
                self._held.clear()
                self._scored = now

    def birth(self) -> Sequence[Metric]:
        """All of them, with names; nothing is left to be told thereafter."""
        with self._lock:
            self._changed.clear()
            self._held.clear()
            return list(self._now)

    def news(self) -> Sequence[Metric]:
        """Those that changed since, by alias."""
        with self._lock:
            found = [self._now[n] for n in sorted(self._changed)]
            self._changed.clear()
            return [replace(one, name="") for one in found] if self._aliases else found
