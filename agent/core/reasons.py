"""Why there is an alarm: what stands out from healthy sound, how often, and what else was so."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Annotated, Any

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from agent.core.scale import Zone


def _without_defaults(schema: dict[str, Any]) -> None:
    """What is published leaves nothing out: a default is of no interest there."""
    for found in schema["properties"].values():
        found.pop("default", None)


# These go out with events as they are: a field that nobody knows is an error.
_STRICT = ConfigDict(
    extra="forbid",
    json_schema_serialization_defaults_required=True,
    json_schema_extra=_without_defaults,
)


@dataclass(frozen=True, slots=True, config=_STRICT)
class UnusualBand:
    """A range of frequencies that does not sound as it should."""

    low_hz: Annotated[float, Field(ge=0, description="Where it begins, Hz")]
    high_hz: Annotated[float, Field(ge=0, description="Where it ends, Hz")]
    decibels: Annotated[
        float, Field(description="How much louder than healthy sound, dB; negative when quieter")
    ]


@dataclass(frozen=True, slots=True, config=_STRICT)
class NearHealthy:
    """A healthy window that it was compared with."""

    source: Annotated[str, Field(description="Recording it was cut from")]
    start: Annotated[
        float | None, Field(description="Where in that recording, seconds; null when not known")
    ]
    distance: Annotated[
        float, Field(description="Of the embeddings: (1 - cos) / 2, or L2, as the scorer measures")
    ]
    domain: Annotated[str, Field(description="Its domain: source, target or unknown")] = "unknown"
    attributes: Annotated[
        Mapping[str, str], Field(description="Operating conditions it was recorded under")
    ] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, config=_STRICT)
class UnusualRegion:
    """When and where the window is unusual."""

    start: Annotated[float, Field(ge=0, description="In the window, seconds")]
    end: Annotated[float, Field(ge=0, description="Likewise")]
    low_hz: Annotated[float, Field(ge=0, description="Its lowest frequency, Hz")]
    high_hz: Annotated[float, Field(ge=0, description="Its highest, Hz")]
    deviations: Annotated[
        float, Field(description="Of its strangest place, in healthy standard deviations")
    ]


@dataclass(frozen=True, slots=True, config=_STRICT)
class Explanation:
    """Why a window was judged anomalous."""

    text: Annotated[str, Field(description="In a sentence")]
    bands: Annotated[
        tuple[UnusualBand, ...], Field(description="What is unusual, the most unusual first")
    ] = ()
    nearest: Annotated[
        tuple[NearHealthy, ...],
        Field(description="The nearest healthy windows, the nearest first"),
    ] = ()
    regions: Annotated[
        tuple[UnusualRegion, ...],
        Field(
            description="When and where it is unusual, the strangest first, three at most: to the "
            "encoder itself where it has patches, else by levels"
        ),
    ] = ()


@dataclass(frozen=True, slots=True, config=_STRICT)
class Circumstance:
    """Something else that was so at that time: not the reason, but worth knowing."""

    kind: Annotated[
        str,
        Field(
            description="What: `lasting` (weak, but for long), `started` (the machine), `idle`, "
            "`short_runs`, `agent_started`, "
            "`not_judged`, `maintenance`, `level`, `broker_away`, and kinds that later versions add"
        ),
    ]
    text: Annotated[str, Field(description="In words")]
    seconds: Annotated[
        float | None, Field(description="For how long or how long ago, seconds; null where unknown")
    ] = None


@dataclass(frozen=True, slots=True, config=_STRICT)
class Reason:
    """What an alarm is about, as it was told last.

    Attributes:
        zone: Severity zone; None when not known.
        bands: What stands out, the most unusual first.
        count: How many times the machine left normal in this series of alarms, this time included.
        since_wall: When the first of them did, seconds since the epoch.
        new: Which of it had not been told before, in words.
        context: What else was so.
    """

    zone: Zone | None = None
    bands: tuple[UnusualBand, ...] = ()
    count: int = 1
    since_wall: float = 0.0
    new: tuple[str, ...] = ()
    context: tuple[Circumstance, ...] = ()


def hertz(band: UnusualBand) -> str:
    """A range of frequencies for a person: `340-410 Hz`, `2.1-2.6 kHz`."""
    if band.high_hz < 1000.0:
        return f"{band.low_hz:.0f}-{band.high_hz:.0f} Hz"
    return f"{band.low_hz / 1000.0:.1f}-{band.high_hz / 1000.0:.1f} kHz"


def band_words(band: UnusualBand) -> str:
    """A band for people: `2.1-2.6 kHz +14 dB`."""
    return f"{hertz(band)} {band.decibels:+.0f} dB"
