"""Gaussians of the operating conditions: strange when all are unlikely, or when none stands out.

"DensitySoftmax" as DCASE report 004 uses the name: a Gaussian for each class, the densities
normalised to a posterior (as Lee et al. 2018 do), anomalous when that is flat. A posterior alone
cannot see that every density is small, so the total density enters as well:

    total  = -log mean_c p_c(x)
    spread = entropy of softmax_c(log p_c(x) / temperature), as a share of log C
    score  = (total - its healthy mean) / its deviation + weight * the same of spread

All in the log domain. (The published Density-Softmax, arXiv 2302.06495, is another method.)
"""

from __future__ import annotations

import numpy as np

from agent.config.scorer_density import DensitySoftmaxConfig
from agent.core.records import Matrix
from agent.score.fitter import Fitter, on_workstation
from agent.score.gaussian import covariance, log_determinant, log_sum, whitening
from agent.score.normalize import group_ids
from agent.score.project import Projection, fit_projection
from agent.score.scorer import Floats, HealthySet, IntVector, State, Vector, no_rows, take

# A class with fewer windows than this has no covariance of its own.
_FEWEST = 8
# Healthy posteriors are often all but certain; their spread is not standardised by less.
_LEAST_SPREAD = 0.05


def fit_density_softmax(
    healthy: HealthySet, config: DensitySoftmaxConfig, fitter: Fitter | None
) -> State:
    """Fit the Gaussians.

    Returns:
        The projection's arrays, `means` `(c, r)`, `whitening` `(c, r, r)` or `(1, r, r)` when tied
        (c is 1 where classes have hardly more than a window each), and `readings` `(2, 2)`: mean
        and deviation of total and spread.

    Raises:
        WorkstationError: Nothing tells classes apart, and there is no fitter to cluster.
        ConfigError: A covariance is singular.
    """
    state, points = fit_projection(healthy, config.dims)
    classes = _classes(healthy, points, config, fitter)
    if len(points) - int(classes.max()) - 1 < _FEWEST:
        # Attributes that name each recording leave no scatter within a class to measure by.
        classes = np.zeros_like(classes)
    count = int(classes.max()) + 1
    means = np.stack([points[classes == c].mean(axis=0) for c in range(count)])
    diagonal = config.covariance == "diag"
    within = points - means[classes]
    tied = _whitened(within, config.shrinkage, diagonal=diagonal)
    if config.covariance == "tied":
        whites = tied[None]
    else:
        whites = np.stack(
            [
                _whitened(within[classes == c], config.shrinkage, diagonal=diagonal)
                if (classes == c).sum() >= _FEWEST
                else tied
                for c in range(count)
            ]
        )
    total, spread = _readings(points, means, whites, config)
    limits = [
        [total.mean(), max(float(total.std()), 1e-6)],
        [spread.mean(), max(float(spread.std()), _LEAST_SPREAD)],
    ]
    return {**state, "means": means, "whitening": whites, "readings": np.array(limits)}


def _classes(
    healthy: HealthySet, points: Floats, config: DensitySoftmaxConfig, fitter: Fitter | None
) -> IntVector:
    """Class of each window, from 0 without gaps."""
    if config.classes != "kmeans":
        names = [
            {
                "attributes": repr((row.section, sorted(row.attributes.items()))),
                "section": row.section,
                "domain": row.domain,
            }[config.classes]
            for row in healthy.rows
        ]
        if len(set(names)) > 1:
            return group_ids(names)
    if config.clusters == 1:
        return np.zeros(len(points), np.int64)
    found = on_workstation(fitter, "density_softmax with k-means").clusters(
        points, config.clusters, config.seed
    )
    return group_ids([str(cluster) for cluster in found])


def _whitened(within: Floats, shrinkage: float | None, *, diagonal: bool) -> Floats:
    matrix = covariance(within, shrinkage)
    return whitening(np.diag(np.diag(matrix)) if diagonal else matrix)


def _readings(
    points: Floats, means: Floats, whites: Floats, config: DensitySoftmaxConfig
) -> tuple[Floats, Floats]:
    """Total and spread of points, each `(m,)`."""
    count, size = means.shape
    logs = np.empty((len(points), count))
    for c, mean in enumerate(means):
        white = whites[c if len(whites) > 1 else 0]
        lengths = np.sum(((points - mean) @ white.T) ** 2, axis=1)
        logs[:, c] = log_determinant(white) - 0.5 * (lengths + size * np.log(2.0 * np.pi))
    total = np.log(count) - log_sum(logs)
    if count == 1:
        return total, np.zeros(len(points))
    heated = logs / (size if config.temperature is None else config.temperature)
    posterior = heated - log_sum(heated)[:, None]
    spread: Floats = -np.sum(np.exp(posterior) * posterior, axis=1) / np.log(count)
    return total, spread


class DensitySoftmaxScorer:
    """Total density and spread of the posterior, both in healthy deviations.

    Args:
        config: The method.
        state: From `fit_density_softmax`.
        dim: Length of an embedding.

    Raises:
        StateError: An array is not what the method needs.
    """

    def __init__(self, config: DensitySoftmaxConfig, state: State, dim: int) -> None:
        self._config = config
        self._project = Projection(state, dim)
        size = self._project.size
        self._means = take(state, "means", (None, size))
        count = 1 if config.covariance == "tied" else len(self._means)
        self._whites = take(state, "whitening", (count, size, size))
        self._usual = take(state, "readings", (2, 2))

    def start(self) -> None:
        """Ready as it was built: there is no index to make."""

    def score(self, embeddings: Matrix) -> tuple[Vector, IntVector]:
        """Scores, float32 `(m,)`."""
        total, spread = _readings(
            self._project(embeddings), self._means, self._whites, self._config
        )
        (total_mean, total_unit), (spread_mean, spread_unit) = self._usual
        score = (total - total_mean) / total_unit
        score = score + self._config.spread * (spread - spread_mean) / spread_unit
        return score.astype(np.float32), no_rows(len(score))
