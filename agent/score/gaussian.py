"""Covariances of few samples in many dimensions, and distances in their units."""

from __future__ import annotations

import numpy as np

from agent.core.errors import ConfigError
from agent.score.scorer import Floats

# Added to every covariance, as a share of its mean variance: rounding must not make it singular.
_RIDGE = 1e-9
# A direction with less than this share of it left, given the others, holds rounding errors only.
_SINGULAR = 1e-8
_TINY = 1e-30


def covariance(centered: Floats, shrinkage: float | None) -> Floats:
    """Covariance, drawn towards the identity times its mean variance.

    Args:
        centered: Samples less their mean (or less zero), shape `(n, d)`.
        shrinkage: Share of that identity; None for the share that Ledoit and Wolf (2004,
            "A well-conditioned estimator for large-dimensional covariance matrices") find best.

    Returns:
        Shape `(d, d)`, symmetric.
    """
    count, dim = centered.shape
    empirical = centered.T @ centered / count
    middle = max(float(np.trace(empirical)) / dim, _TINY)
    share = _ledoit_wolf(centered, empirical, middle) if shrinkage is None else shrinkage
    shrunk: Floats = (1.0 - share) * empirical
    shrunk[np.diag_indices(dim)] += share * middle + _RIDGE * middle
    return shrunk


def _ledoit_wolf(centered: Floats, empirical: Floats, middle: float) -> float:
    count, dim = centered.shape
    squares = float(np.sum(empirical**2))
    # |S - mu I|^2 / d, and how much of it is the scatter of the estimate.
    apart = (squares - dim * middle**2) / dim
    fourth = float(np.sum(np.sum(centered**2, axis=1) ** 2)) / count
    scatter = (fourth - squares) / (dim * count)
    if apart <= 0.0:
        return 1.0
    # Of Gaussian samples it is 2 / n at least. Two samples, and copies of two, seem to scatter not
    # at all, and would leave the covariance singular.
    return float(np.clip(scatter / apart, 1.0 / count, 1.0))


def whitening(matrix: Floats) -> Floats:
    """W with |W x|^2 = x' C^-1 x: the inverse of the covariance's Cholesky factor, `(d, d)`.

    Raises:
        ConfigError: The covariance is singular.
    """
    try:
        factor = np.linalg.cholesky(matrix)
        least = float(np.min(np.diag(factor))) ** 2
    except np.linalg.LinAlgError:
        least = 0.0
    if not least > _SINGULAR * float(np.trace(matrix)) / len(matrix):
        raise ConfigError(
            "the healthy windows are too few for a covariance of their embeddings",
            where="scorer.shrinkage",
            remedy="Leave it null, or set it above 0.",
        )
    inverse: Floats = np.linalg.solve(factor, np.eye(len(factor)))
    return inverse


def log_determinant(white: Floats) -> float:
    """Log det W, for the density of a Gaussian."""
    return float(np.sum(np.log(np.diag(white))))


def log_sum(values: Floats) -> Floats:
    """Log sum exp over the last axis."""
    largest = values.max(axis=-1)
    total: Floats = largest + np.log(np.exp(values - largest[..., None]).sum(axis=-1))
    return total
