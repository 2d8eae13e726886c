"""One scale for what people see: 0 is the median of healthy sound, 1.0 the threshold in force.

Raw scores are distances, standard scores or nats, and a grown bank, another bundle or another
threshold puts them on another axis. On the scale

    scaled = (raw - healthy median) / (threshold in force - healthy median)

the meaning of the number stays. Beside it stands a severity zone, in the words of ISO 20816-1 (for
vibration; here of sound):

    A   up to the healthy 95 % quantile: as a machine in good order mostly sounds
    B   up to the threshold in force: acceptable, without restriction in time
    C   above it: not for unrestricted running; look at the machine
    D   so far above that healthy sound is a thousand times rarer there than at the threshold (by
        the exponential tail fitted above its 90 % quantile), and 1.6 times the threshold's height
        over the median at least, the ratio that ISO 20816-3 puts between its zones C and D
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum

import numpy as np
import numpy.typing as npt

# Quantile up to which a score is in zone A, and above which the tail is fitted.
ZONE_A_QUANTILE, TAIL_QUANTILE = 0.95, 0.9
# Zone D begins where healthy sound is so many times rarer than at the threshold...
RARER_IN_D = 1000.0
# ...and at this multiple of the threshold's height over the healthy median at least.
LEAST_D = 1.6
# Scores closer together than this share of their size are taken for equal.
_CLOSEST = 1e-6


class Zone(str, Enum):
    """Severity zone, after ISO 20816-1."""

    A = "A"
    B = "B"
    C = "C"
    D = "D"

    @property
    def rank(self) -> int:
        """0 for A to 3 for D."""
        return "ABCD".index(self.value)


@dataclass(frozen=True, slots=True)
class HealthySpread:
    """Where healthy scores lie, raw.

    Attributes:
        median: Half of them are below this.
        usual: The 95 % quantile.
        tail: Mean excess over the 90 % quantile, > 0: the scale of an exponential tail.
    """

    median: float
    usual: float
    tail: float


@dataclass(frozen=True, slots=True)
class Scale:
    """Turns raw scores into the number and zone that people see.

    Attributes:
        median: Raw score that is 0: the healthy median.
        threshold: Raw score that is 1.0: the threshold in force.
        usual: Highest raw score of zone A; at most the threshold.
        severe: Raw score from which on it is zone D.
    """

    median: float
    threshold: float
    usual: float
    severe: float

    def of(self, raw: float) -> float:
        """A raw score on the scale; rises with it, strictly."""
        return (raw - self.median) / (self.threshold - self.median)

    def maybe(self, raw: float | None) -> float | None:
        """A raw score on the scale; None when there is no score."""
        return None if raw is None else self.of(raw)

    def zone(self, raw: float) -> Zone:
        """The severity zone of a raw score."""
        if raw <= self.usual:
            return Zone.A
        if raw <= self.threshold:
            return Zone.B
        return Zone.D if raw >= self.severe else Zone.C


def measure_spread(scores: npt.NDArray[np.floating]) -> HealthySpread | None:
    """Where healthy scores lie.

    Args:
        scores: Leave-one-recording-out healthy scores, shape `(n,)`; NaN entries are left out.

    Returns:
        Their spread; None without a finite score.
    """
    known = scores[np.isfinite(scores)].astype(np.float64)
    if not len(known):
        return None
    median, start, usual = np.quantile(known, (0.5, TAIL_QUANTILE, ZONE_A_QUANTILE))
    excess = known[known > start] - start
    tail = float(excess.mean()) if len(excess) else float(np.ptp(known))
    return HealthySpread(float(median), float(usual), max(tail, _least(known)))


def scale_of(threshold: float, healthy: HealthySpread | None) -> Scale:
    """The scale for a threshold in force.

    Args:
        threshold: Raw.
        healthy: Where healthy scores lie; None when that isn't known: then the threshold's own size
            stands for its height over the healthy median.

    Returns:
        A scale whose 1.0 is the threshold, always. A threshold that was set at or below the healthy
        median by hand has no height over it: there the tail's scale stands for that.
    """
    if healthy is None:
        height = abs(threshold) if abs(threshold) > _CLOSEST else 1.0
        return Scale(threshold - height, threshold, threshold, threshold + (LEAST_D - 1.0) * height)
    median = healthy.median
    height = threshold - median
    if height <= max(_CLOSEST * abs(threshold), 1e-12):
        height = healthy.tail
        median = threshold - height
    severe = threshold + max(healthy.tail * math.log(RARER_IN_D), (LEAST_D - 1.0) * height)
    return Scale(median, threshold, min(healthy.usual, threshold), severe)


def of_length(scale: Scale, usual: float, limit: float) -> Scale:
    """The scale of recordings held against another limit, for their number of windows.

    Args:
        scale: Of recordings of the usual number.
        usual: The limit of those, raw.
        limit: That of these.
    """
    if limit == usual or limit <= scale.median:
        return scale
    return Scale(scale.median, limit, min(scale.usual, limit), scale.severe + limit - usual)


def _least(values: npt.NDArray[np.float64]) -> float:
    return max(_CLOSEST * float(np.abs(values).max()), 1e-12)
