"""One scoring method at a time: how it is fitted, built, and asked about sound it never heard.

Everything that depends on the kind of a scorer is decided here (and in `fusion.py`, which joins
several), so that whoever fits, loads or grows a bundle need not know the kinds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from agent.config.scorer import PartScorer
from agent.config.scorer_density import (
    CoveringConfig,
    DensitySoftmaxConfig,
    DtmmConfig,
    MahalanobisConfig,
    MixtureConfig,
    OneClassConfig,
    ValueConfig,
)
from agent.config.scorer_knn import KnnConfig
from agent.core.records import Matrix
from agent.score.density_softmax import DensitySoftmaxScorer, fit_density_softmax
from agent.score.dtmm import DtmmScorer, fit_dtmm
from agent.score.fitter import Fitter
from agent.score.gmm import MixtureScorer, fit_mixture
from agent.score.mahalanobis import MahalanobisScorer, fit_mahalanobis
from agent.score.mcv import CoveringScorer, fit_covering
from agent.score.neighbours import build_neighbours, fit_neighbours, neighbours_left_out
from agent.score.ocsvm import OneClassScorer, fit_one_class
from agent.score.scorer import FOLDS, HealthySet, Scorer, State, Vector, folds
from agent.score.sessions import left_out_with
from agent.score.value import ValueScorer

# Array of a k-NN scorer's state: the row constants.
CONSTANTS = "rows"
# Multiplications that may be spent on one set of covariances, give or take.
_CHEAP = 2e9


def fit_method(healthy: HealthySet, config: PartScorer, fitter: Fitter | None = None) -> State:
    """Learn a method's arrays.

    Args:
        healthy: What it learns from.
        config: The method.
        fitter: Fits what takes a workstation; None on a device.

    Raises:
        WorkstationError: The method takes a fitter and there is none.
        ConfigError: The method cannot be fitted to such embeddings.
    """
    match config:
        case KnnConfig():
            return fit_neighbours(healthy, config, fitter)
        case MahalanobisConfig():
            return fit_mahalanobis(healthy, config)
        case DensitySoftmaxConfig():
            return fit_density_softmax(healthy, config, fitter)
        case MixtureConfig():
            return fit_mixture(healthy, config, fitter)
        case OneClassConfig():
            return fit_one_class(healthy, config, fitter)
        case CoveringConfig():
            return fit_covering(healthy, config)
        case DtmmConfig():
            return fit_dtmm(healthy, config, fitter)
        case ValueConfig():
            return {}


def build_method(
    config: PartScorer, healthy: HealthySet, state: State, index: Path | None = None
) -> Scorer:
    """A method's scorer, not started.

    Args:
        config: The method.
        healthy: The healthy windows of the bundle.
        state: What it learnt.
        index: Index of its bank, where it has one.

    Raises:
        StateError: An array is not what the method needs.
    """
    dim = healthy.vectors.shape[1]
    match config:
        case KnnConfig():
            return build_neighbours(config, healthy, state, index)
        case MahalanobisConfig():
            return MahalanobisScorer(config, state, dim)
        case DensitySoftmaxConfig():
            return DensitySoftmaxScorer(config, state, dim)
        case MixtureConfig():
            return MixtureScorer(config, state, dim)
        case OneClassConfig():
            return OneClassScorer(config, state, dim)
        case CoveringConfig():
            return CoveringScorer(state, dim)
        case DtmmConfig():
            return DtmmScorer(config, state, dim)
        case ValueConfig():
            return ValueScorer(config, dim)


def left_out(
    healthy: HealthySet,
    config: PartScorer,
    queries: Sequence[Matrix],
    fitter: Fitter | None = None,
) -> list[Vector]:
    """Scores as if the recording, or the whole session, of each window had never been heard.

    What is left out together tells `agent.score.sessions`. Nearest neighbours leave it out exactly.
    Methods that are fitted leave out a share of the recordings at a time: a tenth, or less where
    fits are cheap, since a covariance of fewer windows is shrunk more and tells smaller distances
    than the one that will serve.

    Args:
        healthy: The healthy windows.
        config: The method.
        queries: Sets of embeddings, each float32 `(n, dim)`; the i-th of each is judged without the
            recording, or session, of the i-th window.
        fitter: Fits what takes a workstation.

    Returns:
        For each set float32 `(n,)`; NaN where there is only one recording.
    """
    if isinstance(config, KnnConfig):
        return neighbours_left_out(healthy, config, queries, fitter)
    return by_folds(
        healthy,
        queries,
        lambda rest: build_method(config, rest, fit_method(rest, config, fitter)),
        _fold_count(config, healthy.vectors.shape[1]),
    )


def _fold_count(config: PartScorer, dim: int) -> int:
    if isinstance(config, (MixtureConfig, OneClassConfig, DtmmConfig)) or (
        isinstance(config, DensitySoftmaxConfig) and config.dims is not None
    ):
        return FOLDS
    if isinstance(config, MahalanobisConfig):
        dim //= config.frames
    return int(np.clip(_CHEAP / dim**3, 2 * FOLDS, 10 * FOLDS))


def by_folds(
    healthy: HealthySet,
    queries: Sequence[Matrix],
    fit: Callable[[HealthySet], Scorer],
    count: int = FOLDS,
) -> list[Vector]:
    """Judge each window by a scorer fitted to the other folds, of recordings or sessions."""
    found: list[Vector] = [np.full(len(healthy), np.nan, np.float32) for _ in queries]
    for outside in folds(healthy, count, left_out_with(healthy.rows)):
        scorer = fit(healthy.among(~outside))
        scorer.start()
        for scores, query in zip(found, queries, strict=True):
            scores[outside], _ = scorer.score(query[outside])
    return found
