"""Would a grown bundle still hear what its parent hears?

Sound of a failing machine that is taken for healthy shows as a loss of sensitivity. Nearest
neighbours keep the scale of their scores, so their threshold rises. A method that is fitted anew
widens its idea of healthy instead, and its threshold hardly moves: there, healthy embeddings are
moved away until the parent calls them anomalous, and half as far again, and counted when the grown
scorer no longer does.
"""

from __future__ import annotations

import numpy as np

from agent.bank.draft import GrowthError
from agent.calibrate.check import displacement
from agent.calibrate.fit import FittedScorer
from agent.config.scorer_knn import KnnConfig
from agent.deploy.load import Bundle
from agent.score.build import healthy_scores
from agent.score.scorer import Scorer, Vector

# By how much the threshold may rise, as a share of its height over the middle healthy score; or
# which share of the probes may fall silent.
MAX_RISE = 0.5
# How far embeddings are moved at most, in distances to their nearest neighbour, and in what steps.
_FARTHEST, _STEP = 300.0, 1.25
_BEYOND = 1.5
_PROBES = 512

_KEEP_MORE = "Keep more rows, or allow more with --max-rise."
_LISTEN = (
    "Listen to the recordings: is the machine well in all of them? If so, collect it several "
    "times, or allow more with --max-rise."
)


def check_rise(
    bundle: Bundle, fitted: FittedScorer, scorer: Scorer, *, novel: float | None, allowed: float
) -> tuple[float, str]:
    """How much less sensitive a grown scorer is.

    Args:
        bundle: The parent.
        fitted: The grown scorer and its threshold.
        scorer: The same, built and started.
        novel: Share of the new windows that the parent calls anomalous; None without new ones.
        allowed: How much is allowed.

    Returns:
        The change: of a k-NN threshold, as a share of the parent's height over the middle healthy
        score; of any other scorer, the share of probes that fell silent. And a note for people.

    Raises:
        GrowthError: It is more than allowed.
    """
    before, after = bundle.manifest.threshold.value, fitted.threshold.value
    if isinstance(fitted.config, KnnConfig):
        rise, note = _rise(bundle, fitted)
        what = (
            f"the threshold would rise from {before:.4g} to {after:.4g}, by {rise:.0%} of its "
            "height over healthy sound"
        )
    else:
        rise, note = silent_share(bundle, scorer, after), ""
        what = (
            f"it would no longer find {rise:.0%} of the sounds that lie half as far again from "
            "healthy as what is found today"
        )
    if rise > allowed and novel is None:
        raise GrowthError(f"{what}; {allowed:.0%} is allowed", remedy=_KEEP_MORE)
    if rise > allowed:
        raise GrowthError(
            f"{what}; {allowed:.0%} is allowed. Of the new windows {novel:.0%} are anomalous today",
            remedy=_LISTEN,
        )
    return rise, note


def _rise(bundle: Bundle, fitted: FittedScorer) -> tuple[float, str]:
    """Rise of the threshold over the parent's height, and a note for people."""
    parent, after = bundle.manifest, fitted.threshold.value
    before = parent.threshold.value
    if fitted.config != parent.scorer or bundle.healthy is None:
        (healthy,) = healthy_scores(bundle.bank, fitted.config)
    else:
        healthy = bundle.healthy.scores
    if fitted.config != parent.scorer:
        # Scores are on another scale: the parent's rows are judged on it for comparison.
        before = float(np.nanquantile(healthy, 1.0 - parent.threshold.false_alarm_rate))
    known: Vector = healthy[np.isfinite(healthy)]
    middle = float(np.median(known)) if len(known) else 0.0
    height = max(before - middle, 1e-9)
    rise = (after - before) / height
    note = ""
    if rise < -MAX_RISE:
        note = (
            f"the threshold fell from {before:.4g} to {after:.4g}: it was set by hand or on other "
            "sound before; expect more windows above it"
        )
    return rise, note


def silent_share(bundle: Bundle, scorer: Scorer, threshold: float) -> float:
    """Share of displaced healthy embeddings, anomalous to a bundle, that a scorer finds healthy.

    Args:
        bundle: Today's.
        scorer: Another.
        threshold: Of that.

    Returns:
        In [0, 1]; 0 when there is nothing to displace.
    """
    bank, today = bundle.bank, bundle.manifest.threshold.value
    if len(set(bank.groups)) < 2:
        return 0.0
    away = displacement(bank, bundle.manifest.scorer, np.random.default_rng(0))
    some = slice(None, None, max(1, len(bank) // _PROBES))
    start, away = bank.vectors[some], away[some]
    reach = np.zeros(len(start), np.float32)
    step = 0.5
    while step < _FARTHEST and not reach.all():
        scores, _ = bundle.scorer.score(start + np.float32(step) * away)
        reach[(scores > today) & (reach == 0.0)] = step
        step *= _STEP
    found = reach > 0.0
    if not found.any():
        return 0.0
    probes = start[found] + _BEYOND * reach[found, None] * away[found]
    before, _ = bundle.scorer.score(probes)
    after, _ = scorer.score(probes)
    heard = before > today
    return float(np.mean(after[heard] <= threshold)) if heard.any() else 0.0
