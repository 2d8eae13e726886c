"""Gaussian mixture: how unlikely an embedding is among the healthy ones."""

from __future__ import annotations

import numpy as np

from agent.config.scorer_density import MixtureConfig
from agent.core.records import Matrix
from agent.score.fitter import Fitter, on_workstation
from agent.score.gaussian import log_determinant, log_sum, whitening
from agent.score.project import Projection, fit_projection
from agent.score.scorer import HealthySet, IntVector, State, StateError, Vector, no_rows, take


def fit_mixture(healthy: HealthySet, config: MixtureConfig, fitter: Fitter | None) -> State:
    """Fit the mixture on a workstation.

    Returns:
        The projection's arrays, `weights` `(k,)`, `means` `(k, r)`, and `covariances` `(k, r, r)`,
        or `(k, r)` of a diagonal mixture.

    Raises:
        WorkstationError: There is no fitter.
    """
    able = on_workstation(fitter, config.kind)
    state, points = fit_projection(healthy, config.dims)
    found = able.mixture(points, config)
    return {
        **state,
        "weights": found.weights,
        "means": found.means,
        "covariances": found.covariances,
    }


class MixtureScorer:
    """Negative log density of a Gaussian mixture, nats.

    Args:
        config: The method.
        state: From `fit_mixture`.
        dim: Length of an embedding.

    Raises:
        StateError: An array is not what the method needs.
    """

    def __init__(self, config: MixtureConfig, state: State, dim: int) -> None:
        self._project = Projection(state, dim)
        size = self._project.size
        weights = take(state, "weights", (None,))
        if not (weights > 0).all():
            raise StateError("weights", "should all be above 0")
        self._means = take(state, "means", (len(weights), size))
        shape = (size,) if config.covariance == "diag" else (size, size)
        matrices = take(state, "covariances", (len(weights), *shape))
        if config.covariance == "diag":
            if not (matrices > 0).all():
                raise StateError("covariances", "should all be above 0")
            self._white = [np.diag(1.0 / np.sqrt(row)) for row in matrices]
        else:
            self._white = [whitening(matrix) for matrix in matrices]
        constant = -0.5 * size * np.log(2.0 * np.pi)
        self._logs = [
            float(np.log(weight / weights.sum())) + constant + log_determinant(white)
            for weight, white in zip(weights, self._white, strict=True)
        ]

    def start(self) -> None:
        """Ready as it was built: there is no index to make."""

    def score(self, embeddings: Matrix) -> tuple[Vector, IntVector]:
        """Negative log densities, float32 `(m,)`."""
        points = self._project(embeddings)
        logs = [
            log - 0.5 * np.sum(((points - mean) @ white.T) ** 2, axis=1)
            for log, mean, white in zip(self._logs, self._means, self._white, strict=True)
        ]
        return (-log_sum(np.stack(logs, axis=1))).astype(np.float32), no_rows(len(points))
