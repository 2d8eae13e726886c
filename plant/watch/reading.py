"""Reads what devices publish: the fields that the plant works with, whatever version wrote them.

An agent's own schemas refuse unknown fields; here those of a newer agent are let pass, and what an
older one does not say yet is taken as unknown. Every field has its name and meaning from
docs/reference/mqtt.md, and the message itself is kept as it came.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import (
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    FiniteFloat,
    StringConstraints,
    ValidationError,
)

from agent.core.schema import explain

#: PostgreSQL's text has no NUL.
Text: TypeAlias = Annotated[str, StringConstraints(pattern=r"^[^\x00]*$")]
Name: TypeAlias = Annotated[str, StringConstraints(pattern=r"^[^\x00/+#]{1,200}$")]


class _Lenient(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)

    device: Name


class _OfMachine(_Lenient):
    machine: Name
    time: AwareDatetime


class Status(_Lenient):
    """Whether an agent runs; of a last will without a time."""

    status: Literal["online", "offline"]
    reason: Text = ""
    version: Text = ""
    machines: list[Name] = []


class Told(_Lenient):
    """What a device says of itself, kept whole: `info`."""

    time: AwareDatetime


class _Outbox(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)

    acknowledged: Annotated[int, Field(ge=0, lt=2**62)] | None = None


class Health(Told):
    """How a device is, kept whole, and up to which number its events were acknowledged."""

    outbox: _Outbox | None = None


class _Reason(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)

    text: Text


class Alarm(_OfMachine):
    """How a machine's alarm stands."""

    level: Text
    since: AwareDatetime | None = None
    alarm_id: Text | None = None
    acknowledged: bool = True
    latched: bool = False
    shelving: Text = "unshelved"
    shelved_until: AwareDatetime | None = None
    muted_until: AwareDatetime | None = None
    reason: _Reason | None = None
    score: FiniteFloat | None = None
    zone: Text | None = None


class Sensor(_OfMachine):
    """The condition of a machine's microphone."""

    status: Text
    reason: Text = ""


class Drift(_OfMachine):
    """Whether a drift warning stands."""

    active: bool


class Score(_OfMachine):
    """One window."""

    score: FiniteFloat | None
    raw_threshold: FiniteFloat | None = None
    exceeded: bool = False


class EventData(_OfMachine):
    """What happened, as far as every event says it."""

    event: Text = ""
    level: Text | None = None
    alarm_id: Text | None = None
    operator: Text = ""


class Event(BaseModel):
    """A CloudEvent about an alarm, drift, a bundle, or whatever a newer agent tells of."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    id: Annotated[str, StringConstraints(pattern=r"^[^\x00]{1,200}$")]
    type: Annotated[str, StringConstraints(pattern=r"^auscult\.[a-z_]+\.[a-z_]+$")]
    sequence: Annotated[str, StringConstraints(pattern=r"^[0-9]{12}$")] | None = None
    data: EventData

    @property
    def area(self) -> str:
        """`alarm`, `drift`, `bundle`, `delivery`..."""
        return self.type.split(".")[1]


class Response(_Lenient):
    """A device's answer to a command."""

    time: AwareDatetime
    transaction: Text | None
    status: Literal["ok", "error"]
    error: Text | None = None


Body: TypeAlias = Status | Told | Health | Alarm | Sensor | Drift | Score | Event | Response
_OF_DEVICE: dict[str, type[BaseModel]] = {"status": Status, "info": Told, "health": Health}
_OF_MACHINE: dict[str, type[BaseModel]] = {
    "alarm": Alarm, "sensor": Sensor, "drift": Drift, "score": Score, "event": Event,
}  # fmt: skip
#: Topics that the broker retains: what is asked for once at each connection.
RETAINED = ("+/status", "+/info", "+/health", "+/+/alarm", "+/+/sensor", "+/+/drift")
EVENTS = "+/+/event"
TOPICS = (*RETAINED, EVENTS, "+/+/score", "+/response/+")


@dataclass(frozen=True, slots=True)
class Taken:
    """One message, read.

    Attributes:
        device: From the topic.
        machine: From the topic; empty of what is the device's own.
        topic: What it is: `alarm`, `event`, `response`...
        received: When this server got it.
        payload: JSON as it came; empty where a retained message was removed.
        body: The fields read; None where it was removed.
        retained: It is what the broker had kept, the present truth of its topic.
    """

    device: str
    machine: str
    topic: str
    received: datetime
    payload: str
    body: Any
    retained: bool = False


@dataclass(frozen=True, slots=True)
class Refused:
    """A message that cannot be what it should be; kept to be looked at.

    Attributes:
        topic: Where it came.
        reason: Why it is refused.
        payload: As it came.
        received: When.
    """

    topic: str
    reason: str
    payload: bytes
    received: datetime


def read(
    prefix: str, topic: str, payload: bytes, received: datetime, *, retained: bool = False
) -> Taken | Refused:
    """Read a message.

    Args:
        prefix: First levels of the topic, as the devices' `mqtt.prefix`.
        topic: Where it came.
        payload: JSON; empty when a retained message was removed.
        received: When.
        retained: Whether the broker had kept it.
    """
    levels = topic[len(prefix) + 1 :].split("/")
    device, machine, name = levels[0], "", levels[-1]
    model: type[BaseModel] | None
    if len(levels) == 2:
        model = _OF_DEVICE.get(name)
    elif levels[1] == "response":
        model, name = Response, "response"
    else:
        machine, model = levels[1], _OF_MACHINE.get(name)
    if model is None:
        return Refused(topic, "no topic of an agent", payload, received)
    if not payload:
        return Taken(device, machine, name, received, "", None, retained)
    try:
        body = model.model_validate_json(payload)
    except ValidationError as fault:
        return Refused(topic, explain(fault, whole="the message"), payload, received)
    about = body.data if isinstance(body, Event) else body
    if about.device != device or getattr(about, "machine", machine) != machine:  # type: ignore[attr-defined]
        return Refused(topic, "it speaks of another device or machine", payload, received)
    return Taken(device, machine, name, received, payload.decode(), body, retained)
