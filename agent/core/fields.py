"""Fields that many payloads have, described once."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from agent.core.clock import ClockQuality
from agent.core.scale import Zone
from agent.core.schema import spelt

#: Pattern of a time of day.
TIME_OF_DAY = spelt(r"^([01]\d|2[0-3]):[0-5]\d$", "a time of day as HH:MM, from 00:00 to 23:59")

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

PValue = Annotated[
    float | None,
    Field(
        gt=0,
        le=1,
        description="How likely a healthy window is to score as high; null unless the bundle's "
        "threshold is conformal",
    ),
]

Limit = Annotated[float, Field(description="A score above this is anomalous: always 1.0")]

RawThreshold = Annotated[float, Field(description="The threshold in force, for `raw_score`")]
