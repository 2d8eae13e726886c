"""Exact intervals of a share and of a rate: what so few clips allow to be said."""

from __future__ import annotations

import math
from typing import TypeAlias

import numpy as np

from agent.calibrate.gamma import gamma_quantile

Interval: TypeAlias = tuple[float, float]
LEVEL = 0.95
_STEPS = 200


def share_interval(hits: int, total: int, level: float = LEVEL) -> Interval:
    """Two-sided interval of a probability by its counts (Clopper and Pearson 1934).

    Exact, so it is never too narrow, also at 0 of n and n of n.

    Args:
        hits: How often it happened, 0 to `total`.
        total: Independent trials, at least 1.
        level: Confidence, in (0, 1).

    Returns:
        Lower and upper end, in [0, 1].

    Raises:
        ValueError: `total` is not positive, or `hits` is not in 0 to `total`.
    """
    if total < 1 or not 0 <= hits <= total:
        raise ValueError(f"{hits} of {total} is no share")
    rest = (1.0 - level) / 2.0
    low = 0.0 if hits == 0 else _share_where(hits, total, rest)
    high = 1.0 if hits == total else _share_where(hits + 1, total, 1.0 - rest)
    return low, high


def rate_interval(count: int, exposure: float, level: float = LEVEL) -> Interval:
    """Two-sided interval of a Poisson rate by its count (Garwood 1936).

    Args:
        count: Events, at least 0.
        exposure: What they were counted over, above 0; the rate is in events per unit of it.
        level: Confidence, in (0, 1).

    Raises:
        ValueError: A negative count, or no exposure.
    """
    if count < 0 or not exposure > 0:
        raise ValueError(f"{count} events in {exposure} is no rate")
    rest = (1.0 - level) / 2.0
    low = 0.0 if count == 0 else gamma_quantile(rest, count, 1.0)
    high = gamma_quantile(1.0 - rest, count + 1, 1.0)
    return low / exposure, high / exposure


def _share_where(hits: int, total: int, wanted: float) -> float:
    """The probability at which `hits` or more of `total` are as likely as wanted, by bisection."""
    counts = np.arange(hits, total + 1)
    ways = np.array([math.lgamma(n + 1) + math.lgamma(total - n + 1) for n in counts.tolist()])
    log_ways = math.lgamma(total + 1) - ways
    low, high = 0.0, 1.0
    for _ in range(_STEPS):
        middle = 0.5 * (low + high)
        if middle in {low, high}:
            break
        logs = log_ways + counts * math.log(middle) + (total - counts) * math.log1p(-middle)
        if float(np.exp(logs).sum()) < wanted:
            low = middle
        else:
            high = middle
    return 0.5 * (low + high)
