"""Columns of an embedding in units of what healthy sound does: centred, scaled, perhaps turned.

Robust: (x - median) / max(1.4826 MAD, least spread), column by column. Whitened: that, then along
the principal axes of the healthy windows' covariance, each divided by its deviation; the covariance
is shrunk towards a multiple of the identity, so that few recordings suffice. In a view with level,
the direction in which all bands rise together is where healthy sound varies most, so whitening is
what keeps a level that means nothing from drowning what does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from agent.core.records import Matrix
from agent.score.scorer import Floats, HealthySet, State, take

# Arrays of a part's state.
CENTRE, AXES = "centre", "axes"
# Share of the covariance that is replaced by a multiple of the identity.
_SHRINKAGE = 0.2
_NORMAL_MAD = 1.4826  # a normal law's deviation in units of its median absolute deviation
_TINY = 1e-12


@dataclass(frozen=True, slots=True)
class Standard:
    """What is subtracted from columns, and what they are multiplied by.

    Attributes:
        centre: Shape `(dim,)`.
        axes: Shape `(dim,)`, a factor a column, or `(dim, dim)`, a matrix from the right.
    """

    centre: Floats
    axes: Floats

    def apply(self, vectors: Matrix) -> Matrix:
        """Standardise `(n, dim)`; float32, same shape."""
        centred = vectors.astype(np.float64) - self.centre
        turned = centred * self.axes if self.axes.ndim == 1 else centred @ self.axes
        return turned.astype(np.float32)

    def of(self, healthy: HealthySet) -> HealthySet:
        """Healthy windows, standardised."""
        return HealthySet(self.apply(healthy.vectors), healthy.rows)

    @property
    def state(self) -> State:
        """Arrays of the standardisation for a bundle, float32."""
        return {CENTRE: self.centre.astype(np.float32), AXES: self.axes.astype(np.float32)}


def fit_standard(
    vectors: Matrix, kind: Literal["robust", "whiten"], *, least_spread: float
) -> Standard:
    """Learn it from healthy windows.

    Args:
        vectors: Their embeddings, float32 `(n, dim)`.
        kind: With or without turning.
        least_spread: Least spread that a column is divided by, in its unit.
    """
    values = vectors.astype(np.float64)
    centre = np.median(values, axis=0)
    spread = _NORMAL_MAD * np.median(np.abs(values - centre), axis=0)
    scale = 1.0 / np.maximum(spread, least_spread)
    if kind == "robust" or len(values) < 2:
        return Standard(centre, scale)
    # Moments by products, so that a large bank is not copied once more than needed.
    scaled = (values - centre) * scale
    mean = scaled.mean(axis=0)
    covariance = scaled.T @ scaled / len(scaled) - np.outer(mean, mean)
    size = max(float(np.trace(covariance)) / len(covariance), _TINY)
    covariance = (1.0 - _SHRINKAGE) * covariance + _SHRINKAGE * size * np.eye(len(covariance))
    powers, directions = np.linalg.eigh(covariance)
    axes = scale[:, None] * directions / np.sqrt(np.maximum(powers, _TINY * size))
    return Standard(centre, axes)


def read_standard(state: State, kind: Literal["robust", "whiten"], dim: int) -> Standard:
    """Read it from a scorer's arrays.

    Raises:
        StateError: An array is missing, or not what it should be.
    """
    shape: tuple[int, ...] = (dim,) if kind == "robust" else (dim, dim)
    if kind == "whiten" and AXES in state and state[AXES].ndim == 1:
        shape = (dim,)  # of a single window
    return Standard(take(state, CENTRE, (dim,)), take(state, AXES, shape))
