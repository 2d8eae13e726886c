"""One-class support vector machine (Schoelkopf et al. 2001), judged from its support vectors."""

from __future__ import annotations

import numpy as np

from agent.config.scorer_density import OneClassConfig
from agent.core.records import Matrix
from agent.score.fitter import Fitter, on_workstation
from agent.score.gaussian import log_sum
from agent.score.project import Projection, fit_projection
from agent.score.scorer import HealthySet, IntVector, State, StateError, Vector, no_rows, take


def fit_one_class(healthy: HealthySet, config: OneClassConfig, fitter: Fitter | None) -> State:
    """Fit the machine on a workstation.

    Returns:
        The projection's arrays, `vectors` `(s, r)`, `coefficients` `(s,)`, and `boundary` `(2,)`:
        rho and gamma.

    Raises:
        WorkstationError: There is no fitter.
    """
    able = on_workstation(fitter, config.kind)
    state, points = fit_projection(healthy, config.dims)
    found = able.one_class(points, config)
    return {
        **state,
        "vectors": found.vectors,
        "coefficients": found.coefficients,
        "boundary": np.array([found.rho, found.gamma]),
    }


class OneClassScorer:
    """log rho - log sum_i alpha_i K(x, x_i).

    The decision function itself ends at -rho far from everything, where all faults would score
    alike and a threshold could lie out of reach; its logarithm keeps rising.

    Args:
        config: The method.
        state: From `fit_one_class`.
        dim: Length of an embedding.

    Raises:
        StateError: An array is not what the method needs.
    """

    def __init__(self, config: OneClassConfig, state: State, dim: int) -> None:
        self._config = config
        self._project = Projection(state, dim)
        self._vectors = take(state, "vectors", (None, self._project.size))
        coefficients = take(state, "coefficients", (len(self._vectors),))
        rho, self._gamma = take(state, "boundary", (2,))
        if not ((coefficients > 0).all() and rho > 0 and self._gamma > 0):
            raise StateError("boundary", "and the coefficients should all be above 0")
        self._logs = np.log(coefficients)
        self._log_rho = float(np.log(rho))

    def start(self) -> None:
        """Ready as it was built: there is no index to make."""

    def score(self, embeddings: Matrix) -> tuple[Vector, IntVector]:
        """Scores, float32 `(m,)`: above 0 is outside the machine's boundary."""
        points = self._project(embeddings)
        squares = (
            np.sum(points**2, axis=1)[:, None]
            + np.sum(self._vectors**2, axis=1)[None, :]
            - 2.0 * points @ self._vectors.T
        )
        kernel = self._logs - self._gamma * np.maximum(squares, 0.0)
        return (self._log_rho - log_sum(kernel)).astype(np.float32), no_rows(len(points))
