"""Every payload the agent publishes, field by field: the one truth for code, schemas and docs.

Those of `event` are in `agent.publish.cloud_events`.

`make docs` writes docs/reference/schemas/ and the tables of docs/reference/mqtt.md from here.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from agent.core.clock import ClockQuality
from agent.core.records import Level, MachineState, Shelving, Validity
from agent.core.scale import Zone
from agent.core.schema import Strict
from agent.window.condition import ConditionStatus

_TIME = r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{3}Z$"

Time = Annotated[str, Field(pattern=_TIME)]
Device = Annotated[str, Field(description="This device")]
Machine = Annotated[str, Field(description="The machine")]
Count = Annotated[int, Field(ge=0)]
Clock = Annotated[
    ClockQuality,
    Field(
        description="Whether this device's clock can be believed: `jumped` for ten minutes after "
        "it was stepped"
    ),
]

OfZone = Annotated[
    Zone | None,
    Field(
        description="Severity zone, after ISO 20816-1: A, B below the threshold; C, D above "
        "(docs/notes/thresholds.md); null without a score"
    ),
]
RawScore = Annotated[
    float | None,
    Field(description="The score as the bundle's scorer gave it, on an axis of that bundle's own"),
]
Limit = Annotated[float, Field(description="A score above this is anomalous: always 1.0")]
RawThreshold = Annotated[float, Field(description="The threshold in force, for `raw_score`")]


class Status(Strict):
    """Whether the agent runs."""

    device: Device
    status: Annotated[Literal["online", "offline"], Field(description="Whether it runs")]
    time: Annotated[
        Time | None,
        Field(
            description="When; null in the last will, which the broker publishes when the "
            "connection is lost"
        ),
    ]
    reason: Annotated[
        Literal["", "stopped", "connection lost"],
        Field(description="Why it is offline; empty when online"),
    ]
    machines: Annotated[list[str], Field(description="The machines it listens to")]
    unjudged: Annotated[
        list[str], Field(description="Those of them that have no bundle yet, and are not judged")
    ]
    version: Annotated[str, Field(description="Version of auscult")]


class LevelBaselineInfo(Strict):
    """What an operator said of a microphone's level."""

    decibels: Annotated[
        float, Field(description="Taken off whatever is heard before it is judged, dB")
    ]
    operator: Annotated[str, Field(description="Who said that the microphone was moved")]
    comment: Annotated[str, Field(description="What else they said")]
    time: Annotated[Time, Field(description="When")]


class LevelHandling(Strict):
    """What a machine's level counts for."""

    mode: Annotated[Literal["judge", "ignore"], Field(description="`level` of its configuration")]
    note: Annotated[
        str, Field(description="Why level is not judged so, by this bundle; empty when it is")
    ]
    baseline: Annotated[
        LevelBaselineInfo | None,
        Field(description="The operator's answer that holds; null when nothing is taken off"),
    ]


class BundleInfo(Strict):
    """The bundle a machine is judged with."""

    bundle: Annotated[str, Field(description="Name of its folder")]
    manifest_sha256: Annotated[str, Field(description="SHA-256 over its manifest: its identity")]
    created: Annotated[str, Field(description="When it was exported, ISO 8601 UTC")]
    auscult_version: Annotated[str, Field(description="auscult that exported it")]
    trained_on: Annotated[str, Field(description="Machine it was trained on")]
    preset: Annotated[str, Field(description="Preset it was trained with")]
    encoder: Annotated[str, Field(description="Encoder family")]
    precision: Annotated[str, Field(description="Arithmetic of the encoder: int8 or float32")]
    sample_rate: Annotated[int, Field(gt=0, description="Rate of the sound it takes, Hz")]
    window_seconds: Annotated[float, Field(gt=0, description="Length of a window, seconds")]
    rows: Annotated[int, Field(ge=0, description="Rows of its memory bank")]
    threshold: Annotated[
        float, Field(description="Its own threshold, raw: on the scale of `raw_score`")
    ]
    caveat: Annotated[str, Field(description="Why not to rely on that threshold; else empty")]
    promise: Annotated[
        list[str],
        Field(
            description="What is promised of false alarms by the threshold in force, and what that "
            "costs, in words: which faults pass; empty where it isn't known"
        ),
    ]
    blind: Annotated[
        str,
        Field(
            description="What to do where that threshold lies beyond every known fault; else empty"
        ),
    ]
    level: Annotated[LevelHandling, Field(description="What the machine's level counts for")]


class Info(Strict):
    """What the agent is made of."""

    device: Device
    time: Annotated[Time, Field(description="When this was told")]
    version: Annotated[str, Field(description="Version of auscult")]
    python: Annotated[str, Field(description="Version of Python")]
    platform: Annotated[str, Field(description="Operating system and processor")]
    machines: Annotated[
        dict[str, BundleInfo | None],
        Field(description="By machine, its bundle; null while there is none yet"),
    ]
    commands: Annotated[list[str], Field(description="Commands that `request/` takes")]


class MonthOfAlarms(Strict):
    """What became of a machine's alarms in a month, as far as their evidence is kept."""

    month: Annotated[str, Field(description="`2026-11`, UTC")]
    alarms: Annotated[Count, Field(description="Raised")]
    healthy: Annotated[Count, Field(description="Of them, answered healthy: false ones")]
    unanswered: Annotated[Count, Field(description="Nobody has said what they were")]


