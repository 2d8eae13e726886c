"""What a batch of messages says, as rows of tables: the latest of each device and state."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeAlias

from plant.watch.rank import alarm_rank, drift_rank, sensor_rank
from plant.watch.reading import Alarm, Drift, Health, Sensor, Status, Taken

Row: TypeAlias = dict[str, Any]


@dataclass(slots=True)
class States:
    """States by device, machine and topic.

    Attributes:
        gone: Keys of those that were removed.
        forced: Rows of those that the broker had retained.
        usual: Rows of those that came as they were told.
    """

    gone: dict[tuple[str, ...], Row] = field(default_factory=dict)
    forced: dict[tuple[str, ...], Row] = field(default_factory=dict)
    usual: dict[tuple[str, ...], Row] = field(default_factory=dict)


def latest_states(taken: Iterable[Taken]) -> States:
    """The latest state of each kind that messages tell."""
    found = States()
    for one in taken:
        key = {"device": one.device, "machine": one.machine, "topic": one.topic}
        place = tuple(key.values())
        if one.body is None:
            found.gone[place] = key
            found.usual.pop(place, None)
            found.forced.pop(place, None)
        elif isinstance(one.body, Alarm | Sensor | Drift | Status) or one.topic in {
            "info", "health",
        }:  # fmt: skip
            found.gone.pop(place, None)
            row = {**key, "time": _time(one), "received": one.received, "payload": one.payload}
            into = found.forced if one.retained else found.usual
            if place not in into or row["time"] >= into[place]["time"]:
                into[place] = row
    return found


def statuses_of(taken: Iterable[Taken], now: datetime) -> dict[str, Row]:
    """Whether each device is there."""
    return {
        one.device: {
            "name": one.device, "status": one.body.status, "reason": one.body.reason,
            "version": one.body.version, "status_at": one.received, "changed": now,
        }
        for one in taken
        if isinstance(one.body, Status)
    }  # fmt: skip


def acknowledged_of(taken: Iterable[Taken], now: datetime) -> dict[str, Row]:
    """The number up to which a broker had the events of each device."""
    return {
        one.device: {
            "name": one.device, "acknowledged": one.body.outbox.acknowledged, "changed": now,
        }
        for one in taken
        if isinstance(one.body, Health)
        and one.body.outbox is not None
        and one.body.outbox.acknowledged is not None
    }  # fmt: skip


def alarm_columns(body: Alarm | None) -> dict[str, Any]:
    """A machine's columns of its alarm; None for a state that was removed."""
    if body is None:
        body_: dict[str, Any] = dict.fromkeys(
            ("alarm_at", "level", "since", "alarm_id", "acknowledged", "latched", "shelving",
             "shelved_until", "muted_until", "reason", "score", "zone")
        )  # fmt: skip
        return {**body_, "rank": 0.0}
    return {
        "alarm_at": body.time,
        "level": body.level,
        "since": body.since,
        "alarm_id": body.alarm_id,
        "acknowledged": body.acknowledged,
        "latched": body.latched,
        "shelving": body.shelving,
        "shelved_until": body.shelved_until,
        "muted_until": body.muted_until,
        "reason": None if body.reason is None else body.reason.text,
        "score": body.score,
        "zone": body.zone,
        "rank": alarm_rank(body),
    }


def sensor_columns(body: Sensor | None) -> dict[str, Any]:
    """A machine's columns of its microphone; None for a state that was removed."""
    if body is None:
        return {"sensor_at": None, "sensor": None, "sensor_reason": None, "sensor_rank": 0.0}
    return {
        "sensor_at": body.time,
        "sensor": body.status,
        "sensor_reason": body.reason,
        "sensor_rank": sensor_rank(body),
    }


def drift_columns(body: Drift | None) -> dict[str, Any]:
    """A machine's columns of its drift; None for a state that was removed."""
    if body is None:
        return {"drift_at": None, "drift": None, "drift_rank": 0.0}
    return {"drift_at": body.time, "drift": body.active, "drift_rank": drift_rank(body)}


def _time(one: Taken) -> datetime:
    # A last will has no time, and no two clocks are the same: of the status this server's counts.
    found = one.received if isinstance(one.body, Status) else one.body.time
    assert isinstance(found, datetime)
    return found
