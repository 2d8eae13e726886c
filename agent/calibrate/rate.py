"""From "one false alarm in 30 days" to the share of windows that may lie above the threshold.

An alarm takes N of M windows, and windows are anything but independent: they overlap, and a machine
that sounds odd now does so in the next second too. With independent windows 3 of 5 would all but
exclude chance; with ten-second windows every second, one odd moment is in ten of them.

So the scores are taken for a stationary Gaussian process after a monotonic transformation (which
changes no exceedance), with the correlation

    rho(t) = s exp(-t / T) + (1 - s) max(0, 1 - t / W)

W is the window's length: what the overlap alone does to windows of independent sound. s is the
correlation of windows of one recording that do not overlap, measured on the healthy scores, and T
the length of those recordings, beyond which nothing was measured. Where s cannot be measured, the
least favourable of several is taken, over two minutes at least: machines that change their load
every few minutes had 0.15 to 0.6 there (`benchmarks/service_days.py`).

A window raises the alarm only if it is itself above the threshold, so the rate of alarms is

    nu(p) = p * P(this window raises the alarm | it is above the threshold u(p))

and the second factor is found by drawing what came before, given that this window is above: that
stays exact however rare p is. It is at most 1/N, so that p >= N nu holds whatever the correlation.
What the model does not know are healthy changes slower than the recordings; a caveat says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from agent.bundle.manifest import Row

_NORMAL = NormalDist()
_DRAWS = 8000
_LONGEST = 240  # windows of the past that are drawn
_UNMEASURED, _UNMEASURED_SECONDS = (0.0, 0.3, 0.6), 120.0
# So many pairs of windows, from so many recordings, tell a correlation.
_PAIRS, _RECORDINGS = 40, 5
_MOST = 0.98
# Above this share the threshold would lie among the ordinary windows.
_HIGHEST_RATE = 0.2

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Correlation:
    """How alike a recording's windows score.

    Attributes:
        share: s, in [0, 1); None when the recordings are too short or few to tell.
        seconds: T, seconds.
    """

    share: float | None
    seconds: float


@dataclass(frozen=True, slots=True)
class Counting:
    """How windows become alarms.

    Attributes:
        hop_seconds: Step between windows.
        window_seconds: Length of a window.
        raise_windows: N...
        of_windows: ...of M raise the alarm.
        clear_windows: Quiet ones in a row that clear it.
    """

    hop_seconds: float
    window_seconds: float
    raise_windows: int
    of_windows: int
    clear_windows: int


def measure_correlation(
    scores: npt.NDArray[np.float32], rows: Sequence[Row], window_seconds: float
) -> Correlation:
    """Correlation of the healthy scores of one recording's windows that do not overlap.

    Args:
        scores: Leave-one-recording-out healthy scores, shape `(n,)`.
        rows: Where each came from.
        window_seconds: Length of a window.
    """
    known = np.flatnonzero(np.isfinite(scores))
    if not len(known):
        return Correlation(None, window_seconds)
    domains = np.array([rows[i].domain for i in known])
    sources = np.array([rows[i].source for i in known])
    starts = np.array([rows[i].start for i in known])
    normal = np.empty(len(known))
    for domain in np.unique(domains):
        inside = np.flatnonzero(domains == domain)
        ranks = np.argsort(np.argsort(scores[known[inside]], kind="stable"), kind="stable")
        normal[inside] = [_NORMAL.inv_cdf((rank + 0.5) / len(inside)) for rank in ranks]
    products, lengths, total = [], [], 0
    for source in np.unique(sources):
        inside = np.flatnonzero(sources == source)
        lengths.append(float(np.ptp(starts[inside])) + window_seconds)
        # Of each window all that begin at its end or later; not a table of pairs, which a recording
        # of hours would make too large for a device.
        order = inside[np.argsort(starts[inside], kind="stable")]
        first = np.searchsorted(starts[order], starts[order] + window_seconds - 1e-6)
        pairs = int((len(order) - first).sum())
        if pairs:
            later = np.append(np.cumsum(normal[order][::-1])[::-1], 0.0)
            total += pairs
            # Each recording counts once, however long it is.
            products.append(float(normal[order] @ later[first]) / pairs)
    seconds = max(window_seconds, float(np.median(lengths)))
    if len(products) < _RECORDINGS or total < _PAIRS:
        return Correlation(None, seconds)
    variance = float(np.mean(np.square(normal)))
    share = float(np.clip(np.mean(products) / max(variance, 1e-9), 0.0, _MOST))
    return Correlation(share, seconds)


def window_rate(
    per_second: float, counting: Counting, correlation: Correlation, lasting: float = 0.0
) -> float:
    """Share of healthy windows that may lie above the threshold.

    Args:
        per_second: Alarms a second that a healthy machine may raise.
        counting: How windows become alarms.
        correlation: Of the healthy scores.
        lasting: Healthy states are taken to last so long at least, whatever was measured, and
            to be as alike as the least favourable that is assumed where nothing was; seconds.

    Returns:
        In (0, 0.2]; the same inputs always give the same.
    """
    target = per_second * counting.hop_seconds
    seconds, measured = max(correlation.seconds, lasting), correlation.share
    shares: tuple[float, ...]
    if measured is None:
        shares, seconds = _UNMEASURED, max(seconds, _UNMEASURED_SECONDS)
    else:
        shares = (max(measured, _UNMEASURED[-1]) if lasting else measured,)
    return _least(target, counting, shares, seconds)


# Export and evaluation ask the same again and again: for each scorer, rehearsal and machine.
@lru_cache(maxsize=64)
def _least(target: float, counting: Counting, shares: tuple[float, ...], seconds: float) -> float:
    """The largest share of windows that is allowed whichever of the correlations is true."""
    least = _HIGHEST_RATE
    # The strongest is the least favourable mostly: of the others it is only asked whether they
    # allow what that one does.
    for share in sorted(shares, reverse=True):
        past = _Past(counting, Correlation(share, seconds))
        if least == _HIGHEST_RATE or not _allows(past, least, target):
            least = min(least, _solve(past, target))
    return least


def _allows(past: _Past, rate: float, target: float) -> bool:
    return rate * past.raises(rate) <= target


def _solve(past: _Past, target: float) -> float:
    low = min(target * past.counting.raise_windows, _HIGHEST_RATE)
    high = low
    while high < _HIGHEST_RATE and _allows(past, high, target):
        low, high = high, min(2.0 * high, _HIGHEST_RATE)
    if _allows(past, high, target):
        return high
    for _ in range(8):
        middle = float(np.sqrt(low * high))
        if _allows(past, middle, target):
            low = middle
        else:
            high = middle
    return low


class _Past:
    """Draws of what came before a window that is above the threshold."""

    def __init__(self, counting: Counting, correlation: Correlation) -> None:
        self.counting = counting
        overlap = counting.window_seconds / counting.hop_seconds
        wanted = counting.of_windows + counting.clear_windows + 3.0 * overlap
        length = int(np.clip(wanted, 2 * counting.of_windows, _LONGEST))
        lags = np.arange(length + 1) * counting.hop_seconds
        share = correlation.share or 0.0
        rho = share * np.exp(-lags / correlation.seconds) + (1.0 - share) * np.maximum(
            0.0, 1.0 - lags / counting.window_seconds
        )
        places = np.arange(length)
        joint = rho[np.abs(places[:, None] - places[None, :])]
        # Given window 0, what the others have of it is taken out.
        self._to_now = rho[length - places]
        rest = joint - np.outer(self._to_now, self._to_now)
        values, vectors = np.linalg.eigh(rest)
        rng = np.random.default_rng(0)
        draws = rng.standard_normal((_DRAWS, length)).astype(np.float32)
        root = (vectors * np.sqrt(np.maximum(values, 0.0))).T.astype(np.float32)
        self._others = draws @ root
        self._uniform = (rng.permutation(_DRAWS) + 0.5) / _DRAWS

    def raises(self, rate: float) -> float:
        """Probability that a window raises the alarm, given that it is above the threshold."""
        threshold = -_NORMAL.inv_cdf(rate)
        now = -np.fromiter(map(_NORMAL.inv_cdf, (rate * self._uniform).tolist()), float, _DRAWS)
        before = self._others + now[:, None] * self._to_now[None, :]
        above = np.concatenate([before > threshold, np.ones((_DRAWS, 1), bool)], axis=1)
        hits = int(_raised_last(above, self.counting).sum())
        # One more than was seen: none in so many draws is not never.
        return min((hits + 1) / (_DRAWS + 1), 1.0 / self.counting.raise_windows)


def _raised_last(above: npt.NDArray[np.bool_], counting: Counting) -> npt.NDArray[np.bool_]:
    """Which rows raise the alarm with their last window, by the rules of `AlarmDecider`."""
    m = counting.of_windows
    draws, length = above.shape
    active: npt.NDArray[np.bool_] = np.zeros(draws, bool)
    raised: npt.NDArray[np.bool_] = np.zeros(draws, bool)
    quiet: npt.NDArray[np.int32] = np.zeros(draws, np.int32)
    # Window by window, each row of memory whole; how many are loud is counted on, not anew.
    windows = np.ascontiguousarray(above.T)
    recent = np.zeros((m, draws), bool)
    loud_ones: npt.NDArray[np.int32] = np.zeros(draws, np.int32)
    for place in range(length):
        loud = windows[place]
        slot = recent[place % m]
        loud_ones -= slot
        np.logical_and(loud, ~active, out=slot)
        loud_ones += slot
        raised = ~active & (loud_ones >= counting.raise_windows)
        quiet = np.where(active & ~loud, quiet + 1, 0)
        cleared = active & (quiet >= counting.clear_windows)
        active = (active | raised) & ~cleared
        forgotten = np.flatnonzero(raised | cleared)
        recent[:, forgotten] = False
        loud_ones[forgotten] = 0
    return raised
