"""Which promise of false alarms a bundle can make without going blind.

Where the threshold of the wanted promise lies beyond every planted fault (`planted`), the
strictest promise that still sees one is made instead, and the bundle says what to record. Recorded
faults only tell what a threshold costs: nothing is chosen by them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from agent.bundle.facts import SightInfo
from agent.bundle.manifest import Row
from agent.calibrate.fit import FittedScorer, threshold_of
from agent.calibrate.rate import measure_correlation
from agent.calibrate.sight import Sight, hours_words, passing_words, sight_at
from agent.config.decide import DecideConfig, FalseAlarms
from agent.config.recipe import Recipe
from agent.config.threshold import AlarmPromise, ThresholdRule
from agent.core.text import plural
from agent.decide.thresholds import counting_of
from agent.recordings.windows import WindowSet
from agent.score.scorer import HealthySet
from agent.score.sessions import OTHER_DAY

# Days in which one false alarm is promised, where the wanted promise would be blind.
LADDER_DAYS = (7.0, 1.0, 1.0 / 24.0)
_DAY = 86_400.0


def keep_promise(
    fitted: FittedScorer,
    healthy: HealthySet,
    rule: ThresholdRule,
    wanted: FalseAlarms,
    sight: SightInfo,
    window_seconds: float,
) -> tuple[FittedScorer, SightInfo]:
    """Find the strictest promise, at most the wanted one, that is not blind.

    Args:
        fitted: With the threshold of the wanted promise.
        healthy: What it was fitted to.
        rule: By which that threshold was found; it has the promise.
        wanted: Alarms asked for.
        sight: Scores of planted and recorded faults.
        window_seconds: Length of a window.

    Returns:
        The scorer with the threshold to be used, and what is to be told of it.
    """
    assert rule.promise is not None
    advice = _advice(fitted, healthy.rows, window_seconds)
    planted_alone = sight.model_copy(update={"recorded": ()})
    first: Sight | None = None
    for promise in (wanted, *_laxer(wanted)):
        threshold = fitted.threshold
        if promise is not wanted:
            at = AlarmPromise.model_validate(
                {**rule.promise.model_dump(), "per_second": promise.per_second}
            )
            threshold = threshold_of(
                healthy, fitted.config, rule.model_copy(update={"promise": at}),
                fitted.healthy_scores, window_seconds,
            )  # fmt: skip
        seen = sight_at(threshold.value, planted_alone)
        first = first or seen
        if not seen.blind:
            told = sight.model_copy(
                update={
                    "wanted": wanted, "kept": promise,
                    "advice": "" if promise is wanted else advice,
                }
            )  # fmt: skip
            notes = fitted.notes
            if promise is not wanted:
                notes = tuple(n for n in notes if n != fitted.threshold.caveat)
                notes += tuple(text for text in (threshold.caveat,) if text)
                blind = (
                    f"BLIND at the promise of {wanted.words}: the threshold would be "
                    f"{fitted.threshold.value:.4g}, beyond every fault ({first.text}); "
                    f"{promise.words} is promised instead. {advice}"
                )
                notes = (*notes, blind)
            return replace(fitted, threshold=threshold, notes=notes), told
    told = sight.model_copy(update={"wanted": wanted, "kept": wanted, "advice": advice})
    assert first is not None
    note = f"BLIND at every promise: no fault that is known of exceeds the threshold ({first.text})"
    return replace(fitted, notes=(*fitted.notes, f"{note}. {advice}")), told


def _laxer(wanted: FalseAlarms) -> list[FalseAlarms]:
    return [
        FalseAlarms(at_most=1.0, per_days=days)
        for days in LADDER_DAYS
        if 1.0 / (days * _DAY) > wanted.per_second
    ]


def _advice(fitted: FittedScorer, rows: Sequence[Row], window_seconds: float) -> str:
    """What to record to be able to promise more."""
    threshold = fitted.threshold
    hours = 5.0 / threshold.false_alarm_rate * window_seconds / 3600
    share = measure_correlation(fitted.healthy_scores, rows, window_seconds).share
    longer = (
        f"Record stretches of {6 * window_seconds:g} s or more, ten or more of them: how alike "
        "neighbouring windows score is assumed at its worst now. "
        if share is None
        else ""
    )
    return (
        f"{longer}The tail is extrapolated from "
        f"{plural(threshold.healthy_windows, 'window')}; each doubling of the healthy recordings "
        f"lowers the threshold, and from {hours:.0f} h on it is counted"
    )


@dataclass(frozen=True, slots=True)
class Promised:
    """What the threshold of a promise does to faults, by the encoder as trained (float32).

    Attributes:
        promise: Alarms of a healthy machine, at most.
        threshold: Raw score above which a window is anomalous.
        seen: What becomes of known and planted faults.
        hours: Of healthy sound that it was found from.
        one_day: Why nothing is promised for other days; empty where several are known.
    """

    promise: FalseAlarms
    threshold: float
    seen: Sight
    hours: float
    one_day: str = ""

    @property
    def hollow(self) -> bool:
        """Whether it says nothing of what a user would count on: any fault, or any other day."""
        return self.seen.blind or bool(self.one_day)

    def words(self) -> str:
        """For people."""
        told = [
            f"promise: {self.promise.words} of running",
            *passing_words(self.threshold, self.seen),
        ]
        if self.one_day:
            told.insert(0, f"ONE SESSION: {self.one_day}; {OTHER_DAY}")
        if self.seen.blind:
            told.insert(0, "BLIND: no known fault would raise an alarm; export promises less")
        return "; ".join([*told, hours_words(self.hours)])


def heard_hours(windows: WindowSet, window_seconds: float) -> float:
    """Hours of sound that windows hold, each second once.

    Args:
        windows: Of healthy recordings.
        window_seconds: Length of a window.
    """
    sources = np.array([row.source for row in windows.rows])
    starts = np.array([row.start for row in windows.rows])
    held = [
        float(np.ptp(starts[sources == source])) + window_seconds for source in np.unique(sources)
    ]
    return sum(held) / 3600.0


def window_rule(recipe: Recipe) -> ThresholdRule:
    """What the threshold shall be; alarms are promised for the agent's own measure of evidence."""
    asked = recipe.threshold.false_alarms
    promise = None
    if asked is not None:
        window = recipe.window
        counting = counting_of(DecideConfig().amounts, window.hop_seconds, window.seconds)
        promise = AlarmPromise(
            per_second=asked.per_second,
            hop_seconds=counting.hop_seconds,
            raise_windows=counting.raise_windows,
            of_windows=counting.of_windows,
            clear_windows=counting.clear_windows,
        )
    return clip_rule(recipe).model_copy(update={"promise": promise})


def clip_rule(recipe: Recipe) -> ThresholdRule:
    """By which rule recordings are held against a threshold; a promise binds windows alone."""
    asked = recipe.threshold
    return ThresholdRule(
        kind=asked.rule,
        sigmas=asked.sigmas,
        domains=asked.domains,
        false_alarm_rate=asked.false_alarm_rate,
    )
