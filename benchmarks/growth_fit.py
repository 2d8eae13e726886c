"""How a cost grows with the work, from a few sizes: the power, and what each further unit costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

FEWEST = 3  # sizes: a line through two has no interval
_CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Slope:
    """A slope by least squares, with its 95 % interval by Student's t."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.2f} ({self.low:.2f} to {self.high:.2f})"


def power(work: Sequence[float], cost: Sequence[float]) -> Slope:
    """The power of the work that the cost grows by: the slope of the logarithms.

    Args:
        work: Sizes, above zero; three at least.
        cost: What each costs, above zero.

    Raises:
        ValueError: Fewer sizes than a slope with an interval takes.
    """
    return _slope(np.log(work), np.log(cost))


def each_further(work: Sequence[float], cost: Sequence[float]) -> Slope:
    """What each further unit of work costs: the slope of a line, whatever the first one costs.

    Args:
        work: Sizes; three at least.
        cost: What each costs.

    Raises:
        ValueError: As `power`.
    """
    return _slope(np.asarray(work, float), np.asarray(cost, float))


def _slope(x: np.ndarray, y: np.ndarray) -> Slope:
    if len(x) < FEWEST:
        raise ValueError(f"a slope with an interval takes {FEWEST} sizes, not {len(x)}")
    fit = stats.linregress(x, y)
    half = float(stats.t.ppf(0.5 + _CONFIDENCE / 2, len(x) - 2) * fit.stderr)
    return Slope(float(fit.slope), float(fit.slope) - half, float(fit.slope) + half)
