"""Minimum covering volume: how far from the healthy centre, in radii of the cone that covers it."""

from __future__ import annotations

import numpy as np

from agent.config.scorer_density import CoveringConfig
from agent.core.records import Matrix
from agent.score.bank import prepare
from agent.score.scorer import (
    Floats,
    HealthySet,
    IntVector,
    State,
    StateError,
    Vector,
    no_rows,
    take,
)

# Equal embeddings would make a cone of no width.
_NARROWEST = 1e-7


def fit_covering(healthy: HealthySet, config: CoveringConfig) -> State:
    """Centre and covering radius of the healthy directions.

    The farthest window sets the radius where all are to be covered; with a smaller share, the
    farthest of those that are.

    Returns:
        `center` `(d,)`, a unit vector, and `radius` `(1,)`, (1 - cos) / 2.
    """
    unit = prepare(healthy.vectors, "cosine").astype(np.float64)
    center = unit.mean(axis=0)
    center /= max(float(np.linalg.norm(center)), np.finfo(np.float64).tiny)
    away = _away(unit, center)
    radius = float(np.quantile(away, config.covered, method="higher"))
    return {"center": center, "radius": np.array([max(radius, _NARROWEST)])}


def _away(unit: Floats, center: Floats) -> Floats:
    distance: Floats = np.clip((1.0 - unit @ center) / 2.0, 0.0, 1.0)
    return distance


class CoveringScorer:
    """Cosine distance from the centre over the radius; above 1 is outside.

    Args:
        state: From `fit_covering`.
        dim: Length of an embedding.

    Raises:
        StateError: An array is not what the method needs.
    """

    def __init__(self, state: State, dim: int) -> None:
        self._center = take(state, "center", (dim,))
        (self._radius,) = take(state, "radius", (1,))
        if self._radius <= 0.0:
            raise StateError("radius", "should be above 0")

    def start(self) -> None:
        """Ready as it was built: there is no index to make."""

    def score(self, embeddings: Matrix) -> tuple[Vector, IntVector]:
        """Scores, float32 `(m,)`."""
        unit = prepare(embeddings, "cosine").astype(np.float64)
        found = _away(unit, self._center) / self._radius
        return found.astype(np.float32), no_rows(len(found))
