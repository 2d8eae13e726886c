"""Counts at the threshold: faults found, false alarms and their rate a day, detection delay."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from agent.core.name_time import all_name_times
from agent.recordings.model import ANOMALY, NORMAL
from agent.verdict.intervals import Interval, rate_interval, share_interval

DAY = 86_400.0
# What every rate a day rests on; shown wherever one is.
ASSUMPTION = (
    "a day counts every healthy clip above the threshold as one false alarm and takes clips for "
    "independent; the agent asks several windows for an alarm and raises fewer, and clips recorded "
    "in one go are alike, so the interval is then too narrow"
)


@dataclass(frozen=True, slots=True)
class Share:
    """A share, so many of so many, with its exact 95 % interval of the share.

    Attributes:
        hits: How many.
        total: Of how many.
        interval: Clopper and Pearson's; None of nothing.
    """

    hits: int
    total: int
    interval: Interval | None

    @classmethod
    def of(cls, hits: int, total: int) -> Share:
        """With its interval."""
        return cls(hits, total, share_interval(hits, total) if total else None)

    @property
    def value(self) -> float | None:
        """The share; None of nothing."""
        return self.hits / self.total if self.total else None


@dataclass(frozen=True, slots=True)
class DailyRate:
    """Events a day of sound, with the exact 95 % Poisson interval.

    Attributes:
        count: Events.
        seconds: Length of the sound they were counted in.
        per_day: Events a day.
        interval: Garwood's, a day.
    """

    count: int
    seconds: float
    per_day: float
    interval: Interval

    @classmethod
    def of(cls, count: int, seconds: float) -> DailyRate:
        """With its interval; `seconds` above 0."""
        return cls(count, seconds, count / seconds * DAY, rate_interval(count, seconds / DAY))


@dataclass(frozen=True, slots=True)
class Delay:
    """How long faults sounded before a clip was called anomalous.

    Attributes:
        seconds: Of each episode of consecutive faulty clips that was noticed, in order of time:
            sound from its beginning to the end of the first clip above the threshold.
        missed: Episodes in which no clip was.
    """

    seconds: tuple[float, ...]
    missed: int

    @property
    def episodes(self) -> int:
        """All of them."""
        return len(self.seconds) + self.missed


@dataclass(frozen=True, slots=True)
class JudgedClip:
    """One recording with a known answer.

    Attributes:
        name: As in the score files.
        label: `normal` or `anomaly`.
        domain: `source`, `target` or `unknown`.
        called: Whether it was called anomalous.
        seconds: Its length; None where that is not known.
    """

    name: str
    label: str
    domain: str
    called: bool
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class DecisionFigures:
    """What the threshold did with some clips.

    Attributes:
        found: Faulty clips above it, of all faulty ones: recall.
        false: Healthy clips above it, of all healthy ones.
        daily: False alarms a day of healthy sound; None without healthy clips of known length.
        delay: Where the names of all clips tell the time and some are faulty; else None.
    """

    found: Share
    false: Share
    daily: DailyRate | None = None
    delay: Delay | None = None


def decision_figures(clips: Sequence[JudgedClip]) -> dict[str, DecisionFigures]:
    """The figures of all clips under `all`, then of each domain where there are several.

    Within a domain stand its own healthy and its own faulty clips.
    """
    domains = sorted({clip.domain for clip in clips})
    found = {"all": _figures(clips)}
    if len(domains) > 1:
        found |= {name: _figures([c for c in clips if c.domain == name]) for name in domains}
    return found


def _figures(clips: Sequence[JudgedClip]) -> DecisionFigures:
    faulty = [clip for clip in clips if clip.label == ANOMALY]
    healthy = [clip for clip in clips if clip.label == NORMAL]
    return DecisionFigures(
        found=Share.of(sum(clip.called for clip in faulty), len(faulty)),
        false=Share.of(sum(clip.called for clip in healthy), len(healthy)),
        daily=_daily(healthy),
        delay=_delay(clips) if faulty else None,
    )


def _daily(healthy: Sequence[JudgedClip]) -> DailyRate | None:
    lengths = [clip.seconds for clip in healthy if clip.seconds is not None]
    if len(lengths) != len(healthy) or not sum(lengths) > 0:
        return None
    return DailyRate.of(sum(clip.called for clip in healthy), sum(lengths))


def _delay(clips: Sequence[JudgedClip]) -> Delay | None:
    times = all_name_times([clip.name for clip in clips])
    if times is None or any(clip.seconds is None for clip in clips):
        return None
    order = sorted(zip(times, clips, strict=True), key=_in_time)
    noticed: list[float] = []
    missed = 0
    heard, waiting = 0.0, False
    before = NORMAL
    for _, clip in order:
        if clip.label != ANOMALY:
            missed += waiting
            waiting = False
        else:
            if before != ANOMALY:
                heard, waiting = 0.0, True
            heard += clip.seconds or 0.0
            if waiting and clip.called:
                noticed.append(heard)
                waiting = False
        before = clip.label
    return Delay(tuple(noticed), missed + waiting)


def _in_time(item: tuple[datetime, JudgedClip]) -> tuple[datetime, str]:
    # Clips of one moment are numbered.
    return item[0], item[1].name.rsplit("/", 1)[-1]