class MachineHealth(Strict):
    """How the listening to one machine goes; counts since the agent's start."""

    windows: Annotated[
        Count,
        Field(description="Windows that reached a decision, or were heard without a bundle"),
    ]
    invalid: Annotated[
        dict[str, Count], Field(description="Those that could not be judged, by `validity`")
    ]
    exceeded: Annotated[Count, Field(description="Those above the threshold")]
    raised: Annotated[Count, Field(description="Alarms raised")]
    dropped: Annotated[Count, Field(description="Windows dropped: scoring could not keep up")]
    unjudged: Annotated[
        Count, Field(description="Windows fit to be judged, heard while there is no bundle yet")
    ]
    missing: Annotated[
        list[Literal["microphone", "bundle"]],
        Field(description="What it lacks to judge the machine; empty when it does judge"),
    ]
    remarks: Annotated[
        list[str],
        Field(
            description="What people should know: that and why no window was judged for an hour of "
            "sound, or that the plant no longer says whether it runs"
        ),
    ] = []
    months: Annotated[
        list[MonthOfAlarms],
        Field(
            description="What happened beside the promise (`promise` in `info`): alarms by month, "
            "and what people answered; the latest first, twelve at most"
        ),
    ]
    validity: Annotated[
        Validity | None, Field(description="Of the latest window; null before the first")
    ]
    reason: Annotated[
        str, Field(description="Why that one could not be judged; empty when it could")
    ]
    faults: Annotated[dict[str, Count], Field(description="Troubles of the source, by name")]
    last_window: Annotated[
        Time | None, Field(description="When the latest window was decided on; null before it")
    ]
    inference_seconds: Annotated[float, Field(ge=0, description="Time the encoder took, seconds")]


class OutboxHealth(Strict):
    """How delivery goes; counts since the agent's start."""

    undelivered: Annotated[Count, Field(description="Alarm events the broker has yet to take")]
    unsaved: Annotated[
        Count, Field(description="Those of them in memory alone, as the disk refuses them")
    ]
    disk_failures: Annotated[Count, Field(description="Times the disk refused")]
    damaged_files: Annotated[Count, Field(description="Damaged outbox files set aside")]
    damaged_events: Annotated[
        Count, Field(description="Events that the disk altered: put aside, never sent")
    ]
    vanished_events: Annotated[
        Count,
        Field(
            description="Events, delivered or not, that the outbox had lost when the agent "
            "started: its file or write-ahead log was deleted, emptied or put back"
        ),
    ]
    dropped_telemetry: Annotated[
        Count, Field(description="Scores dropped while the broker was away")
    ]
    refused: Annotated[Count, Field(description="Messages the broker refused")]


class Health(Strict):
    """How the agent is."""

    device: Device
    time: Annotated[Time, Field(description="When this was told")]
    clock: Clock
    uptime_seconds: Annotated[float, Field(ge=0, description="Since the agent's start, seconds")]
    reconnects: Annotated[Count, Field(description="Connections to the broker after the first")]
    outbox: Annotated[OutboxHealth, Field(description="How delivery goes")]
    machines: Annotated[dict[str, MachineHealth], Field(description="By machine, its counts")]


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
    p_value: Annotated[
        float | None,
        Field(
            gt=0,
            le=1,
            description="How likely a healthy window is to score as high; null unless the bundle's "
            "threshold is conformal",
        ),
    ]
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


class UnusualBand(Strict):
    """A range of frequencies that does not sound as it should."""

    low_hz: Annotated[float, Field(ge=0, description="Where it begins, Hz")]
    high_hz: Annotated[float, Field(ge=0, description="Where it ends, Hz")]
    decibels: Annotated[
        float, Field(description="How much louder than healthy sound, dB; negative when quieter")
    ]


class Circumstance(Strict):
    """Something else that was so at that time: not the reason, but worth knowing."""

    kind: Annotated[
        str,
        Field(
            description="What: `started` (the machine did), `idle`, `short_runs`, `agent_started`, "
            "`not_judged`, `maintenance`, `level`, `broker_away`, and kinds that later versions add"
        ),
    ]
    text: Annotated[str, Field(description="In words")]
    seconds: Annotated[
        float | None, Field(description="For how long or how long ago, seconds; null where unknown")
    ]


class Reason(Strict):
    """What the alarm is about, as it was told last."""

    text: Annotated[str, Field(description="All of it in a line, with the context")]
    zone: OfZone
    bands: Annotated[
        list[UnusualBand], Field(description="What stands out, the most unusual first")
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
        list[Circumstance],
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


class Drifted(Strict):
    """How drift stands."""

    device: Device
    machine: Machine
    time: Annotated[Time, Field(description="End of the newest window evaluated")]
    active: Annotated[bool, Field(description="Whether a warning stands")]
    exceeded: Annotated[bool, Field(description="Whether this evaluation was above the threshold")]
    distance: Annotated[
        float, Field(ge=0, description="Distance to the nearest normal state, nats")
    ]
    threshold: Annotated[float, Field(ge=0, description="The distance that counts as drift, nats")]
    reference: Annotated[int, Field(ge=0, description="Nearest normal state; 0 is the baseline")]
    since: Annotated[
        Time | None, Field(description="When the warning was raised; null when none stands")
    ]
    movement: Annotated[
        str, Field(description="What moved, in words; empty unless the threshold was exceeded")
    ]


class Drift(Drifted):
    """Whether the machine's sound has moved away from what it was, slowly or for good."""

    warning_id: Annotated[
        str | None, Field(description="The standing warning; null when none stands")
    ]


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
