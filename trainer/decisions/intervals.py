"""Exact intervals of a share and of a rate: what so few clips allow to be said."""

from __future__ import annotations

from typing import TypeAlias

from scipy.stats import beta, chi2

Interval: TypeAlias = tuple[float, float]
LEVEL = 0.95


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
    low = 0.0 if hits == 0 else float(beta.ppf(rest, hits, total - hits + 1))
    high = 1.0 if hits == total else float(beta.ppf(1.0 - rest, hits + 1, total - hits))
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
    low = 0.0 if count == 0 else float(chi2.ppf(rest, 2 * count)) / 2.0
    high = float(chi2.ppf(1.0 - rest, 2 * count + 2)) / 2.0
    return low / exposure, high / exposure
