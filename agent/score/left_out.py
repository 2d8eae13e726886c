"""Healthy rows scored as if their whole recording had never been heard, from one distance matrix.

What is left out with a recording is a block of columns, so that no search is done again: distances
to all rows are computed once, in blocks that fit into little memory, and only the constants of the
rows that had the recording among their nearest ones are found anew.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np

from agent.config.scorer_knn import KnnConfig
from agent.core.records import Matrix
from agent.score.bank import OFFSET, WEIGHT, blocks, distances, prepare
from agent.score.normalize import (
    Neighbours,
    density,
    group_ids,
    nearest_groups,
    nearest_k,
    row_constants,
    varmin_slope,
)
from agent.score.scorer import IntVector, Vector


def leave_one_out(
    vectors: Matrix,
    groups: Sequence[str],
    config: KnnConfig,
    *,
    queries: Matrix | None = None,
) -> Vector:
    """Score every healthy row as if its whole recording had never been heard.

    The left-out recording is missing both from the bank and from the densities of the rows that
    remain, so the scores are what a new healthy recording would get.

    Args:
        vectors: float32, shape `(n, dim)`.
        groups: Group (recording) of each row.
        config: Scorer.
        queries: Embeddings to score in the rows' stead, float32 `(n, dim)`; the rows when None.

    Returns:
        float32, shape `(n,)`; NaN where no other group exists.
    """
    (scores,) = leave_one_out_each(
        vectors, groups, config, [vectors if queries is None else queries]
    )
    return scores


def leave_one_out_each(
    vectors: Matrix, groups: Sequence[str], config: KnnConfig, queries: Sequence[Matrix]
) -> list[Vector]:
    """Score several sets of embeddings, as `leave_one_out` does one.

    Args:
        vectors: float32, shape `(n, dim)`.
        groups: Group (recording) of each row.
        config: Scorer.
        queries: Sets of embeddings, each float32 `(n, dim)`; the i-th of each is judged without the
            recording of the i-th row.

    Returns:
        For each set float32 `(n,)`; NaN where no other group exists.
    """
    ready, ids = prepare(vectors, config.metric), group_ids(groups)
    found: list[Vector] = [np.full(len(ready), np.nan, dtype=np.float32) for _ in queries]
    if len(np.unique(ids)) < 2:
        return found
    order = np.argsort(ids, kind="stable")
    constants = _Constants(ready, ids, config, order)
    grouped = ready[order]
    for scores, query in zip(found, queries, strict=True):
        asked = prepare(query, config.metric)[order]
        result = np.empty(len(order), np.float32)
        for part in blocks(len(order), len(order)):
            table = distances(asked[part], grouped, config.metric)
            for group, own in constants.segments(part):
                first, last = constants.spans[group]
                normalised = constants.normalise(table[own], group)
                normalised[:, first:last] = np.inf
                k = min(config.k, len(order) - (last - first))
                at = slice(part.start + own.start, part.start + own.stop)
                result[at] = nearest_k(normalised, k, config)
        scores[order] = result
    return found


class _Constants:
    """Row constants without any one recording; rows in the order of their groups.

    Args:
        ready: Prepared rows, float32 `(n, dim)`.
        ids: Group of each.
        config: Scorer.
        order: Rows sorted by group.
    """

    def __init__(self, ready: Matrix, ids: IntVector, config: KnnConfig, order: IntVector) -> None:
        self._config = config
        edges = np.append(np.flatnonzero(np.diff(ids[order], prepend=-1)), len(order))
        self.spans = [(int(a), int(b)) for a, b in pairwise(edges)]
        self._stops = edges[1:]
        self._touched: list[IntVector] = []
        if config.normalization == "none":
            self._all = row_constants(np.zeros(len(order), np.float32), config, 0.0)
            return
        # One more neighbour than is averaged: any one group may be the one left out.
        near = nearest_groups(ready, ids, config.metric, config.density_k + 1)
        b = density(near.distances, config.density_k)
        self._slope = varmin_slope(near.distances[:, 0], near.partner, b)
        self._near = Neighbours(near.distances[order], near.groups[order], near.partner[order])
        self._all = row_constants(b[order], config, self._slope)
        # The rows that have each group among their nearest ones.
        flat = self._near.groups.ravel()
        by_group = np.argsort(flat, kind="stable")
        cuts = np.searchsorted(flat[by_group], np.arange(len(self.spans) + 1))
        width = self._near.groups.shape[1]
        self._touched = [by_group[a:b] // width for a, b in pairwise(cuts)]

    def segments(self, part: slice) -> Iterator[tuple[int, slice]]:
        """The groups that rows of a block are of, each with its rows, counted from the block's."""
        start = part.start
        while start < part.stop:
            group = int(np.searchsorted(self._stops, start, side="right"))
            stop = min(part.stop, self.spans[group][1])
            yield group, slice(start - part.start, stop - part.start)
            start = stop

    def normalise(self, table: Matrix, group: int) -> Matrix:
        """Distances `(m, n)` to all rows, normalised as if a group were not there."""
        found: Matrix = table * self._all[None, :, WEIGHT] - self._all[None, :, OFFSET]
        if self._touched and len(touched := self._touched[group]):
            near, k = self._near, self._config.density_k
            left = np.where(near.groups[touched] == group, np.inf, near.distances[touched])
            own = row_constants(density(np.sort(left, axis=1), k), self._config, self._slope)
            found[:, touched] = table[:, touched] * own[None, :, WEIGHT] - own[None, :, OFFSET]
        return found
