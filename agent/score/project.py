"""Embeddings in few standardised numbers, without losing sight of the rest.

Densities of hundreds of dimensions cannot be learnt from a few hundred windows, so they are taken
of the principal directions of healthy sound. A fault need not lie in those: the length of what they
leave out is one more number (the squared prediction error of process monitoring, Jackson and
Mudholkar 1979). Its healthy values come from windows whose recordings were left out, since of the
windows it was fitted to less is left than of any other.
"""

from __future__ import annotations

import numpy as np

from agent.core.records import Matrix
from agent.score.scorer import Floats, HealthySet, State, folds, take

# Directions that hold less than this share of the largest one's variance are rounding.
_RANK = 1e-10
_REST_FOLDS = 3
# Less left over than healthy sound leaves is not strange: it counts as this many deviations below.
_LEAST_REST = -1.0
_TINY = 1e-12


class Projection:
    """Turns embeddings into standardised points.

    Args:
        state: From `fit_projection`.
        dim: Length of an embedding.

    Raises:
        StateError: An array is not what it should be.
    """

    def __init__(self, state: State, dim: int) -> None:
        self._center = take(state, "center", (dim,))
        self._basis = take(state, "basis", (dim, None)) if "basis" in state else None
        kept = dim if self._basis is None else self._basis.shape[1]
        self._scale = take(state, "scale", (kept,))
        self._rest = take(state, "rest", (2,)) if "rest" in state else None
        self.size = kept + (self._rest is not None)

    def __call__(self, embeddings: Matrix) -> Floats:
        """Points `(m, size)`.

        Args:
            embeddings: float32, shape `(m, dim)`.
        """
        centered = embeddings.astype(np.float64) - self._center
        if self._basis is None:
            plain: Floats = centered / self._scale
            return plain
        inside = centered @ self._basis
        points: Floats = inside / self._scale
        if self._rest is None:
            return points
        middle, spread = self._rest
        rest = _standardised(_rest(centered, inside), middle, spread)
        return np.concatenate([points, rest[:, None]], axis=1)


def fit_projection(healthy: HealthySet, dims: int | None) -> tuple[State, Floats]:
    """Learn a projection.

    Args:
        healthy: Healthy windows.
        dims: Directions kept, at most; None only standardises the columns.

    Returns:
        Its arrays, and the healthy windows' points, the rest's length from left-out recordings.
    """
    vectors = healthy.vectors.astype(np.float64)
    center = vectors.mean(axis=0)
    if dims is None:
        deviation = (vectors - center).std(axis=0)
        # A column that hardly varies must not outweigh the others when it does.
        least = max(1e-3 * float(np.median(deviation)), _TINY)
        state: State = {"center": center, "scale": np.maximum(deviation, least)}
        return state, Projection(state, vectors.shape[1])(healthy.vectors)
    basis, scale, more = _directions(vectors - center, dims)
    state = {"center": center, "basis": basis, "scale": scale}
    points = (vectors - center) @ basis / scale
    if not more:
        return state, points
    rest = _rest(vectors - center, (vectors - center) @ basis)
    for outside in folds(healthy, _REST_FOLDS):
        inside = vectors[~outside]
        other, _, _ = _directions(inside - inside.mean(axis=0), dims)
        centered = vectors[outside] - inside.mean(axis=0)
        rest[outside] = _rest(centered, centered @ other)
    middle, spread = float(rest.mean()), max(float(rest.std()), _TINY)
    state["rest"] = np.array([middle, spread])
    points = np.concatenate([points, _standardised(rest, middle, spread)[:, None]], axis=1)
    return state, points


def _directions(centered: Floats, dims: int) -> tuple[Floats, Floats, bool]:
    """Principal directions `(d, r)`, their deviations `(r,)`, and whether there are more."""
    count, dim = centered.shape
    if dim <= count:
        variances, vectors = np.linalg.eigh(centered.T @ centered / count)
    else:
        variances, left = np.linalg.eigh(centered @ centered.T / count)
        vectors = centered.T @ left
        vectors /= np.maximum(np.linalg.norm(vectors, axis=0, keepdims=True), _TINY)
    order = np.argsort(variances)[::-1]
    rank = max(int((variances > _RANK * max(float(variances.max()), _TINY)).sum()), 1)
    kept = order[: min(dims, rank)]
    deviations: Floats = np.sqrt(np.maximum(variances[kept], _TINY**2))
    return vectors[:, kept], deviations, len(kept) < dim


def _standardised(rest: Floats, middle: float, spread: float) -> Floats:
    found: Floats = np.maximum((rest - middle) / spread, _LEAST_REST)
    return found


def _rest(centered: Floats, inside: Floats) -> Floats:
    left = np.sum(centered**2, axis=1) - np.sum(inside**2, axis=1)
    length: Floats = np.sqrt(np.maximum(left, 0.0))
    return length
