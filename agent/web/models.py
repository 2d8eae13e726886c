"""What the page's API answers beside the payloads of MQTT, field by field."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from agent.core.fields import Clock, Count, Device, Time
from agent.core.schema import Strict
from agent.drift.events import Drift
from agent.monitor.observed import OutboxHealth
from agent.publish.device_payloads import LevelHandling, MachineHealth
from agent.publish.payloads import Alarm, Score, Sensor


class Problem(Strict):
    """Why a request was not answered."""

    error: Annotated[str, Field(description="Why, and what to do")]


class Session(Strict):
    """Whether this browser may come in."""

    device: Device
    version: Annotated[str, Field(description="Version of auscult")]
    password: Annotated[bool, Field(description="Whether a password is asked for")]
    open: Annotated[bool, Field(description="Whether this browser has given it, or needs not")]
    role: Annotated[
        Literal["anyone", "viewer", "operator", "admin"],
        Field(
            description="What it may do: a viewer reads, an operator works with alarms, an admin "
            "changes what judges; `anyone` has to log in first"
        ),
    ]


class Login(Strict):
    """A password."""

    password: Annotated[str, Field(min_length=1, max_length=500, description="The page's")]


class MachineNow(Strict):
    """The latest messages of a machine, as on MQTT; null before the first."""

    score: Score | None = None
    alarm: Alarm | None = None
    sensor: Sensor | None = None
    drift: Drift | None = None


class Told(Strict):
    """A message."""

    number: Annotated[Count, Field(description="Counts all messages since the agent's start")]
    kind: Annotated[
        Literal["score", "alarm", "event", "sensor", "drift"],
        Field(description="The topic's last level"),
    ]
    machine: Annotated[str, Field(description="The machine")]
    message: Annotated[dict[str, Any], Field(description="The payload, as on MQTT")]


class State(Strict):
    """How everything stands."""

    number: Annotated[Count, Field(description="Of the latest message: follow the stream from it")]
    machines: Annotated[dict[str, MachineNow], Field(description="By machine")]
    events: Annotated[list[Told], Field(description="The recent events, in order")]


class PageHealth(Strict):
    """How the agent is: `health` of MQTT, for a device with or without a broker."""

    device: Device
    time: Annotated[Time, Field(description="When this was told")]
    clock: Clock
    uptime_seconds: Annotated[float, Field(ge=0, description="Since the agent's start, seconds")]
    broker: Annotated[
        str | None, Field(description="`host:port` of the broker; null when none is configured")
    ]
    connected: Annotated[
        bool | None, Field(description="Whether it is there; null when none is configured")
    ]
    reconnects: Annotated[Count, Field(description="Connections to the broker after the first")]
    outbox: Annotated[
        OutboxHealth | None, Field(description="How delivery goes; null without a broker")
    ]
    machines: Annotated[dict[str, MachineHealth], Field(description="By machine, its counts")]
    promises: Annotated[
        dict[str, list[str]],
        Field(description="By machine, what is promised of false alarms and what that costs"),
    ]
    blind: Annotated[
        dict[str, str],
        Field(description="Machines whose threshold no known fault exceeds: what to do"),
    ]
    levels: Annotated[
        dict[str, LevelHandling],
        Field(description="By machine that is judged, what its level counts for"),
    ]
    remarks: Annotated[str, Field(description="What the agent warns of now; else empty")]


class HistoryQuery(Strict):
    """Which stretch of the past."""

    range: Annotated[Literal["hour", "day", "month", "year"], Field(description="Its length")] = (
        "hour"
    )
    end: Annotated[
        float | None,
        Field(ge=0, le=1e11, description="Its end, seconds since the epoch; left out, now"),
    ] = None


class History(Strict):
    """A stretch of a machine's past, in points of equal length; lists of one length."""

    machine: Annotated[str, Field(description="The machine")]
    begin: Annotated[int, Field(description="From, seconds since the epoch")]
    end: Annotated[int, Field(description="Up to, seconds since the epoch")]
    step: Annotated[int, Field(gt=0, description="Length of a point, seconds")]
    time: Annotated[list[int], Field(description="Starts, seconds since the epoch, in order")]
    least: Annotated[
        list[float | None],
        Field(description="Least score: 0 healthy median, 1.0 the threshold; null when none"),
    ]
    mean: Annotated[list[float | None], Field(description="Mean score; null when none")]
    most: Annotated[list[float | None], Field(description="Largest score; null when none")]
    threshold: Annotated[list[float | None], Field(description="A score above was anomalous: 1.0")]
    exceeded: Annotated[list[int], Field(description="Windows above it")]
    drift: Annotated[list[float | None], Field(description="Largest drift distance, nats")]
    drift_threshold: Annotated[
        list[float | None], Field(description="A distance above this counts as drift, nats")
    ]
    level: Annotated[
        list[Literal["normal", "alert", "alarm"]], Field(description="Highest alarm level")
    ]
    state: Annotated[
        list[Literal["running", "idle", "unknown"]], Field(description="What it mostly did")
    ]
    invalid: Annotated[
        list[str], Field(description="Why windows could not be judged; empty when all could")
    ]
    estimated: Annotated[
        list[bool],
        Field(
            description="Kept raw by an earlier version: put on the scale by the median of what "
            "was heard below the threshold then"
        ),
    ]
