"""Everything about a scorer that is learnt from healthy windows, in one step.

Export uses it on the workstation and bank growth on the device, so a grown bank is calibrated by
the code that calibrated the first, and by the same rule.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from rich.progress import Progress

from agent.bundle.manifest import Threshold
from agent.calibrate.check import trusted
from agent.calibrate.fit_cache import Fit, FitCache
from agent.calibrate.limits import calibrate
from agent.calibrate.rate import Counting, measure_correlation, window_rate
from agent.config.scorer import FusionConfig, ScorerConfig
from agent.config.scorer_density import CoveringConfig
from agent.config.threshold import ThresholdRule
from agent.score.build import fit_scored
from agent.score.fitter import Fitter
from agent.score.scorer import HealthySet, State, Vector
from agent.score.sessions import session_note, sessions_of


@dataclass(frozen=True, slots=True)
class FittedScorer:
    """A scorer ready for a bundle.

    Attributes:
        config: The scorer as it will be used (its normalisation may have been dropped).
        state: Its arrays.
        healthy_scores: Scores of the healthy windows with their recording left out, float32 `(n,)`;
            NaN where they do not count.
        threshold: Calibrated on those.
        notes: What a person should know.
    """

    config: ScorerConfig
    state: State
    healthy_scores: Vector
    threshold: Threshold
    notes: tuple[str, ...]


def fit_scorer(
    healthy: HealthySet,
    config: ScorerConfig,
    rule: ThresholdRule,
    *,
    window_seconds: float,
    fitter: Fitter | None = None,
    uncounted: npt.NDArray[np.bool_] | None = None,
    progress: Progress | None = None,
    fits: FitCache | None = None,
) -> FittedScorer:
    """Check the scorer, fit it, calibrate its threshold.

    Args:
        healthy: Healthy windows.
        config: Scorer the preset asks for.
        rule: What the threshold shall be, in each domain.
        window_seconds: Length of a window.
        fitter: Fits what takes a workstation; None on a device.
        uncounted: Windows that the scorer learns from, but whose scores calibrate nothing.
        progress: Where to show progress.
        fits: Where fits are kept; None for nowhere.

    Raises:
        WorkstationError: The scorer takes a fitter and there is none.
        ConfigError: The scorer judges columns that there are not.
        AuscultError: There are fewer than two healthy recordings.
    """
    parts = len(config.parts) if isinstance(config, FusionConfig) else 1
    task = None if progress is None else progress.add_task("fitting the scorer", total=2 * parts)

    def advance() -> None:
        if progress is not None and task is not None:
            progress.advance(task)

    def make() -> Fit:
        used, note = trusted(healthy, config, fitter, advance)
        return Fit(used, note, *fit_scored(healthy, used, fitter, advance))

    used, note, state, scores = make() if fits is None else fits.fit(healthy, config, fitter, make)
    if progress is not None and task is not None:
        progress.update(task, completed=2 * parts)
    if uncounted is not None:
        scores = np.where(uncounted, np.float32(np.nan), scores)
    threshold = threshold_of(healthy, used, rule, scores, window_seconds)
    told = (note, threshold.caveat, session_note(healthy.rows))
    return FittedScorer(used, state, scores, threshold, tuple(text for text in told if text))


def threshold_of(
    healthy: HealthySet,
    config: ScorerConfig,
    rule: ThresholdRule,
    scores: Vector,
    window_seconds: float,
) -> Threshold:
    """The threshold that a rule asks for.

    Args:
        healthy: Healthy windows.
        config: The scorer as it is used.
        rule: What the threshold shall be.
        scores: Leave-one-recording-out healthy scores, float32 `(n,)`; NaN where they don't count.
        window_seconds: Length of a window.

    Raises:
        AuscultError: Fewer than two healthy recordings could be scored.
    """
    rate = rule.false_alarm_rate if rule.sure else None
    if rule.promise is not None:
        promise = rule.promise
        counting = Counting(
            promise.hop_seconds,
            window_seconds,
            promise.raise_windows,
            promise.of_windows,
            promise.clear_windows,
        )
        correlation = measure_correlation(scores, healthy.rows, window_seconds)
        rate = window_rate(promise.per_second, counting, correlation)
    found = calibrate(
        scores,
        healthy.groups,
        rule,
        clip=config.clip,
        domains=healthy.domains,
        window_rate=rate,
        sessions=len(sessions_of(healthy.rows)),
    )
    if isinstance(config, CoveringConfig) and config.own_threshold:
        return _covering(found, config, scores)
    return found


def _covering(calibrated: Threshold, config: CoveringConfig, scores: Vector) -> Threshold:
    """The covering radius as the threshold: scores are in radii, so it is 1."""
    known = scores[np.isfinite(scores)]
    beyond = float(np.mean(known > 1.0))
    caveat = ""
    if beyond > calibrated.false_alarm_rate:
        caveat = (
            f"the covering radius is the threshold, and {beyond:.2%} of the healthy windows lie "
            f"beyond it when their recording is left out, not {calibrated.false_alarm_rate:.2%}"
        )
    return calibrated.model_copy(
        update={
            "value": 1.0,
            "clip_value": 1.0,
            "clip_limits": (),
            "false_alarm_rate": min(max(beyond, 0.5 / len(known)), 0.999),
            "method": f"radius around the healthy centre that covers {config.covered:.4g} of the "
            "healthy windows",
            "caveat": caveat,
        }
    )
