"""Mahalanobis distance, one covariance a domain, the smallest counting.

The DCASE baseline's selective Mahalanobis takes residuals r_t of an autoencoder, frame by frame,
with the covariance of the source domain's and of the target domain's residuals, and keeps the
smaller distance. It averages all entries of the matrix r_s' C^-1 r_t, which is the form of the mean
residual (`form: of_mean`, `center: zero`); the textbook's mean of distances is `mean_of`.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from agent.config.scorer_density import MahalanobisConfig
from agent.core.errors import ConfigError
from agent.core.records import Matrix
from agent.score.gaussian import covariance, whitening
from agent.score.scorer import (
    HealthySet,
    IntVector,
    State,
    StateError,
    Vector,
    no_rows,
    take,
)

# A domain heard in fewer recordings than this has no covariance of its own.
_FEWEST = 2


def fit_mahalanobis(healthy: HealthySet, config: MahalanobisConfig) -> State:
    """Means and whitening matrices of the domains.

    Args:
        healthy: Healthy windows.
        config: The method.

    Returns:
        `mean` float64 `(g, d)` and `whitening` float32 `(g, d, d)`, d = dim / frames.

    Raises:
        ConfigError: `frames` does not divide the embedding, or a covariance is singular.
    """
    if healthy.vectors.shape[1] % config.frames:
        raise ConfigError(
            f"an embedding of {healthy.vectors.shape[1]} columns does not hold {config.frames} "
            "vectors of equal length",
            where="scorer.frames",
        )
    means, whites = [], []
    for chosen in _domains(healthy, config):
        points = _framed(healthy.vectors[chosen], config.frames).reshape(
            -1, healthy.vectors.shape[1] // config.frames
        )
        mean = points.mean(axis=0) if config.center == "mean" else np.zeros(points.shape[1])
        means.append(mean)
        whites.append(whitening(covariance(points - mean, config.shrinkage)))
    return {"mean": np.stack(means), "whitening": np.stack(whites).astype(np.float32)}


def _domains(healthy: HealthySet, config: MahalanobisConfig) -> list[npt.NDArray[np.bool_]]:
    """Which windows make each covariance."""
    every = np.ones(len(healthy), bool)
    if config.covariance == "pooled":
        return [every]
    domains = np.array(healthy.domains)
    found = []
    for domain in np.unique(domains):
        chosen = domains == domain
        if len(set(healthy.among(chosen).groups)) >= _FEWEST:
            found.append(chosen)
    # What no domain's own covariance covers is covered by that of all.
    return found if found and np.any(found, axis=0).all() else [*found, every]


def _framed(vectors: Matrix, frames: int) -> npt.NDArray[np.float64]:
    return vectors.astype(np.float64).reshape(len(vectors), frames, -1)


class MahalanobisScorer:
    """The smallest of the domains' distances.

    Args:
        config: The method.
        state: From `fit_mahalanobis`.
        dim: Length of an embedding.

    Raises:
        StateError: An array is not what the method needs.
    """

    def __init__(self, config: MahalanobisConfig, state: State, dim: int) -> None:
        if dim % config.frames:
            raise StateError("mean", f"cannot hold {config.frames} frames of {dim} columns")
        self._config = config
        size = dim // config.frames
        self._means = take(state, "mean", (None, size))
        count = len(self._means)
        self._whites = take(state, "whitening", (count, size, size)).astype(np.float32)

    def start(self) -> None:
        """Ready as it was built: there is no index to make."""

    def score(self, embeddings: Matrix) -> tuple[Vector, IntVector]:
        """Distances, float32 `(m,)`, in standard deviations times sqrt(d) or so."""
        points = _framed(embeddings, self._config.frames)
        if self._config.form == "of_mean":
            points = points.mean(axis=1, keepdims=True)
        least = np.full(len(points), np.inf)
        for mean, white in zip(self._means, self._whites, strict=True):
            turned = (points - mean).astype(np.float32) @ white.T
            lengths = np.linalg.norm(turned.astype(np.float64), axis=2)
            least = np.minimum(least, lengths.mean(axis=1))
        return least.astype(np.float32), no_rows(len(points))
