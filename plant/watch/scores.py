"""Scores as medians and maxima by five minutes and by hour, which several instances add up."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timezone

from plant.watch.reading import Score

#: Lengths of the stretches, seconds.
STEPS = (300, 3600)
#: Scores are counted in bins so wide: the threshold is 1.0.
BIN = 0.01
# Stranger than this is all the same: a hundred times the threshold.
_LAST_BIN = 10_000

Key = tuple[str, str, int, datetime]
"""Device, machine, step, start."""


@dataclass(slots=True)
class Stretch:
    """What was told of one machine in one stretch, to be added to what is stored.

    Attributes:
        windows: Windows told of.
        judged: Of them, with a score.
        exceeded: Of them, above the threshold.
        maximum: Highest score; None without one.
        threshold: Raw, as last in force; None when never told.
        bins: By hundredths of a score, how many windows.
    """

    windows: int = 0
    judged: int = 0
    exceeded: int = 0
    maximum: float | None = None
    threshold: float | None = None
    bins: Counter[int] = field(default_factory=Counter)

    def add(self, score: Score) -> None:
        """Count a window."""
        self.windows += 1
        self.threshold = self.threshold if score.raw_threshold is None else score.raw_threshold
        if score.score is None:
            return
        self.judged += 1
        self.exceeded += score.exceeded
        self.maximum = score.score if self.maximum is None else max(self.maximum, score.score)
        self.bins[_bin(score.score)] += 1

    def merge(self, other: Stretch) -> None:
        """Count another's windows, too."""
        self.windows += other.windows
        self.judged += other.judged
        self.exceeded += other.exceeded
        if other.maximum is not None:
            self.maximum = other.maximum if self.maximum is None else max(
                self.maximum, other.maximum
            )  # fmt: skip
        self.threshold = self.threshold if other.threshold is None else other.threshold
        self.bins.update(other.bins)


@dataclass(frozen=True, slots=True)
class Latest:
    """A machine's latest window.

    Attributes:
        time: Its end.
        score: None when it could not be judged.
    """

    time: datetime
    score: float | None


class Scores:
    """Counts windows until they are stored. One caller at a time."""

    def __init__(self) -> None:
        self.stretches: dict[Key, Stretch] = {}
        self.latest: dict[tuple[str, str], Latest] = {}

    def add(self, score: Score) -> None:
        """Count a window."""
        seconds = score.time.timestamp()
        place = (score.device, score.machine)
        for step in STEPS:
            start = datetime.fromtimestamp(seconds // step * step, timezone.utc)
            self.stretches.setdefault((*place, step, start), Stretch()).add(score)
        known = self.latest.get(place)
        if known is None or score.time >= known.time:
            self.latest[place] = Latest(score.time, score.score)

    def merge(self, other: Scores) -> None:
        """Count another's windows, too."""
        for key, stretch in other.stretches.items():
            self.stretches.setdefault(key, Stretch()).merge(stretch)
        for place, latest in other.latest.items():
            known = self.latest.get(place)
            if known is None or latest.time >= known.time:
                self.latest[place] = latest

    def split(self, machines: int) -> list[Scores]:
        """The same, so many machines at a time."""
        found: dict[int, Scores] = {}
        places = {place: n // machines for n, place in enumerate(sorted(self.latest))}
        for key, stretch in self.stretches.items():
            found.setdefault(places[key[:2]], Scores()).stretches[key] = stretch
        for place, latest in self.latest.items():
            found[places[place]].latest[place] = latest
        return list(found.values())


def median(bins: Counter[int]) -> float | None:
    """Median of the windows in bins (the lower of two), to half a bin; None without any."""
    total = sum(bins.values())
    if not total:
        return None
    seen = 0
    for number in sorted(bins):
        seen += bins[number]
        if 2 * seen >= total:
            return round((number + 0.5) * BIN, 4)
    raise AssertionError


def written(bins: Counter[int]) -> str:
    """Bins as text."""
    return json.dumps({str(number): count for number, count in sorted(bins.items())})


def read_bins(text: str) -> Counter[int]:
    """Bins from text."""
    return Counter({int(number): count for number, count in json.loads(text).items()})


def _bin(score: float) -> int:
    return max(-_LAST_BIN, min(_LAST_BIN, int(score // BIN)))
