"""The simple charts a drift monitor has to beat, on the same features of the same sequence.

Each turns windows into a statistic with a limit; `decide` then applies to every one of them, DtMM
included, the same evaluation grid and the same persistence rule. The score that EWMA, CUSUM and
Kolmogorov-Smirnov watch is the window's negative log density under the baseline mixture.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view
from scipy.stats import ks_2samp
from sklearn.covariance import LedoitWolf

from agent.drift.mixture import Array
from agent.drift_fit.fit import Fit
from agent.drift_fit.median import distances, own_limit, rolling

_SIGMAS = 3.0
_CUSUM_SLACK = 0.5
_CUSUM_LIMIT = 5.0
_KS_LEVEL = 0.00135  # what lies beyond 3 sigma on one side
_REFERENCE = 500
_DRAWS = 400
_OUT_OF, _ABOVE = 20, 15  # windows beyond the healthy ones for the Mahalanobis chart to exceed
_FARTHEST = 0.99


@dataclass(frozen=True, slots=True, eq=False)
class Trace:
    """One monitor over a sequence.

    Attributes:
        windows: Window indices of the evaluations, shape `(e,)`.
        ratio: Statistic over limit at each, shape `(e,)`; above 1 exceeds.
        warnings: Windows at which a warning was raised.
        active: Evaluations at which one stood, shape `(e,)`.
    """

    windows: npt.NDArray[np.int64]
    ratio: Array
    warnings: list[int]
    active: npt.NDArray[np.bool_]


def decide(windows: npt.NDArray[np.int64], ratio: Array, persistence: tuple[int, int]) -> Trace:
    """Raise a warning when n of the last m evaluations exceed, clear it when none of m does."""
    need, of = persistence
    flags: list[bool] = []
    active, warnings = False, []
    standing = np.zeros(len(ratio), dtype=bool)
    for row, value in enumerate(ratio):
        flags = [*flags, bool(value > 1)][-of:]
        if not active and sum(flags) >= need:
            active = True
            warnings.append(int(windows[row]))
        elif active and len(flags) == of and not any(flags):
            active = False
        standing[row] = active
    return Trace(windows, ratio, warnings, standing)


@dataclass(frozen=True, slots=True, eq=False)
class Charts:
    """The charts, calibrated.

    Attributes:
        mean: Mean score of the held-out healthy windows.
        sd: Its standard deviation.
        held_out: Those scores, sorted.
        reference: Reduced features MMD compares with, `(r, d)`.
        width: Squared width of MMD's kernel.
        limits: Of KS and MMD as textbooks set them, and of `ewma`, `ks`, `mmd` when calibrated on
            DtMM's normal-state blocks (`... tolerant`).
    """

    fit: Fit
    mean: float
    sd: float
    held_out: Array
    reference: Array
    width: float
    limits: dict[str, float]

    def scores(self, features: Array) -> Array:
        """Standardised scores of windows `(n, D)`, shape `(n,)`."""
        baseline = self.fit.baseline
        density = baseline.mixture.log_density(baseline.reducer.reduce(features))
        return np.asarray((-density - self.mean) / self.sd)

    def mmd(self, features: Array) -> float:
        """Unbiased squared maximum mean discrepancy of a block to the reference (Gretton 2012)."""
        block = self.fit.baseline.reducer.reduce(features)
        return _mmd(block, self.reference, self.width)

    def ks(self, scores: Array) -> float:
        """Kolmogorov-Smirnov distance of a block's scores to the held-out ones."""
        return float(ks_2samp(scores, self.held_out).statistic)


def calibrate_charts(fit: Fit, seed: int) -> Charts:
    """Set every limit from the baseline alone."""
    baseline = fit.baseline
    rng = np.random.default_rng(seed)
    model, held_out = (baseline.reducer.reduce(part) for part in (fit.model, fit.held_out))
    raw = -baseline.mixture.log_density(held_out)
    sd = max(float(raw.std(ddof=1)), 1e-9)
    mean = float(raw.mean())
    reference = model[rng.permutation(len(model))[:_REFERENCE]]
    squares = _squares(reference, reference)
    width = float(np.median(squares[np.triu_indices(len(reference), 1)])) or 1.0
    block = baseline.record.block
    null = [
        _mmd(held_out[rng.integers(len(held_out), size=block)], reference, width)
        for _ in range(_DRAWS)
    ]
    charts = Charts(fit, mean, sd, np.sort((raw - mean) / sd), reference, width, {})
    limits = {
        "ks": _ks_limit(block, len(held_out)),
        "mmd": float(np.mean(null) + _SIGMAS * np.std(null)),
    }
    sigmas = baseline.record.sigmas
    weight = 2 / (block + 1)
    statistics: dict[str, Callable[[Array], float]] = {
        "ewma": lambda windows: _smooth(charts.scores(windows), weight)[-1],
        "ks": lambda windows: charts.ks(charts.scores(windows)),
        "mmd": charts.mmd,
    }
    for name, statistic in statistics.items():
        values = np.array([statistic(windows) for windows in fit.normal])
        limits[f"{name} tolerant"] = float(values.mean() + sigmas * values.std(ddof=1))
    return Charts(fit, mean, sd, charts.held_out, reference, width, limits)


