"""Payloads about the agent itself, field by field: `status`, `info`, `health`.

Those of a machine are in `agent.publish.payloads`.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from agent.core.fields import Clock, Count, Device, Time
from agent.core.recognition import Recognition
from agent.core.records import Validity
from agent.core.schema import Strict
from agent.monitor.observed import OutboxHealth


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
    microphone: Annotated[
        str,
        Field(
            description="What is taken off its bands beside that, and which are left out of "
            "scores, in words: another microphone than in training; empty of a level alone"
        ),
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
    judged: Annotated[
        Count,
        Field(
            description="Those that were judged: valid, of the running machine, not held back by "
            "a sound from elsewhere, and not while it is muted"
        ),
    ] = 0
    recognition: Annotated[
        Recognition | None,
        Field(description="Whether the bundle recognises the machine; null without a bundle"),
    ] = None
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


class Health(Strict):
    """How the agent is."""

    device: Device
    time: Annotated[Time, Field(description="When this was told")]
    clock: Clock
    uptime_seconds: Annotated[float, Field(ge=0, description="Since the agent's start, seconds")]
    reconnects: Annotated[Count, Field(description="Connections to the broker after the first")]
    outbox: Annotated[OutboxHealth, Field(description="How delivery goes")]
    machines: Annotated[dict[str, MachineHealth], Field(description="By machine, its counts")]
