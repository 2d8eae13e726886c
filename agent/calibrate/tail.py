"""Peaks over threshold: the rate of events rarer than those that were recorded.

The wanted quantile is counted where enough scores lie above it, and else read from a generalized
Pareto law fitted to what exceeds the 90 % quantile (probability-weighted moments, Hosking and
Wallis 1987).
"""

from __future__ import annotations

import numpy as np

from agent.core.text import plural
from agent.score.scorer import Floats, IntVector

# Counting is trusted while this many windows lie above the threshold.
_COUNTED = 5
# The tail model is fitted above this quantile, and needs so many exceedances to bend.
_TAIL_FROM = 0.9
_SHAPED = 30
# Heavier or lighter tails than these are not believed of a few hundred windows.
_SHAPE_RANGE = (-0.4, 0.4)

# How sure an "at most" is, and the bootstrap samples it takes.
_CONFIDENCE = 0.9
_RESAMPLES = 200
# From fewer recordings than this, no end of the tail can be seen.
_BOUNDED_FROM = 50


def tail_quantile(values: Floats, ids: IntVector, rate: float, *, sure: bool) -> tuple[float, str]:
    """The value exceeded with probability `rate`, and how it was found.

    Args:
        values: Healthy scores, shape `(n,)`, n >= 1.
        ids: Recording of each.
        rate: Probability of exceeding it, in (0, 1).
        sure: "At most" is meant: not the likeliest value but one that is high enough in nine of
            ten drawings of the same number of recordings (bootstrap by recording, which respects
            that the windows of one are alike).
    """
    bounded = not sure or len(np.unique(ids)) >= _BOUNDED_FROM
    value, how = upper_quantile(values, rate, bounded=bounded)
    if not sure:
        return value, how
    value = max(value, _upper_bound(values, ids, rate, bounded=bounded))
    return value, f"{how}, with 90 % confidence"


def _upper_bound(values: Floats, ids: IntVector, rate: float, *, bounded: bool) -> float:
    rng = np.random.default_rng(0)
    recordings = [values[ids == i] for i in np.unique(ids)]
    found = []
    for _ in range(_RESAMPLES):
        drawn = rng.integers(0, len(recordings), len(recordings))
        sample = np.concatenate([recordings[i] for i in drawn])
        found.append(upper_quantile(sample, rate, bounded=bounded)[0])
    return float(np.quantile(found, _CONFIDENCE))


def upper_quantile(values: Floats, rate: float, *, bounded: bool = True) -> tuple[float, str]:
    """The value exceeded with probability `rate`, and how it was found.

    Args:
        values: Healthy scores, shape `(n,)`, n >= 1.
        rate: Probability of exceeding it, in (0, 1).
        bounded: A tail that ends somewhere is believed; else it is exponential at least.
    """
    ordered = np.sort(values)
    n = len(ordered)
    if n * rate >= _COUNTED:
        # Conformal: the ceil((n + 1)(1 - rate))-th smallest covers a new healthy score.
        place = min(int(np.ceil((n + 1) * (1.0 - rate))), n) - 1
        return float(ordered[place]), f"quantile of {plural(n, 'window')} counted"
    start = float(np.quantile(ordered, _TAIL_FROM))
    excess = ordered[ordered > start] - start
    if len(excess) < 2:
        # Too few to fit anything: the scatter of all values stands in for the tail's.
        start, excess = float(np.median(ordered)), np.abs(ordered - np.median(ordered))
        share = 0.5
    else:
        share = len(excess) / n
    scale, shape = fit_tail(excess)
    if shape < 0.0 and not bounded:
        scale, shape = float(excess.mean()), 0.0
    reach = share / rate
    if reach <= 1.0:
        return float(np.quantile(ordered, 1.0 - rate)), f"quantile of {plural(n, 'window')}"
    above = scale * np.log(reach) if abs(shape) < 1e-6 else scale / shape * (reach**shape - 1.0)
    value = start + float(above)
    if rate < 1.0 / (n + 1):
        # Rarer than anything recorded: a bounded tail must not undercut what was heard.
        value = max(value, float(ordered[-1]))
    return (
        value,
        f"generalized Pareto tail over {plural(len(excess), 'window')} (shape {shape:+.2f})",
    )


def fit_tail(excess: Floats) -> tuple[float, float]:
    """Scale and shape of a generalized Pareto distribution by probability-weighted moments.

    Args:
        excess: Positive exceedances, shape `(m,)`, m >= 1.

    Returns:
        Scale (> 0, in the scores' unit) and shape (0 is exponential). With few exceedances the
        shape is drawn towards the exponential, the least committal tail.
    """
    ordered = np.sort(excess)
    m = len(ordered)
    mean = float(ordered.mean())
    if mean <= 0.0:
        return np.finfo(np.float32).eps.item(), 0.0
    weights = (m - np.arange(1, m + 1)) / max(m - 1, 1)
    weighted = float(np.mean(weights * ordered))
    raw = 2.0 - mean / max(mean - 2.0 * weighted, 1e-12)
    shape = float(np.clip(raw, *_SHAPE_RANGE)) * min(1.0, m / _SHAPED)
    return mean * (1.0 - shape), shape
