"""What an alarm is about: when that has changed so far that whoever knows of it must hear it anew.

A reason is the severity zone and the bands that stand out. Single windows scatter, so a zone or a
band is taken for another only once most of the latest looks, each at sound of its own, agree.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from agent.core.reasons import Circumstance, Reason, UnusualBand, band_words
from agent.core.scale import Zone
from agent.core.text import local_minute, ordinal

# A standing alarm is looked at so often, seconds of sound...
LOOK_SECONDS = 10.0
# ...and what so many of the latest looks show is so.
_LOOKS, _AGREE = 4, 3
# Bands are the same when they overlap, once widened by this: a third of an octave.
_WIDER = 2.0 ** (1.0 / 3.0)
# Bands that are remembered as told, at most.
MOST_BANDS = 24


@dataclass(frozen=True, slots=True)
class News:
    """What has become of a reason.

    Attributes:
        zone: Severity zone now.
        bands: What stands out now.
        new: What had not been told of, in words; empty when nothing is.
    """

    zone: Zone | None
    bands: tuple[UnusualBand, ...]
    new: tuple[str, ...]


class ReasonWatch:
    """Looks at a standing alarm now and then, and tells when its reason is another."""

    def __init__(self) -> None:
        self._looks: deque[tuple[Zone, tuple[UnusualBand, ...]]] = deque(maxlen=_LOOKS)
        self._last = float("-inf")

    def due(self, monotonic: float) -> bool:
        """Whether a window that ends then is to be looked at."""
        return monotonic - self._last >= LOOK_SECONDS

    def begin(self, monotonic: float) -> None:
        """An alarm was told of with a window that ends then: what was seen before is known."""
        self._looks.clear()
        self._last = monotonic

    def look(
        self,
        monotonic: float,
        zone: Zone,
        bands: Sequence[UnusualBand],
        told_zone: Zone | None,
        told: Sequence[UnusualBand],
    ) -> News | None:
        """Look at a window of a standing alarm.

        Args:
            monotonic: Its end, seconds.
            zone: Its severity zone.
            bands: What stands out in it.
            told_zone: The worst zone that was told of this alarm.
            told: The bands that were.

        Returns:
            What the reason is now; None while the looks do not suffice to say.
        """
        self._last = monotonic
        self._looks.append((zone, tuple(bands)))
        if len(self._looks) < _LOOKS:
            return None
        now = sorted((z for z, _ in self._looks), key=lambda one: one.rank)[_LOOKS - _AGREE]
        lasting = []
        for band in self._looks[-1][1]:
            seen = [
                next((one for one in looked if same_band(one, band)), None)
                for _, looked in self._looks
            ]
            found = sorted((one for one in seen if one is not None), key=lambda b: b.decibels)
            if len(found) >= _AGREE:
                lasting.append(found[(len(found) - 1) // 2])  # of the middle level
        return News(now, tuple(lasting), what_is_new(now, lasting, told_zone, told))


def what_is_new(
    zone: Zone | None,
    bands: Sequence[UnusualBand],
    told_zone: Zone | None,
    told: Sequence[UnusualBand],
) -> tuple[str, ...]:
    """What of a reason was not told before, in words.

    Args:
        zone: Severity zone now.
        bands: What stands out now.
        told_zone: The worst zone told of; None before the first.
        told: The bands told of.
    """
    found = []
    if zone is not None and (told_zone is None or zone.rank > told_zone.rank):
        found.append(f"zone {zone.value}" + (f" (was {told_zone.value})" if told_zone else ""))
    found += [band_words(band) for band in bands if not any(same_band(band, one) for one in told)]
    return tuple(found)


def same_band(one: UnusualBand, other: UnusualBand) -> bool:
    """Whether two looks at what stands out mean the same: about there, and the same way."""
    if (one.decibels < 0) != (other.decibels < 0):
        return False
    low, high = other.low_hz / _WIDER, other.high_hz * _WIDER
    return one.low_hz < high and one.high_hz > low


def reason_words(reason: Reason) -> str:
    """A reason for people, in one line."""
    parts = []
    if reason.zone is not None:
        parts.append(f"zone {reason.zone.value}")
    if reason.bands:
        parts.append(f"stands out: {', '.join(map(band_words, reason.bands))}")
    if reason.count > 1:
        parts.append(f"{ordinal(reason.count)} time since {local_minute(reason.since_wall)}")
    if reason.new:
        parts.append(f"new: {', '.join(reason.new)}")
    if reason.context:
        parts.append(context_words(reason.context))
    return "; ".join(parts)


def context_words(context: Sequence[Circumstance]) -> str:
    """What else was so, for people."""
    return ", ".join(one.text for one in context)
