"""What an agent told, as lines of its `jsonl`, made into what many devices tell now."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.core.errors import ConfigError

#: Kinds that are published, and the last level of their topics.
_TOPICS = {
    "score": "score",
    "alarm": "alarm",
    "event": "event",
    "sensor": "sensor",
    "drift": "drift",
}
_DEVICE, _MACHINE, _TIME, _ID, _SEQUENCE, _ALARM = (
    f"@{word}@" for word in ("device", "machine", "time", "id", "sequence", "alarm")
)


@dataclass(frozen=True, slots=True)
class Recorded:
    """One message of the recording, with gaps for what differs.

    Attributes:
        topic: Last level.
        template: JSON, with the gaps.
        alarm: The recording's alarm it is about; empty when it is about none.
    """

    topic: str
    template: str
    alarm: str

    def filled(
        self, device: str, machine: str, now: str, event_id: str, sequence: int, alarm_id: str
    ) -> bytes:
        """The message of another device, now."""
        return (
            self.template.replace(_DEVICE, device)
            .replace(_MACHINE, machine)
            .replace(_TIME, now)
            .replace(_ID, event_id)
            .replace(_SEQUENCE, f"{sequence:012d}")
            .replace(_ALARM, alarm_id)
            .encode()
        )


@dataclass(frozen=True, slots=True)
class Stream:
    """What one machine told.

    Attributes:
        told: Events, each followed by the states it brought about; in their order.
        scores: Scores, each followed by what was told of drift after it; in their order.
    """

    told: tuple[Recorded, ...]
    scores: tuple[Recorded, ...]


def read_streams(path: Path) -> list[Stream]:
    """The machines of a recording, each a stream.

    Args:
        path: The file that `jsonl` of an agent's configuration names.

    Raises:
        ConfigError: It cannot be read, or has no event.
    """
    remedy = "Record one: `jsonl: told.jsonl` in an agent's configuration."
    told: dict[str, list[Recorded]] = defaultdict(list)
    scores: dict[str, list[Recorded]] = defaultdict(list)
    try:
        with path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                try:
                    message = json.loads(line)
                    kind = message.pop("kind")
                except (ValueError, KeyError, AttributeError) as fault:
                    raise ConfigError(
                        f"line {number} is no message of an agent", where=path, remedy=remedy
                    ) from fault
                if kind in _TOPICS:
                    machine = str(message.get("machine") or message.get("subject"))
                    into = scores if kind in {"score", "drift"} else told
                    into[machine].append(_recorded(kind, message))
    except OSError as fault:
        raise ConfigError(f"cannot be read: {fault.strerror}", where=path, remedy=remedy) from fault
    found = [
        Stream(tuple(told[machine]), tuple(scores[machine]))
        for machine in sorted(told)
        if any(one.topic == "event" for one in told[machine])
    ]
    if not found:
        raise ConfigError("no machine has an event in it", where=path, remedy=remedy)
    return found


def _recorded(kind: str, message: dict[str, Any]) -> Recorded:
    about = message["data"] if kind == "event" else message
    about.update(device=_DEVICE, machine=_MACHINE)
    alarm = about.get("alarm_id") or about.get("warning_id") or ""
    for name in ("time", "since", "start"):
        if isinstance(about.get(name), str):
            about[name] = _TIME
    for name in ("alarm_id", "warning_id"):
        if about.get(name):
            about[name] = _ALARM
    if kind == "event":
        message.update(
            id=_ID, source=f"/auscult/{_DEVICE}", subject=_MACHINE, time=_TIME, sequence=_SEQUENCE
        )
    return Recorded(
        _TOPICS[kind], json.dumps(message, ensure_ascii=False, separators=(",", ":")), alarm
    )
