"""Nearest-neighbour anomaly score: how far the closest healthy window is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from agent.config.scorer_knn import KnnConfig
from agent.core.records import Matrix
from agent.score.bank import (
    OFFSET,
    WEIGHT,
    MemoryBank,
    blocks,
    distances,
    distances_to_raw,
    prepare,
)
from agent.score.cells import CellSearch
from agent.score.index import CANDIDATES, Index, open_index
from agent.score.mapped import hand_back, read_rows
from agent.score.normalize import nearest_k

# Below this many rows a plain matrix product beats any index (and is exact).
EXACT_UP_TO = 20_000
# Candidates of an index are compared so many at first, and then all that may still win.
_FIRST = 16
# At least so many for each of the k nearest are compared, whatever the plan says.
_PER_K = 4
# What rounding may add to a distance between rows of an index, of the vectors' lengths.
_SLACK = 1e-5
# Rows read from a mapped file before its pages are handed back: 16 pages come with each.
_HELD_ROWS = 128


class KnnScorer:
    """Scores embeddings against a memory bank.

    score(x) = mean of the k smallest over rows y of  d(x, y) * weight(y) - offset(y)

    Small banks are searched exactly. Larger ones take candidates from an index, when there is one,
    and rank those exactly from the raw vectors, so the index can only miss a row, never misjudge
    one. Distances in a reduced index are lower bounds: candidates that cannot win are not read.

    Args:
        bank: Rows and their constants.
        config: Metric and k.
        path: `bank.index.npy`; read on `start`, only when the bank is large. Every row is compared
            when None.
        index: How it is searched; None of a bundle of before, whose index is made anew. One that
            missed its recall is not used.
    """

    def __init__(
        self,
        bank: MemoryBank,
        config: KnnConfig,
        path: Path | None = None,
        *,
        index: Index | None = None,
    ) -> None:
        self.bank = bank
        self.config = config
        self.index = index
        self._read = 0  # rows, since pages of the bank's file were handed back
        self._path = path
        self._search: CellSearch | None = None
        self._ready: Matrix | None = None

    def start(self) -> None:
        """Prepare the bank (and load the index of a large one). Idempotent."""
        if self._ready is not None or self._search is not None:
            return
        large = len(self.bank) > EXACT_UP_TO
        if self._path is not None and large and (self.index is None or self.index.plan.usable):
            # Candidates are prepared as they come: the raw vectors may stay in their file.
            self._search, self.index = open_index(
                self._path, self.bank.vectors, self.config.metric, self.index
            )
            hand_back(self.bank.vectors)
        else:
            self._ready = prepare(self.bank.vectors, self.config.metric)

    @property
    def indexed(self) -> bool:
        """Whether it searches by an index, its rows in their file; known once started."""
        return self._search is not None

    @property
    def ready(self) -> Matrix:
        """The bank's vectors as `prepare` gives them, float32 `(rows, dim)`."""
        if self._ready is None:
            self._ready = prepare(self.bank.vectors, self.config.metric)
        return self._ready

    def score(self, embeddings: Matrix) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
        """Judge embeddings.

        Args:
            embeddings: float32, shape `(m, dim)`.

        Returns:
            Scores float32 `(m,)`, larger is stranger, and the best row of each, int64 `(m,)`.
        """
        self.start()
        queries = prepare(embeddings, self.config.metric)
        scores = np.empty(len(queries), dtype=np.float32)
        rows = np.empty(len(queries), dtype=np.int64)
        if self._search is None or self.index is None:
            for part in blocks(len(queries), len(self.bank)):
                table = distances(queries[part], self.ready, self.config.metric)
                scores[part], rows[part] = self._rank(table, None)
            return scores, rows
        compared = self.index.plan.compared
        for i, (label, bound) in enumerate(self._proposed(queries)):
            one = slice(i, i + 1)
            scores[one], rows[one] = self._rank(*self._able(queries[one], label, bound, compared))
        return scores, rows

    def _able(
        self,
        query: Matrix,
        label: npt.NDArray[np.int64],
        bound: npt.NDArray[np.float32],
        compared: int,
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
        """Distances `(1, n)` to the candidates that may be among the k best, and those candidates.

        The most promising are compared first; what by its bound cannot be better is left unread,
        and so is what comes after as many as the plan says.
        """
        first = max(_FIRST, self.config.k)
        if len(label) <= first:
            return self._compare(query, label), label
        constants = self.bank.constants[label]
        weight, offset = constants[:, WEIGHT], constants[:, OFFSET]
        least = np.where(weight < 0, -np.inf, bound * weight - offset)
        order = np.argsort(least, kind="stable")
        label, least = label[order], least[order]
        weight, offset = weight[order], offset[order]
        table = self._compare(query, label[:first])
        weighted = table[0] * weight[:first] - offset[:first]
        kth = np.partition(weighted, self.config.k - 1)[self.config.k - 1]
        # In order, so that what may still win follows at once.
        able = int(np.searchsorted(least, kth, side="right"))
        more = max(compared, _PER_K * self.config.k) - first
        if able <= first or more <= 0:
            return table, label[:first]
        rest: npt.NDArray[np.int64] = np.arange(first, able)
        if len(rest) > more:
            # All bounds fall short by about as much: with that added the weights count rightly.
            likely = self._likely(bound[order], table[0]) * weight - offset
            rest = rest[np.argpartition(likely[first:able], more - 1)[:more]]
        table = np.concatenate([table, self._compare(query, label[rest])], axis=1)
        return table, np.concatenate([label[:first], label[rest]])

    def _likely(
        self, bound: npt.NDArray[np.float32], known: npt.NDArray[np.float32]
    ) -> npt.NDArray[np.float32]:
        """What distances are likely to be, by their bounds, the first of them being known."""
        squared = self.config.metric != "cosine"  # which is as the square of a length already
        if squared:
            bound, known = bound * bound, known * known
        found = bound + np.median(known - bound[: len(known)])
        likely: npt.NDArray[np.float32] = np.sqrt(np.maximum(found, 0.0)) if squared else found
        return likely

    def nearest(self, embeddings: Matrix) -> npt.NDArray[np.float32]:
        """Plain distances to the nearest row, without constants.

        Args:
            embeddings: float32, shape `(m, dim)`.

        Returns:
            float32 `(m,)`.
        """
        self.start()
        queries = prepare(embeddings, self.config.metric)
        if self._search is None:
            return np.concatenate(
                [
                    distances(queries[part], self.ready, self.config.metric).min(axis=1)
                    for part in blocks(len(queries), len(self.bank))
                ]
            )
        return np.array(
            [
                self._compare(queries[i : i + 1], label).min()
                for i, (label, _) in enumerate(self._proposed(queries))
            ],
            np.float32,
        )

    def _proposed(
        self, queries: Matrix
    ) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]]:
        """Rows that the index proposes for each query, and what their distances are at least."""
        if self._search is None or self.index is None:  # only called when there is one
            return
        count = min(max(CANDIDATES, self.config.k), len(self.bank))
        reduction, searched = self.index.reduction, self.index.plan.searched
        points = queries if reduction is None else reduction.apply(queries)
        centre = 0.0 if reduction is None else float(np.linalg.norm(reduction.centre))
        for query, point in zip(queries, points, strict=True):
            label, length = self._search.near(point, searched, count)
            size = float(np.linalg.norm(query)) + centre
            bound = np.maximum(length - _SLACK * (length + size), 0.0)
            yield label, bound * bound / 4.0 if self.config.metric == "cosine" else bound

    def _compare(self, query: Matrix, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        """Distances of one query to some rows, `(1, n)`."""
        near, mapped = read_rows(self.bank.vectors, rows)
        found = distances_to_raw(query, near, self.config.metric)
        self._read += mapped * len(rows)
        if self._read > _HELD_ROWS:
            self._read = 0
            hand_back(self.bank.vectors)
        return found

    def _rank(
        self, table: Matrix, rows: npt.NDArray[np.int64] | None
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
        constants = self.bank.constants if rows is None else self.bank.constants[rows]
        table = table * constants[None, :, WEIGHT] - constants[None, :, OFFSET]
        k = min(self.config.k, table.shape[1])
        best = np.argmin(table, axis=1).astype(np.int64)
        return nearest_k(table, k, self.config), best if rows is None else rows[best]
