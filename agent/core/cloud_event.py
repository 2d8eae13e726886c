"""What happened, as an event that goes out: CloudEvents 1.0, and what every message begins with."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Field

from agent.core.clock import ClockQuality, utc
from agent.core.fields import Clock, Device, Machine, Time
from agent.core.schema import Strict

Message: TypeAlias = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Stamp:
    """What every message about a machine begins with.

    Attributes:
        device: This device's name.
        machine: The machine.
        time: Now, seconds since the epoch.
        clock: Whether its times can be believed; unless somebody vouches for them, they cannot.
    """

    device: str
    machine: str
    time: float
    clock: ClockQuality = ClockQuality.UNSYNCHRONISED


def encode(message: Message) -> bytes:
    """A message as UTF-8 JSON on one line.

    Raises:
        ValueError: It holds NaN or infinity, which are not JSON.
    """
    text = json.dumps(message, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.encode()


class Happened(Strict):
    """What the data of an event begins with."""

    device: Device
    machine: Machine
    time: Annotated[Time, Field(description="When it happened")]
    clock: Clock


class CloudEventBase(Strict):
    """What every CloudEvent has (CloudEvents 1.0, JSON format).

    A subclass says what `type` and `data` are.
    """

    specversion: Annotated[Literal["1.0"], Field(description="Version of CloudEvents")]
    id: Annotated[
        str, Field(min_length=1, description="Id of the event, the same if it is delivered twice")
    ]
    source: Annotated[str, Field(min_length=1, description="The device: `/auscult/<device>`")]
    subject: Annotated[str, Field(min_length=1, description="The machine")]
    time: Annotated[Time, Field(description="When it happened")]
    datacontenttype: Annotated[Literal["application/json"], Field(description="Format of `data`")]
    sequence: Annotated[
        str | None,
        Field(
            pattern=r"^[0-9]{12}$",
            description="Counts the device's events up, as MQTT delivers them: a number that is "
            "missing was lost or damaged (extension `sequence` of CloudEvents); null elsewhere",
        ),
    ]
    shortened: Annotated[
        Literal["true"] | None,
        Field(
            description="Of an event that the broker would not have in full: `data` has only what "
            "matters most; else null"
        ),
    ]


def enveloped(
    envelope: type[CloudEventBase], stamp: Stamp, event_id: str, kind: str, wall: float, **data: Any
) -> Message:
    """What happened, as the CloudEvent that tells it (CloudEvents 1.0, JSON format).

    Args:
        envelope: Its model.
        stamp: Device and machine.
        event_id: The same however often it is delivered.
        kind: Its type, such as `auscult.alarm.raised`.
        wall: When it happened, seconds since the epoch.
        data: What happened, beside what every event begins with.
    """
    event = envelope.model_validate(
        {
            "specversion": "1.0",
            "id": event_id,
            "source": f"/auscult/{stamp.device}",
            "type": kind,
            "subject": stamp.machine,
            "time": utc(wall),
            "datacontenttype": "application/json",
            "sequence": None,  # the outbox numbers what it sends
            "shortened": None,
            "data": {
                **data,
                "device": stamp.device,
                "machine": stamp.machine,
                "time": utc(wall),
                "clock": stamp.clock,
            },
        }
    )
    return event.model_dump(mode="json")
