"""A Gaussian mixture under a truncated Dirichlet process, by variational inference.

Blei and Jordan 2006, "Variational inference for Dirichlet process mixtures", with diagonal
covariances under normal-gamma priors (Bishop 2006, section 10.2): the stick-breaking process takes
weight from components that the data do not ask for. Priors are those of scikit-learn's
`BayesianGaussianMixture`: means at the overall mean with the weight of one point, variances at the
overall variance with as many degrees of freedom as dimensions. NumPy is all there is, so that a
device can fit.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from agent.calibrate.gamma import digamma
from agent.drift.mixture import Array, log_sum_exp

_STARTS = 3
_MOST_STEPS, _ENOUGH = 500, 1e-3
_CENTRE_STEPS = 100
# Keeps a component of equal points from a variance of nothing.
_LEAST_VARIANCE = 1e-6


@dataclass(frozen=True, slots=True, eq=False)
class Components:
    """A fitted mixture.

    Attributes:
        weights: Shape `(k,)`, sum 1.
        means: Shape `(k, d)`.
        variances: Shape `(k, d)`.
        bound: Lower bound of the evidence, up to a constant of the data; higher is better.
    """

    weights: Array
    means: Array
    variances: Array
    bound: float


def fit_components(points: Array, count: int, *, concentration: float, seed: int) -> Components:
    """Fit, from a few starts, and keep the best.

    Args:
        points: Shape `(n, d)`, n at least 2.
        count: Truncation of the process.
        concentration: Of the process: the smaller, the fewer components.
        seed: Of the starts.
    """
    rng = np.random.default_rng(seed)
    count = min(count, len(points))
    found = [_climb(points, _nearest(points, count, rng), concentration) for _ in range(_STARTS)]
    return max(found, key=lambda one: one.bound)


def _nearest(points: Array, count: int, rng: np.random.Generator) -> Array:
    """Points to the nearest of k-means' centres, as 0 and 1, `(n, k)`; k-means++ chooses starts."""
    centres = points[[int(rng.integers(len(points)))]]
    while len(centres) < count:
        away = ((points[:, None, :] - centres) ** 2).sum(axis=2).min(axis=1)
        total = float(away.sum())
        if total <= 0:  # fewer different points than components
            break
        centres = np.concatenate([centres, points[[int(rng.choice(len(points), p=away / total))]]])
    own = np.zeros(len(points), np.int64)
    for _ in range(_CENTRE_STEPS):
        new = np.argmin(((points[:, None, :] - centres) ** 2).sum(axis=2), axis=1)
        if (new == own).all():
            break
        own = new
        centres = np.stack(
            [
                points[own == k].mean(axis=0) if (own == k).any() else centres[k]
                for k in range(len(centres))
            ]
        )
    return np.eye(count)[own]


def _climb(points: Array, belongs: Array, concentration: float) -> Components:
    """Variational steps from responsibilities `(n, k)` until the bound stands."""
    _, dims = points.shape
    middle, prior_variance = points.mean(axis=0), np.var(points, axis=0, ddof=1)
    bound = -np.inf
    for _ in range(_MOST_STEPS):
        amounts = belongs.sum(axis=0) + 10 * np.finfo(np.float64).eps
        averages = belongs.T @ points / amounts[:, None]
        scatter = belongs.T @ points**2 / amounts[:, None] - averages**2
        scatter = np.maximum(scatter, 0.0) + _LEAST_VARIANCE
        behind = np.concatenate([np.cumsum(amounts[::-1])[-2::-1], [0.0]])
        sticks = 1.0 + amounts, concentration + behind
        certain = 1.0 + amounts  # precision of the means
        means = (middle + amounts[:, None] * averages) / certain[:, None]
        freedom = dims + amounts
        variances = (
            prior_variance
            + amounts[:, None] * (scatter + (averages - middle) ** 2 / certain[:, None])
        ) / freedom[:, None]
        logs = _log_weights(*sticks) + _log_densities(points, means, variances, certain, freedom)
        log_belongs = logs - log_sum_exp(logs)[:, None]
        belongs = np.exp(log_belongs)
        before, bound = bound, _bound(belongs, log_belongs, sticks, variances, certain, freedom)
        if abs(bound - before) < _ENOUGH:
            break
    taken = sticks[0] / (sticks[0] + sticks[1])
    weights = taken * np.concatenate([[1.0], np.cumprod(1.0 - taken)[:-1]])
    return Components(weights / weights.sum(), means, variances, bound)


def _log_weights(one: Array, rest: Array) -> Array:
    """Expected logarithm of each weight, of sticks broken by Beta(one, rest)."""
    both = _digamma(one + rest)
    left = _digamma(rest) - both
    return np.asarray(_digamma(one) - both + np.concatenate([[0.0], np.cumsum(left)[:-1]]))


def _log_densities(
    points: Array, means: Array, variances: Array, certain: Array, freedom: Array
) -> Array:
    """Expected logarithm of each component's density at each point, `(n, k)`."""
    dims = points.shape[1]
    squares = (((points[:, None, :] - means) ** 2) / variances).sum(axis=2)
    gauss = -0.5 * (dims * math.log(2.0 * math.pi) + squares + np.log(variances).sum(axis=1))
    lengths = dims * math.log(2.0) + sum(_digamma(0.5 * (freedom - i)) for i in range(dims))
    return np.asarray(gauss - 0.5 * dims * np.log(freedom) + 0.5 * (lengths - dims / certain))


def _bound(
    belongs: Array,
    log_belongs: Array,
    sticks: tuple[Array, Array],
    variances: Array,
    certain: Array,
    freedom: Array,
) -> float:
    """Lower bound of the evidence, without what is the same at every step."""
    dims = variances.shape[1]
    scale = -0.5 * np.log(variances).sum(axis=1) - 0.5 * dims * np.log(freedom)
    wishart = -(
        freedom * scale
        + freedom * dims * 0.5 * math.log(2.0)
        + sum(_log_gamma(0.5 * (freedom - i)) for i in range(dims))
    )
    betas = _log_gamma(sticks[0]) + _log_gamma(sticks[1]) - _log_gamma(sticks[0] + sticks[1])
    return float(
        -np.sum(belongs * log_belongs)
        - wishart.sum()
        + betas.sum()
        - 0.5 * dims * np.log(certain).sum()
    )


def _digamma(values: Array) -> Array:
    return np.array([digamma(value) for value in np.ravel(values).tolist()])


def _log_gamma(values: Array) -> Array:
    return np.array([math.lgamma(value) for value in np.ravel(values).tolist()])
