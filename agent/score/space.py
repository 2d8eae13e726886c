"""How far apart two windows are, for what compares windows whatever the scorer is.

The idle gate, thinning out a bank and the nearest healthy windows of an explanation use it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from agent.config.scorer import FusionConfig, ScorerConfig, Span
from agent.config.scorer_density import CoveringConfig
from agent.config.scorer_knn import KnnConfig, Metric
from agent.core.records import Matrix
from agent.score.bank import prepare
from agent.score.standardize import Standard, fit_standard

# Healthy windows whose median and spread stand for a large bank's.
_ENOUGH = 2000
# A unit vector beside standardised columns: healthy windows are about so many times farther apart
# in the latter.
_UNIT_VECTOR = 2.0


@dataclass(frozen=True, slots=True)
class Space:
    """Embeddings as points.

    Attributes:
        metric: Distance between points.
        spans: Columns that are made unit vectors of their own (cosine); none for the whole.
        standards: Columns that are standardised, each with what standardises it. Where there are
            some, points hold these, and the `spans` as unit vectors, each counting as much.
    """

    metric: Metric
    spans: tuple[Span, ...] = ()
    standards: tuple[tuple[Span, Standard], ...] = ()

    def prepare(self, vectors: Matrix) -> Matrix:
        """Points of embeddings `(n, dim)`, float32 `(n, columns)`, for `bank.distances`."""
        if not self.standards:
            return prepare(vectors, self.metric, self.spans)
        parts = [
            standard.apply(vectors[:, start:stop]) / np.float32(np.sqrt(stop - start))
            for (start, stop), standard in self.standards
        ]
        parts += [
            np.float32(_UNIT_VECTOR) * prepare(vectors[:, start:stop], "cosine")
            for start, stop in self.spans
        ]
        return np.ascontiguousarray(np.concatenate(parts, axis=1), dtype=np.float32)


def space_of(config: ScorerConfig, healthy: Matrix) -> Space:
    """The space that a scorer compares windows in.

    Args:
        config: The scorer.
        healthy: Embeddings of healthy windows, float32 `(n, dim)`, n >= 1.
    """
    if isinstance(config, KnnConfig):
        return Space(config.metric)
    if not isinstance(config, FusionConfig):
        return Space(metric_of(config))
    standards, spans, metrics = {}, set(), set()
    few = healthy[:: max(1, len(healthy) // _ENOUGH)]
    for part in config.parts:
        span = part.columns or (0, healthy.shape[1])
        if part.standardize == "none":
            spans.add(span)
            metrics.add(metric_of(part.scorer))
        else:
            columns = few[:, span[0] : span[1]]
            standards[span] = fit_standard(columns, "robust", least_spread=part.least_spread)
    if standards:
        return Space("euclidean", _by_cosine(config, spans), tuple(_outermost(standards)))
    if len(spans) == 1 or any(part.columns is None for part in config.parts):
        return Space("cosine" if "cosine" in metrics else "euclidean")
    return Space("cosine", tuple(sorted(spans)))


def _by_cosine(config: FusionConfig, spans: set[Span]) -> tuple[Span, ...]:
    """Columns beside the standardised ones that are judged by direction."""
    judged = {part.columns for part in config.parts if metric_of(part.scorer) == "cosine"}
    return tuple(sorted(span for span in spans if span in judged))


def _outermost(standards: dict[Span, Standard]) -> Sequence[tuple[Span, Standard]]:
    """Standards in the order of their columns, without those whose columns lie within others."""
    return [
        (span, standard)
        for span, standard in sorted(standards.items(), key=lambda item: item[0])
        if not any(
            other != span and other[0] <= span[0] and span[1] <= other[1] for other in standards
        )
    ]


def metric_of(config: ScorerConfig) -> Metric:
    """Distance that a scorer goes by, or the one nearest to what it does."""
    if isinstance(config, KnnConfig):
        return config.metric
    return "cosine" if isinstance(config, CoveringConfig) else "euclidean"