def run_charts(
    charts: Charts, features: Array, indices: npt.NDArray[np.int64]
) -> tuple[dict[str, Trace], dict[str, Trace]]:
    """Run the charts over the windows after the baseline.

    Args:
        charts: Calibrated.
        features: Judged windows after the baseline, `(n, D)`.
        indices: Their place in the sequence, `(n,)`.

    Returns:
        The charts with textbook limits, and those with DtMM's own allowance for healthy change
        (which tells how much of DtMM's quietness is the allowance and how much the mixture).
    """
    record = charts.fit.baseline.record
    reducer = charts.fit.baseline.reducer
    scores = charts.scores(features)
    weight = 2 / (record.block + 1)
    rows = np.arange(record.block - 1, len(features), record.hop)
    at = indices[rows]
    smooth = _smooth(scores, weight)[rows]
    blocks = [slice(row - record.block + 1, row + 1) for row in rows]
    ks = np.array([charts.ks(scores[block]) for block in blocks])
    mmd = np.array([charts.mmd(features[block]) for block in blocks])
    limits = charts.limits
    # The charts over windows of their own begin on the end of the baseline.
    before = np.concatenate([charts.fit.whole, features])
    first = len(charts.fit.whole) + rows
    median = distances(rolling(before, record.block), reducer)[first - record.block + 1]
    ewma_limit = _SIGMAS * np.sqrt(weight / (2 - weight))
    textbook = {
        "median": median / own_limit(charts.fit.whole, reducer, record.block),
        "mahalanobis": _mahalanobis(charts.fit, before)[first],
        "ewma": smooth / ewma_limit,
        "cusum": _cusum(scores)[rows] / _CUSUM_LIMIT,
        "ks": ks / limits["ks"],
        "mmd": mmd / limits["mmd"],
    }
    tolerant = {
        "ewma": smooth / limits["ewma tolerant"],
        "ks": ks / limits["ks tolerant"],
        "mmd": mmd / limits["mmd tolerant"],
    }
    need = record.persistence
    return (
        {name: decide(at, ratio, need) for name, ratio in textbook.items()},
        {name: decide(at, ratio, need) for name, ratio in tolerant.items()},
    )


def _mahalanobis(fit: Fit, features: Array) -> Array:
    """Distance that 15 of the last 20 windows exceed, over the healthy 99 % quantile, `(n,)`.

    The covariance is Ledoit and Wolf's of the model part; the quantile is the held-out part's.
    """
    reducer = fit.baseline.reducer
    model = LedoitWolf().fit((fit.model - reducer.centre) / reducer.scale)

    def distance(windows: Array) -> Array:
        squares = model.mahalanobis((windows - reducer.centre) / reducer.scale)
        return np.asarray(np.sqrt(squares), dtype=np.float64)

    ratio = distance(features) / np.quantile(distance(fit.held_out), _FARTHEST)
    padded = np.concatenate([np.zeros(_OUT_OF - 1), ratio])
    return np.asarray(np.sort(sliding_window_view(padded, _OUT_OF), axis=1)[:, _OUT_OF - _ABOVE])


def _smooth(scores: Array, weight: float) -> Array:
    """Exponentially weighted moving average from 0 (Roberts 1959)."""
    result, value = np.empty(len(scores)), 0.0
    for row, score in enumerate(scores):
        value += weight * (float(score) - value)
        result[row] = value
    return result


def _cusum(scores: Array) -> Array:
    """One-sided cumulative sum with slack (Page 1954), held at twice the limit so it can clear."""
    result, value = np.empty(len(scores)), 0.0
    for row, score in enumerate(scores):
        value = min(max(0.0, value + float(score) - _CUSUM_SLACK), 2 * _CUSUM_LIMIT)
        result[row] = value
    return result


def _ks_limit(block: int, held_out: int) -> float:
    """Two-sample distance of the stated level, by Smirnov's asymptotic law."""
    return float(np.sqrt(-np.log(_KS_LEVEL / 2) / 2 * (block + held_out) / (block * held_out)))


def _squares(one: Array, other: Array) -> Array:
    return np.asarray(((one[:, None, :] - other[None, :, :]) ** 2).sum(axis=2))


def _mmd(block: Array, reference: Array, width: float) -> float:
    def kernel(one: Array, other: Array) -> Array:
        return np.asarray(np.exp(-_squares(one, other) / (2 * width)))

    n, m = len(block), len(reference)
    inside = (kernel(block, block).sum() - n) / (n * (n - 1))
    beyond = (kernel(reference, reference).sum() - m) / (m * (m - 1))
    return float(inside + beyond - 2 * kernel(block, reference).mean())
