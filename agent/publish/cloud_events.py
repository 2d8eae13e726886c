"""The payloads of `event`, field by field: what happened to an alarm, to drift, to a bundle."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from agent.core.cloud_event import CloudEventBase, Happened
from agent.core.fields import Count, PValue, Time
from agent.core.reasons import Explanation
from agent.core.records import EventKind, Level
from agent.publish.payloads import Standing


class AlarmEventData(Happened, Standing):
    """What happened to the alarm, how it stands afterwards, and the window it was heard in."""

    event: Annotated[EventKind, Field(description="What happened")]
    previous: Annotated[Level, Field(description="Level before it")]
    window: Annotated[
        Count | None, Field(description="Index of the latest window; null when there is none yet")
    ]
    start: Annotated[Time | None, Field(description="Its start; null when there is none")]
    seconds: Annotated[
        float | None, Field(gt=0, description="Its length, seconds; null when there is none")
    ]
    origin: Annotated[str, Field(description="File or microphone it was heard from")]
    p_value: PValue
    operator: Annotated[str, Field(description="Who asked for it; empty when nobody did")]
    note: Annotated[str, Field(description="What they said to it")]
    evidence: Annotated[
        str,
        Field(
            description="Where the sound of the alarm is kept, from the event that raises it to "
            "the one that ends it; empty when it isn't (an alert)"
        ),
    ]
    explanation: Annotated[
        Explanation | None,
        Field(
            description="Why, of an event that raises an alert or alarm or tells of a change of "
            "level; null when not known"
        ),
    ]


class CloudEvent(CloudEventBase):
    """Something that happened to an alarm, as a CloudEvent (CloudEvents 1.0, JSON format)."""

    type: Annotated[
        str, Field(pattern=r"^auscult\.alarm\.[a-z_]+$", description="`auscult.alarm.<event>`")
    ]
    data: Annotated[AlarmEventData, Field(description="What happened")]


class ProbeEventData(Happened):
    """A message that shows that events arrive."""

    time: Annotated[Time, Field(description="When it was sent")]


class ProbeCloudEvent(CloudEventBase):
    """A test event: shows that events arrive where a broker cannot refuse them (MQTT 3.1.1).

    Sent at the start and once a day. It comes back to the agent, which so knows that alarms would
    arrive; nothing has happened to the machine.
    """

    type: Annotated[
        Literal["auscult.delivery.probe"], Field(description="Always `auscult.delivery.probe`")
    ]
    data: Annotated[ProbeEventData, Field(description="Whose way it proves")]
