"""Nearest-neighbour anomaly score: how far the closest healthy window is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from agent.config.scorer_knn import KnnConfig
from agent.core.errors import BundleError
from agent.core.records import Matrix
from agent.score.bank import OFFSET, WEIGHT, MemoryBank, blocks, distances, prepare
from agent.score.index import CANDIDATES, IndexPlan, build_index, space
from agent.score.index_check import check_index
from agent.score.normalize import nearest_k

# Below this many rows a plain matrix product beats any index (and is exact).
EXACT_UP_TO = 20_000
# A device makes an index anew of so many rows at most: a million would take it an hour.
_REBUILT_UP_TO = 100_000


class KnnScorer:
    """Scores embeddings against a memory bank.

    score(x) = mean of the k smallest over rows y of  d(x, y) * weight(y) - offset(y)

    Small banks are searched exactly. Larger ones take candidates from the HNSW index, when there is
    one, and rank those exactly from the raw vectors, so the index can only miss a row, never
    misjudge one.

    Args:
        bank: Rows and their constants.
        config: Metric and k.
        index: `bank.hnsw`; read on `start`, only when the bank is large.
        plan: How the index was made; the usual way when None. One that missed its recall is not
            used.
    """

    def __init__(
        self,
        bank: MemoryBank,
        config: KnnConfig,
        index: Path | None = None,
        *,
        plan: IndexPlan | None = None,
    ) -> None:
        self.bank = bank
        self.config = config
        self.plan = plan or IndexPlan()
        self._index_path = index
        self._index: Any = None
        self._ready: Matrix | None = None

    def start(self) -> None:
        """Prepare the bank (and load the index of a large one). Idempotent."""
        if self._ready is not None or self._index is not None:
            return
        large = len(self.bank) > EXACT_UP_TO
        if self._index_path is not None and large and self.plan.usable:
            # Candidates are prepared as they come: the raw vectors may stay in their file.
            self._index = _load_index(self._index_path, self.bank.vectors, self.config, self.plan)
        else:
            self._ready = prepare(self.bank.vectors, self.config.metric)

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
        if self._index is None:
            for part in blocks(len(queries), len(self.bank)):
                table = distances(queries[part], self.ready, self.config.metric)
                scores[part], rows[part] = self._rank(table, None)
            return scores, rows
        count = min(max(CANDIDATES, self.config.k), len(self.bank))
        try:
            labels, _ = self._index.knn_query(queries, k=count, num_threads=1)
        except RuntimeError:  # fewer rows are linked to each other than are asked for
            labels = np.tile(np.arange(len(self.bank)), (len(queries), 1))
        for i, label in enumerate(labels.astype(np.int64)):
            near = prepare(self.bank.vectors[label], self.config.metric)
            table = distances(queries[i : i + 1], near, self.config.metric)
            scores[i : i + 1], rows[i : i + 1] = self._rank(table, label)
        return scores, rows

    def _rank(
        self, table: Matrix, rows: npt.NDArray[np.int64] | None
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
        constants = self.bank.constants if rows is None else self.bank.constants[rows]
        table = table * constants[None, :, WEIGHT] - constants[None, :, OFFSET]
        k = min(self.config.k, table.shape[1])
        best = np.argmin(table, axis=1).astype(np.int64)
        return nearest_k(table, k, self.config), best if rows is None else rows[best]


def _load_index(path: Path, vectors: Matrix, config: KnnConfig, plan: IndexPlan) -> Any:
    """Read an index, once it has been held to the bank: hnswlib itself checks nothing.

    Raises:
        BundleError: It is no index of this bank, or of part of one too large to be indexed here.
    """
    import hnswlib  # noqa: PLC0415 - only large banks pay for it

    count = check_index(path, vectors, config.metric)
    if count == len(vectors):
        index = hnswlib.Index(space=space(config.metric), dim=vectors.shape[1])
        index.load_index(str(path), max_elements=len(vectors))
    elif len(vectors) <= _REBUILT_UP_TO:
        # Raw vectors are the source of truth; a stale index is rebuilt, not trusted.
        index = build_index(prepare(vectors, config.metric), config.metric, plan)
    else:
        raise BundleError(
            f"is an index of {count} rows, where the bank has {len(vectors)}",
            where=path,
            remedy="Export the bundle again with `auscult export`.",
        )
    # hnswlib forgets ef at every load (it is 10 then).
    index.set_ef(plan.ef)
    return index
