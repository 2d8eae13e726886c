"""What makes the scores of a fusion's parts comparable, and one score of them.

What makes a part comparable comes from its own healthy scores alone (leave-recordings-out, never a
test set): their mean and deviation, their range, or their distribution. A share of healthy scores
above a value is told as its negative logarithm ("surprise", nats) and continued beyond the largest
healthy score by an exponential tail, so that it never saturates: a score that cannot rise above a
threshold would be silence for ever.

With p_i the share of part i's healthy scores above its score:

    quantile, mean    weighted mean of -log p_i (Fisher's combination)
    rank              -log of the weighted mean of p_i, the order of the mean rank
    quantile, min     strange only where every part finds it strange (arXiv 2606.19269)
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from agent.config.scorer import FusionConfig
from agent.score.scorer import Floats

# The exponential tail is fitted above this quantile.
_TAIL_FROM = 0.9
# Healthy scores closer together than this share of their size are taken for equal.
_CLOSEST = 1e-6


class Normalizer(Protocol):
    """Makes a part's scores comparable with another's."""

    def __call__(self, scores: Floats) -> Floats:
        """Comparable scores, shape as given."""


class _Linear:
    """(score - origin) / unit."""

    def __init__(self, origin: float, unit: float) -> None:
        self._origin = origin
        self._unit = max(unit, _CLOSEST * abs(origin), 1e-12)

    def __call__(self, scores: Floats) -> Floats:
        return (scores - self._origin) / self._unit


class Surprise:
    """-log of the share of healthy scores above a score, nats.

    Args:
        healthy: Healthy scores, ascending, shape `(n,)`, n >= 1.
    """

    def __init__(self, healthy: Floats) -> None:
        count = len(healthy)
        self._values, first, equal = np.unique(healthy, return_index=True, return_counts=True)
        # Scores equal to a healthy one count half of the equal ones as above.
        above = (count - first - equal) + 0.5 * equal
        self._nats = -np.log(above / count)
        start = float(np.quantile(healthy, _TAIL_FROM))
        excess = healthy[healthy > start] - start
        spread = float(excess.mean()) if len(excess) else float(np.ptp(healthy))
        self._scale = max(spread, _CLOSEST * float(np.abs(healthy).max()), 1e-12)

    def __call__(self, scores: Floats) -> Floats:
        """Surprise at each score, >= 0, strictly rising beyond the largest healthy score."""
        within = np.interp(scores, self._values, self._nats)
        beyond = np.maximum(scores - self._values[-1], 0.0) / self._scale
        found: Floats = within + beyond
        return found


def normalizer(config: FusionConfig, healthy: Floats, least_unit: float = 0.0) -> Normalizer:
    """What makes a part comparable.

    Args:
        config: The fusion.
        healthy: The part's healthy scores, ascending, shape `(n,)`.
        least_unit: Least deviation that `z` divides by.
    """
    if config.combine == "rank" or config.normalize == "quantile":
        return Surprise(healthy)
    if config.normalize == "z":
        return _Linear(float(healthy.mean()), max(float(healthy.std()), least_unit))
    if config.normalize == "minmax":
        return _Linear(float(healthy[0]), float(healthy[-1] - healthy[0]))
    return lambda scores: scores


def combine(config: FusionConfig, comparable: Floats, weights: Floats | None = None) -> Floats:
    """One score of the parts'.

    Args:
        config: Weights and rule.
        comparable: Shape `(parts, m)`.
        weights: Of the parts, shape `(parts,)`; those of the configuration when None.

    Returns:
        Shape `(m,)`.
    """
    if config.combine == "min":
        least: Floats = comparable.min(axis=0)
        return least
    if config.combine == "max":
        most: Floats = comparable.max(axis=0)
        return most
    if weights is None:
        weights = np.array([part.weight for part in config.parts])
    weights = weights / weights.sum()
    if config.combine == "mean":
        mean: Floats = weights @ comparable
        return mean
    # -log sum_i w_i exp(-y_i) without underflow.
    least = comparable.min(axis=0)
    together: Floats = least - np.log(weights @ np.exp(least - comparable))
    return together
