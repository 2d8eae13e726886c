"""What a trained detector will promise, and what that costs, before it is exported."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from rich.progress import Progress

from agent.bundle.facts import SightInfo
from agent.calibrate.fit import FittedScorer, threshold_of
from agent.calibrate.sight import Sight, hours_words, passing_words, sight_at
from agent.config.decide import DecideConfig, FalseAlarms
from agent.config.threshold import AlarmPromise, ThresholdRule
from agent.core.records import Matrix
from agent.decide.thresholds import counting_of
from agent.score.build import build_scorer
from agent.score.scorer import HealthySet
from trainer.decisions.planted import median_scores, plant, recorded_scores
from trainer.encoders.base import Encoder
from trainer.fit.embed import embed_windows
from trainer.preset import Preset
from trainer.windows import WindowSet


@dataclass(frozen=True, slots=True)
class Promised:
    """What the threshold of a promise does to faults, by the encoder as trained (float32).

    Attributes:
        promise: Alarms of a healthy machine, at most.
        threshold: Raw score above which a window is anomalous.
        seen: What becomes of known and planted faults.
        hours: Of healthy sound that it was found from.
    """

    promise: FalseAlarms
    threshold: float
    seen: Sight
    hours: float

    def words(self) -> str:
        """For people."""
        told = [
            f"promise: {self.promise.words} of running",
            *passing_words(self.threshold, self.seen),
        ]
        if self.seen.blind:
            told.insert(0, "BLIND: no known fault would raise an alarm; export promises less")
        return "; ".join([*told, hours_words(self.hours)])


def look_ahead(
    preset: Preset,
    encoder: Encoder,
    fitted: FittedScorer,
    healthy: HealthySet,
    windows: WindowSet,
    faulty: WindowSet | None,
    progress: Progress | None = None,
) -> Promised | None:
    """Hold planted and recorded faults against the threshold of the preset's promise.

    Args:
        preset: The recipe.
        encoder: As trained.
        fitted: The scorer.
        healthy: What it was fitted to.
        windows: The healthy windows themselves.
        faulty: Windows of faulty recordings; None without any.
        progress: Where to show progress.

    Returns:
        None where the preset promises no number of alarms.
    """
    asked = preset.threshold.false_alarms
    if asked is None:
        return None
    seconds = preset.window.seconds
    threshold = threshold_of(
        healthy, fitted.config, window_rule(preset), fitted.healthy_scores, seconds
    )
    scorer = build_scorer(fitted.config, healthy, fitted.state)
    scorer.start()

    def score(waveforms: Matrix) -> list[float]:
        found: list[float] = scorer.score(embed_windows(encoder, waveforms, progress))[0].tolist()
        return found

    planted, what = plant(windows.waveforms, encoder.sample_rate)
    recorded = () if faulty is None else recorded_scores(score(faulty.waveforms), faulty.groups)
    info = SightInfo(planted=tuple(median_scores(score(planted), what)), recorded=recorded)
    return Promised(
        asked, threshold.value, sight_at(threshold.value, info), heard_hours(windows, seconds)
    )


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


def window_rule(preset: Preset) -> ThresholdRule:
    """What the threshold shall be; alarms are promised for the agent's own measure of evidence."""
    asked = preset.threshold.false_alarms
    promise = None
    if asked is not None:
        window = preset.window
        counting = counting_of(DecideConfig().amounts, window.hop_seconds, window.seconds)
        promise = AlarmPromise(
            per_second=asked.per_second,
            hop_seconds=counting.hop_seconds,
            raise_windows=counting.raise_windows,
            of_windows=counting.of_windows,
            clear_windows=counting.clear_windows,
        )
    threshold = preset.threshold
    return ThresholdRule(
        kind=threshold.rule,
        sigmas=threshold.sigmas,
        domains=threshold.domains,
        false_alarm_rate=threshold.false_alarm_rate,
        promise=promise,
    )
