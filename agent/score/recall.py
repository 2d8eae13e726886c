"""Measures the share of nearest rows that an index of a bank proposes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from agent.config.scorer_knn import Metric
from agent.core.records import Matrix
from agent.score.bank import distances, prepare
from agent.score.scorer import Vector

_ASKED = 256
# A little harder to find the nearest row of than windows of recordings that a bank has nothing of;
# at a tenth of the way far too easy (docs/notes/banks.md).
_AWAY = 0.3
_BLOCK = 20_000


@dataclass(frozen=True, slots=True)
class Question:
    """Points between rows, and how far the nearest row is.

    Attributes:
        vectors: The bank, float32 `(rows, dim)`, as the encoder gave it.
        metric: Distance.
        asked: The points, prepared, float32 `(n, dim)`.
        nearest: Distance of the nearest row to each, float32 `(n,)`.
        rows: Which row that is, int64 `(n,)`.
    """

    vectors: Matrix
    metric: Metric
    asked: Matrix
    nearest: Vector
    rows: npt.NDArray[np.int64]

    def places(
        self, index: Any, count: int, reduce: Callable[[Matrix], Matrix]
    ) -> npt.NDArray[np.float64]:
        """At which place the nearest row is of those that an index proposes, the likeliest first.

        Args:
            index: hnswlib's, `ef` set.
            count: Rows proposed for a point.
            reduce: Turns prepared vectors into those of the index.

        Returns:
            float64 `(n,)`, from 0; infinite where it is not among them.
        """
        labels, _ = index.knn_query(reduce(self.asked), k=count, num_threads=1)
        found = np.full(len(labels), np.inf)
        for i, label in enumerate(labels.astype(np.int64)):
            near = prepare(self.vectors[label], self.metric)
            apart = distances(self.asked[i : i + 1], near, self.metric)[0]
            # By distance, not by number: of equal rows either will do.
            equal = np.flatnonzero(apart <= self.nearest[i] * (1 + 1e-4) + 1e-6)
            if len(equal):
                found[i] = equal[0]
        return found

    def places_without_index(self, reduce: Callable[[Matrix], Matrix]) -> npt.NDArray[np.int64]:
        """At which place the nearest row is where every reduced row is looked at.

        Args:
            reduce: Turns prepared vectors into those of an index.

        Returns:
            int64 `(n,)`, from 0.
        """
        asked = reduce(self.asked)
        own = reduce(prepare(self.vectors[self.rows], self.metric))
        limit = np.square(asked - own).sum(axis=1) * (1 - 1e-5)
        squares = np.square(asked).sum(axis=1)
        found = np.zeros(len(asked), np.int64)
        for at in range(0, len(self.vectors), _BLOCK):
            block = reduce(prepare(self.vectors[at : at + _BLOCK], self.metric))
            apart = squares[:, None] + np.square(block).sum(axis=1) - 2 * asked @ block.T
            found += (apart < limit[:, None]).sum(axis=1)
        return found


def ask_between(vectors: Matrix, metric: Metric, *, seed: int = 0) -> Question:
    """Points three tenths of the way from a row to another one at random, where no row lies.

    Args:
        vectors: The bank, float32 `(rows, dim)`; read a block at a time.
        metric: Distance.
        seed: Which points.
    """
    random = np.random.default_rng(seed)
    first, second = random.integers(0, len(vectors), (2, min(_ASKED, len(vectors))))
    start, end = prepare(vectors[first], metric), prepare(vectors[second], metric)
    asked = prepare(start + _AWAY * (end - start), metric)
    nearest, rows = np.full(len(asked), np.inf, np.float32), np.zeros(len(asked), np.int64)
    for at in range(0, len(vectors), _BLOCK):
        table = distances(asked, prepare(vectors[at : at + _BLOCK], metric), metric)
        best = table.argmin(axis=1)
        least = table[np.arange(len(table)), best]
        closer = least < nearest
        nearest[closer], rows[closer] = least[closer], at + best[closer]
    return Question(vectors, metric, asked, nearest, rows)
