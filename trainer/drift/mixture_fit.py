"""The baseline mixture: a Dirichlet process says how many components, Student-t tails follow.

First scikit-learn's variational inference for a Gaussian mixture under a truncated Dirichlet
process (Blei and Jordan 2006) gives number, weights and places. Then expectation-maximisation for
Student-t components (Svensen and Bishop 2005 in its maximum a posteriori form) starts from there.
The degrees of freedom are one number for all components, since a few dozen windows cannot tell the
tails of several apart; it maximises the likelihood over [3, 100] after every step (ECME), so the
data say how heavy the tails are, and 100 is as good as Gaussian.
"""

from __future__ import annotations

import warnings

import numpy as np
from scipy.optimize import minimize_scalar
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import BayesianGaussianMixture

from agent.drift.mixture import Array, Mixture, log_sum_exp

LEAST_DOF, MOST_DOF = 3.0, 100.0
_LEAST_WINDOWS = 5  # a component of fewer windows has no scale of its own
_WINDOWS_A_COMPONENT = 8
_PRIOR_WINDOWS = 4.0  # weight of the overall spread in each component's scale
_STEPS = 40


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
    model = BayesianGaussianMixture(
        n_components=count,
        covariance_type="diag",
        weight_concentration_prior_type="dirichlet_process",
        weight_concentration_prior=1.0 / count,
        reg_covar=1e-6,
        max_iter=500,
        n_init=3,
        random_state=seed,
    )
    with warnings.catch_warnings():
        # The Student-t steps below go on from wherever it stops.
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(points)
    windows = np.asarray(model.weights_) * len(points)
    keep = np.flatnonzero(windows >= min(_LEAST_WINDOWS, windows.max()))
    keep = keep[np.argsort(-windows[keep])]
    start = Mixture(
        logits=np.log(windows[keep] / windows[keep].sum()),
        means=np.asarray(model.means_[keep], dtype=np.float64),
        log_scales=0.5 * np.log(np.asarray(model.covariances_[keep], dtype=np.float64)),
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

    best = minimize_scalar(
        loss,
        bounds=(np.log(LEAST_DOF), np.log(MOST_DOF)),
        method="bounded",
        options={"xatol": 0.02},
    )
    return Mixture(mixture.logits, mixture.means, mixture.log_scales, float(np.exp(best.x)))
