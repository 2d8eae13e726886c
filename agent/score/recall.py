"""Rows of a bank asked about as sound never heard: what an index must find is judged by them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from agent.config.scorer_knn import Metric
from agent.core.records import Matrix
from agent.score.bank import distances, prepare

_ASKED = 1000
# Where no recording can be left out: so far from a row to another one at random.
_AWAY = 0.3
_BLOCK = 20_000


@dataclass(frozen=True, slots=True)
class Question:
    """Windows whose own recordings are left out, and which row is nearest to each.

    Attributes:
        vectors: The bank, float32 `(rows, dim)`, as the encoder gave it.
        metric: Distance.
        asked: The windows, prepared, float32 `(n, dim)`.
        rows: The row nearest to each, of another recording, int64 `(n,)`.
        groups: The recording of each row of the bank, by number, int64 `(rows,)`.
        own: The recording that is left out for each window; -1 for none, int64 `(n,)`.
    """

    vectors: Matrix
    metric: Metric
    asked: Matrix
    rows: npt.NDArray[np.int64]
    groups: npt.NDArray[np.int64]
    own: npt.NDArray[np.int64]

    def places(self, reduce: Callable[[Matrix], Matrix]) -> npt.NDArray[np.int64]:
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
            nearer = apart < limit[:, None]
            nearer &= self.own[:, None] != self.groups[at : at + _BLOCK]
            found += nearer.sum(axis=1)
        return found


def ask_left_out(
    vectors: Matrix, metric: Metric, groups: Sequence[str], *, seed: int = 0
) -> Question:
    """Rows at random, asked about as if the recording of each had never been heard.

    A window that a device hears is of no recording of the bank, and neighbours within a recording
    are what is easily found. Where there are not two recordings, points between rows must do.

    Args:
        vectors: The bank, float32 `(rows, dim)`; read a block at a time.
        metric: Distance.
        groups: The recording of each row.
        seed: Which rows.
    """
    random = np.random.default_rng(seed)
    _, numbers = np.unique(np.asarray(groups, dtype=np.str_), return_inverse=True)
    chosen = np.sort(random.permutation(len(vectors))[:_ASKED])
    asked, own = prepare(vectors[chosen], metric), numbers[chosen]
    if numbers.max(initial=0) == 0:
        other = prepare(vectors[random.integers(0, len(vectors), len(chosen))], metric)
        asked = prepare(asked + _AWAY * (other - asked), metric)
        own = np.full(len(chosen), -1)
    nearest, rows = np.full(len(asked), np.inf, np.float32), np.zeros(len(asked), np.int64)
    for at in range(0, len(vectors), _BLOCK):
        table = distances(asked, prepare(vectors[at : at + _BLOCK], metric), metric)
        table[own[:, None] == numbers[at : at + _BLOCK]] = np.inf
        best = table.argmin(axis=1)
        least = table[np.arange(len(table)), best]
        closer = least < nearest
        nearest[closer], rows[closer] = least[closer], at + best[closer]
    return Question(vectors, metric, asked, rows, numbers, own)
