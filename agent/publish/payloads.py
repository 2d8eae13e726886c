"""Payloads about a machine, field by field: the one truth for code, schemas and docs.

Those of `event` are in `cloud_events`, those of the agent itself in `device_payloads`.

`make docs` writes docs/reference/schemas/ and the tables of docs/reference/mqtt.md from here.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from agent.core.fields import (
    Clock,
    Count,
    Device,
    Limit,
    Machine,
    OfZone,
    PValue,
    RawScore,
    RawThreshold,
    Time,
)
from agent.core.reasons import Circumstance, UnusualBand
from agent.core.records import Level, MachineState, Shelving, Validity
from agent.core.schema import Strict
from agent.window.condition import ConditionStatus


class _Place(Strict):
    """A window, and where in the sound it lies."""

    device: Device
    machine: Machine
    time: Annotated[Time, Field(description="End of the window: when its last sample was heard")]
    clock: Clock
    window: Annotated[
        Count,
        Field(description="Counts the windows of the stream from 0, since the agent's start"),
    ]
    start: Annotated[Time, Field(description="Start of the window")]
    seconds: Annotated[float, Field(gt=0, description="Length of the window, seconds")]
    origin: Annotated[str, Field(description="File or microphone of its last sample")]


class Score(_Place):
    """One window judged, or why it could not be."""

    validity: Annotated[Validity, Field(description="`valid`, or why the window cannot be judged")]
    reason: Annotated[str, Field(description="The same in words; empty when valid")]
    score: Annotated[
        float | None,
        Field(
            description="Anomaly score: 0 is the median of healthy sound, 1.0 the threshold in "
            "force, whatever the bundle; larger is stranger; null unless valid"
        ),
    ]
    zone: OfZone
    raw_score: RawScore
    p_value: PValue
    threshold: Limit
    raw_threshold: RawThreshold
    alert_threshold: Annotated[
        float | None, Field(description="One above this speaks for an alert; null without alerts")
    ]
    exceeded: Annotated[bool, Field(description="Whether this one is anomalous, and counts")]
    level: Annotated[Level, Field(description="The machine's alarm after this window")]
    state: Annotated[MachineState, Field(description="What the machine does, by its sound")]
    level_change_db: Annotated[
        float | None,
        Field(
            description="Without so many dB more (less where negative) this window would be "
            "healthy: it counts as healthy; null of every other window"
        ),
    ]
    foreign: Annotated[
        list[str],
        Field(
            description="Sounds from elsewhere heard in a window that exceeds: `speech`, `music`, "
            "`vehicle`, `rain`, `tools`, `impulses`, `passing`"
        ),
    ]
    held: Annotated[
        str,
        Field(
            description="Why it counts neither for nor against an alarm though it was judged: a "
            "sound that `ignore` names; empty when it counts"
        ),
    ]
    inference_seconds: Annotated[float, Field(ge=0, description="What encoding it took, seconds")]


class Severity(Strict):
    """The score at the pace of a home's database; with `mqtt.home_assistant.enabled` alone.

    At a change of zone, or of the score by 0.1; else once a minute.
    """

    device: Device
    machine: Machine
    time: Annotated[Time, Field(description="End of the window")]
    score: Annotated[
        float | None,
        Field(description="Score of the window, as in `score`; null when it could not be judged"),
    ]
    zone: OfZone


class Reason(Strict):
    """What the alarm is about, as it was told last."""

    text: Annotated[str, Field(description="All of it in a line, with the context")]
    zone: OfZone
    bands: Annotated[
        tuple[UnusualBand, ...], Field(description="What stands out, the most unusual first")
    ]
    count: Annotated[
        Count,
        Field(
            description="How many times the machine left normal, no longer apart than "
            "`decide.series_seconds`, this time included"
        ),
    ]
    since: Annotated[Time, Field(description="When the first of them was raised")]
    new: Annotated[
        list[str],
        Field(
            description="What of it had not been told before, in words; of the first alarm empty, "
            "as all of it is new"
        ),
    ]


class Standing(Strict):
    """The alarm as it stands."""

    level: Annotated[Level, Field(description="Severity, whether or not it is shelved")]
    since: Annotated[Time, Field(description="When that level began")]
    alarm_id: Annotated[
        str | None,
        Field(
            description="The alarm, from leaving normal to coming back; null when normal, but "
            "of the event that ends it"
        ),
    ]
    acknowledged: Annotated[
        bool,
        Field(
            description="An operator has seen it; true when normal, but of the event that ends it"
        ),
    ]
    latched: Annotated[
        bool,
        Field(description="The machine sounds healthy again; the alarm waits to be acknowledged"),
    ]
    shelving: Annotated[Shelving, Field(description="Whether an operator took it out of view")]
    shelved_until: Annotated[
        Time | None, Field(description="When that ends at the latest; null when unshelved")
    ]
    muted_until: Annotated[
        Time | None,
        Field(description="Until when the machine is being worked on; null when it isn't"),
    ]
    planned: Annotated[
        str,
        Field(description="Planned maintenance that mutes it; empty when none is under way"),
    ]
    reason: Annotated[Reason | None, Field(description="What the alarm is about; null when normal")]
    context: Annotated[
        tuple[Circumstance, ...],
        Field(description="What else was so when it was told last; empty when nothing was"),
    ]
    level_change_db: Annotated[
        float | None,
        Field(
            description="How many dB louder (quieter where negative) than healthy sound the "
            "machine is heard, for a while now and with its shape unchanged: no alarm; of an event "
            "about level the change it tells of; null otherwise"
        ),
    ]
    score: Annotated[
        float | None,
        Field(
            description="Score of the latest window: 0 is the median of healthy sound, 1.0 the "
            "threshold; null when it could not be judged"
        ),
    ]
    zone: OfZone
    raw_score: RawScore
    threshold: Limit
    raw_threshold: RawThreshold


class Alarm(Standing):
    """The machine's alarm as it now stands."""

    device: Device
    machine: Machine
    time: Annotated[Time, Field(description="When this was so")]


class Sensor(Strict):
    """The condition of a machine's microphone, apart from the machine's."""

    device: Device
    machine: Machine
    time: Annotated[Time, Field(description="When this was told")]
    status: Annotated[
        ConditionStatus, Field(description="`good`, or a status signal of NAMUR NE 107")
    ]
    reason: Annotated[str, Field(description="Why, in words; empty when good")]
    since: Annotated[Time, Field(description="Since when")]


class Response(Strict):
    """The answer to a command."""

    device: Device
    time: Annotated[Time, Field(description="When it was answered")]
    command: Annotated[str, Field(description="The command; its topic's last level")]
    transaction: Annotated[
        str | None,
        Field(description="That of the request; null when the request's could not be read"),
    ]
    status: Annotated[Literal["ok", "error"], Field(description="Whether it was carried out")]
    error: Annotated[
        str | None, Field(description="Why not, and what to do; null when it was carried out")
    ]
    result: Annotated[
        dict[str, Any], Field(description="What the command has to say; empty on an error")
    ]
