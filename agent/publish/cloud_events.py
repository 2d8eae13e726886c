"""The payloads of `event`, field by field: what happened to an alarm, to drift, to a bundle."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from agent.bundle.events import BundleEventKind
from agent.core.records import EventKind, Level
from agent.core.schema import Strict
from agent.drift.events import DriftEventKind
from agent.publish.fields import Clock, Count, Device, Machine, Time
from agent.publish.payloads import Drifted, Standing, UnusualBand


class NearHealthy(Strict):
    """A healthy window that it was compared with."""

    source: Annotated[str, Field(description="Recording it was cut from")]
    start: Annotated[
        float | None, Field(description="Where in that recording, seconds; null when not known")
    ]
    distance: Annotated[
        float, Field(description="Of the embeddings: (1 - cos) / 2, or L2, as the scorer measures")
    ]
    domain: Annotated[str, Field(description="Its domain: source, target or unknown")]
    attributes: Annotated[
        dict[str, str], Field(description="Operating conditions it was recorded under")
    ]


class UnusualRegion(Strict):
    """When and where the window is unusual."""

    start: Annotated[float, Field(ge=0, description="In the window, seconds")]
    end: Annotated[float, Field(ge=0, description="Likewise")]
    low_hz: Annotated[float, Field(ge=0, description="Its lowest frequency, Hz")]
    high_hz: Annotated[float, Field(ge=0, description="Its highest, Hz")]
    deviations: Annotated[
        float, Field(description="Of its strangest place, in healthy standard deviations")
    ]


class Explanation(Strict):
    """Why a window was judged anomalous."""

    text: Annotated[str, Field(description="In a sentence")]
    bands: Annotated[
        list[UnusualBand], Field(description="What is unusual, the most unusual first")
    ]
    nearest: Annotated[
        list[NearHealthy], Field(description="The nearest healthy windows, the nearest first")
    ]
    regions: Annotated[
        list[UnusualRegion],
        Field(
            description="When and where it is unusual, the strangest first, three at most: to the "
            "encoder itself where it has patches, else by levels"
        ),
    ]


class AlarmEventData(Standing):
    """What happened to the alarm, how it stands afterwards, and the window it was heard in."""

    device: Device
    machine: Machine
    time: Annotated[Time, Field(description="When it happened")]
    clock: Clock
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
    p_value: Annotated[
        float | None,
        Field(
            gt=0,
            le=1,
            description="How likely a healthy window is to score as high; null unless the bundle's "
            "threshold is conformal",
        ),
    ]
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


class CloudEventBase(Strict):
    """What every CloudEvent has (CloudEvents 1.0, JSON format)."""

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


class CloudEvent(CloudEventBase):
    """Something that happened to an alarm, as a CloudEvent (CloudEvents 1.0, JSON format)."""

    type: Annotated[
        str, Field(pattern=r"^auscult\.alarm\.[a-z_]+$", description="`auscult.alarm.<event>`")
    ]
    data: Annotated[AlarmEventData, Field(description="What happened")]


class DriftEventData(Drifted):
    """What happened to a drift warning, and how the drift stands afterwards."""

    clock: Clock
    event: Annotated[DriftEventKind, Field(description="What happened")]
    warning_id: Annotated[
        str, Field(min_length=1, description="The warning, common to all its events")
    ]
    operator: Annotated[str, Field(description="Who asked for it; empty when nobody did")]
    note: Annotated[str, Field(description="What they said to it, or why it happened")]


class DriftCloudEvent(CloudEventBase):
    """Something that happened to a drift warning, on the topic of the alarms' events."""

    type: Annotated[
        str, Field(pattern=r"^auscult\.drift\.[a-z]+$", description="`auscult.drift.<event>`")
    ]
    data: Annotated[DriftEventData, Field(description="What happened")]


class BundleEventData(Strict):
    """What happened to the bundle that a machine is judged with."""

    device: Device
    machine: Machine
    time: Annotated[Time, Field(description="When it happened")]
    clock: Clock
    event: Annotated[BundleEventKind, Field(description="What happened")]
    reason: Annotated[str, Field(description="Who asked for it, or what failed")]
    old_digest: Annotated[
        str,
        Field(
            description="`manifest_sha256` of the bundle used before; of a refusal, of the one "
            "still in use; empty when there was none"
        ),
    ]
    new_digest: Annotated[
        str | None,
        Field(
            description="Of the one used from now on; of a refusal, of the one refused, null when "
            "that could not be read"
        ),
    ]
    bundle: Annotated[
        str, Field(description="Folder of the bundle in use from now on; empty without any")
    ]
    rows: Annotated[Count, Field(description="Rows of its memory bank")]
    version: Annotated[Count, Field(description="Version of that bank; 0 as exported")]
    threshold: Annotated[
        float | None,
        Field(description="Its threshold, in units of the score; null without a bundle"),
    ]


class BundleCloudEvent(CloudEventBase):
    """A bundle was exchanged, put back or refused; on the topic of the alarms' events."""

    type: Annotated[
        str, Field(pattern=r"^auscult\.bundle\.[a-z_]+$", description="`auscult.bundle.<event>`")
    ]
    data: Annotated[BundleEventData, Field(description="What happened")]


class ProbeEventData(Strict):
    """A message that shows that events arrive."""

    device: Device
    machine: Machine
    time: Annotated[Time, Field(description="When it was sent")]
    clock: Clock


class ProbeCloudEvent(CloudEventBase):
    """A test event: shows that events arrive where a broker cannot refuse them (MQTT 3.1.1).

    Sent at the start and once a day. It comes back to the agent, which so knows that alarms would
    arrive; nothing has happened to the machine.
    """

    type: Annotated[
        Literal["auscult.delivery.probe"], Field(description="Always `auscult.delivery.probe`")
    ]
    data: Annotated[ProbeEventData, Field(description="Whose way it proves")]
