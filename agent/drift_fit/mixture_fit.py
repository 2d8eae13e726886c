"""The baseline mixture: a Dirichlet process says how many components, Student-t tails follow.

First variational inference for a Gaussian mixture under a truncated Dirichlet process
(`dirichlet`) gives number, weights and places. Then expectation-maximisation for
Student-t components (Svensen and Bishop 2005 in its maximum a posteriori form) starts from there.
The degrees of freedom are one number for all components, since a few dozen windows cannot tell the
tails of several apart; it maximises the likelihood over [3, 100] after every step (ECME), so the
data say how heavy the tails are, and 100 is as good as Gaussian.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from agent.drift.mixture import Array, Mixture, log_sum_exp
from agent.drift_fit.dirichlet import fit_components

LEAST_DOF, MOST_DOF = 3.0, 100.0
_LEAST_WINDOWS = 5  # a component of fewer windows has no scale of its own
_WINDOWS_A_COMPONENT = 8
_PRIOR_WINDOWS = 4.0  # weight of the overall spread in each component's scale
_STEPS = 40
_DOF_NEAR = 0.02  # of the logarithm of the degrees of freedom


def fit_mixture(points: Array, *, max_components: int, seed: int) -> Mixture:
    """Fit a Student-t mixture.

    Args:
        points: Shape `(n, d)`, n at least 4.
        max_components: Truncation of the Dirichlet process.
        seed: Of its start.

    Returns:
        A mixture of at most `max_components` components, heaviest first.
    """
    count = int(np.clip(len(points) // _WINDOWS_A_COMPONENT, 1, max_components))
    model = fit_components(points, count, concentration=1.0 / count, seed=seed)
    windows = model.weights * len(points)
    keep = np.flatnonzero(windows >= min(_LEAST_WINDOWS, windows.max()))
    keep = keep[np.argsort(-windows[keep])]
    start = Mixture(
        logits=np.log(windows[keep] / windows[keep].sum()),
        means=model.means[keep],
        log_scales=0.5 * np.log(model.variances[keep]),
        dof=10.0,
    )
    return _student(start, points)


def _student(start: Mixture, points: Array) -> Mixture:
    """Refine with Student-t components."""
    dims = points.shape[1]
    overall = np.maximum(points.var(axis=0), 1e-12)
    mixture = start
    for _ in range(_STEPS):
        squared = mixture.squared_distances(points)
        joint = mixture.joint_log_density(points, squared)
        belongs = np.exp(joint - log_sum_exp(joint)[:, None])
        trust = belongs * (mixture.dof + dims) / (mixture.dof + squared)
        counts = belongs.sum(axis=0)
        means = (trust.T @ points) / trust.sum(axis=0)[:, None]
        spread = (trust[:, :, None] * (points[:, None, :] - means) ** 2).sum(axis=0)
        variance = (spread + _PRIOR_WINDOWS * overall / len(start.logits)) / (
            counts[:, None] + _PRIOR_WINDOWS
        )
        mixture = Mixture(
            logits=np.log(np.maximum(counts, 1e-3) / len(points)),
            means=means,
            log_scales=0.5 * np.log(variance),
            dof=mixture.dof,
        )
        mixture = _with_dof(mixture, points)
    return mixture


def _with_dof(mixture: Mixture, points: Array) -> Mixture:
    """Choose the degrees of freedom by likelihood, the rest being given."""

    def loss(log_dof: float) -> float:
        tried = Mixture(mixture.logits, mixture.means, mixture.log_scales, float(np.exp(log_dof)))
        return -float(tried.log_density(points).sum())

    best = _least(loss, math.log(LEAST_DOF), math.log(MOST_DOF))
    return Mixture(mixture.logits, mixture.means, mixture.log_scales, math.exp(best))


def _least(loss: Callable[[float], float], low: float, high: float) -> float:
    """Where a function of one valley is least, by golden sections."""
    share = (math.sqrt(5.0) - 1.0) / 2.0
    left, right = high - share * (high - low), low + share * (high - low)
    at_left, at_right = loss(left), loss(right)
    while high - low > _DOF_NEAR:
        if at_left < at_right:
            high, right, at_right = right, left, at_left
            left = high - share * (high - low)
            at_left = loss(left)
        else:
            low, left, at_left = left, right, at_right
            right = low + share * (high - low)
            at_right = loss(right)
    return 0.5 * (low + high)
