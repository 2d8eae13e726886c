"""Why there is an alarm: what stands out from healthy sound, how often, and what else was so."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from agent.core.scale import Zone


@dataclass(frozen=True, slots=True)
class UnusualBand:
    """A range of frequencies that does not sound as it should.

    Attributes:
        low_hz: Where it begins.
        high_hz: Where it ends.
        decibels: How much louder it is than healthy sound, dB; negative when quieter.
    """

    low_hz: float
    high_hz: float
    decibels: float


@dataclass(frozen=True, slots=True)
class NearHealthy:
    """A healthy window that an anomalous one was compared with.

    Attributes:
        source: Recording it was cut from.
        start: Where in that recording, seconds; None when it was kept as a vector alone.
        distance: Of the embeddings: (1 - cos) / 2, or L2, as the bundle's scorer measures.
        domain: Its domain.
        attributes: Operating conditions it was recorded under.
    """

    source: str
    start: float | None
    distance: float
    domain: str = "unknown"
    attributes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class UnusualRegion:
    """A place in time and frequency that is unusual.

    Attributes:
        start: In the window, seconds.
        end: Likewise.
        low_hz: Its lowest frequency.
        high_hz: Its highest.
        deviations: Of its strangest cell, in healthy standard deviations.
    """

    start: float
    end: float
    low_hz: float
    high_hz: float
    deviations: float


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a window was judged anomalous.

    Attributes:
        text: In a sentence.
        bands: What is unusual, the most unusual first.
        nearest: The healthy windows that are nearest, the nearest first.
        regions: When and where the window is unusual, the strangest first.
    """

    text: str
    bands: tuple[UnusualBand, ...] = ()
    nearest: tuple[NearHealthy, ...] = ()
    regions: tuple[UnusualRegion, ...] = ()


@dataclass(frozen=True, slots=True)
class Circumstance:
    """Something else that was so while an alarm was raised: not its reason, but worth knowing.

    Attributes:
        kind: What: `started`, `idle`, `broker_away`, `speech`...
        text: In a few words: `started 40 s ago`.
        seconds: For how long, or how long ago, seconds; None where that is not known.
    """

    kind: str
    text: str
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
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
