"""A change of the spectrum that came and went: its bands, from when to when."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Annotated

import numpy as np
from pydantic import Field, FiniteFloat

from agent.core.reasons import UnusualBand, band_words
from agent.core.schema import Strict
from agent.explain.spectrum import Floats, HealthySpectrum
from agent.explain.unusual import bands_between

FEWEST = 3  # windows of which a mean is told

Levels = Annotated[list[FiniteFloat], Field(max_length=1000)]


class _Stretch(Strict):
    windows: Annotated[int, Field(ge=1, description="Windows that were measured")]
    levels: Annotated[Levels, Field(description="Mean level of each band, dB")]


class Day(_Stretch):
    """A day of a machine, running."""

    day: Annotated[str, Field(description="The day by UTC, ISO 8601")]

    @property
    def begin(self) -> datetime:
        """Its first moment, UTC."""
        return datetime.fromisoformat(self.day).replace(tzinfo=timezone.utc)


class Hour(_Stretch):
    """An hour of a machine, running."""

    hour: Annotated[str, Field(description="The hour by UTC, as 2026-11-28T13")]

    @property
    def begin(self) -> datetime:
        """Its first moment, UTC."""
        return datetime.strptime(f"{self.hour}+0000", "%Y-%m-%dT%H%z")


@dataclass(frozen=True, slots=True)
class Passed:
    """Bands that stood out for a time.

    Attributes:
        bands: The most changed first, at the strongest.
        begin: Since when, UTC: a whole hour, or a day.
        end: Until when, UTC.
        days: Whether it is known by the day alone.
    """

    bands: tuple[UnusualBand, ...]
    begin: datetime
    end: datetime
    days: bool

    def words(self) -> str:
        """For people: `2.1-2.6 kHz +14 dB on 2026-11-28 from 13:00 to 15:00 UTC, and no more`."""
        bands = ", ".join(band_words(one) for one in self.bands)
        first, last = self.begin.date(), (self.end - timedelta(seconds=1)).date()
        if self.days:
            when = f"on {first}" if first == last else f"from {first} to {last}"
        else:
            until = f"{self.end:%H:%M} UTC"
            if first != last:
                until = f"{self.end.date()} {until}"
            when = f"on {first} from {self.begin:%H:%M} to {until}"
        return f"{bands} {when}, and no more"


def latest_passed(
    stretches: Sequence[Day | Hour], base: Floats, healthy: HealthySpectrum
) -> Passed | None:
    """The latest time at which bands stood out, hours or days without a break; None for none.

    Args:
        stretches: In order of time.
        base: The level that each band should have, dB, `(bands,)`.
        healthy: How far it may stray, and where the bands are.
    """
    bands: tuple[UnusualBand, ...] = ()
    first: Day | Hour | None = None
    last: Day | Hour | None = None
    for one in reversed(stretches):
        if one.windows < FEWEST:
            continue
        found = bands_between(np.array(one.levels), base, healthy.level_spread, healthy.grid.hertz)
        if not found:
            if last is not None:
                break
            continue
        first, last = one, one if last is None else last
        if not bands or abs(found[0].decibels) > abs(bands[0].decibels):
            bands = found
    if first is None or last is None:
        return None
    days = isinstance(last, Day)
    length = timedelta(days=1) if days else timedelta(hours=1)
    return Passed(bands, first.begin, last.begin + length, days)
