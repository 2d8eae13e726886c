"""The HNSW index of a large memory bank (Malkov and Yashunin 2018), made the same way every time.

The raw vectors are the source of truth: the index only proposes candidates, which are compared
exactly, and it can be made anew from them at any time. How it is made is chosen at export, by the
share of nearest rows that it proposes.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from agent.config.scorer_knn import Metric
from agent.core.errors import BundleError
from agent.core.records import Matrix
from agent.score.bank import distances, prepare
from agent.score.index_check import check_index

# Candidates the index proposes for exact comparison: the nearest row after normalising need not be
# the nearest before.
CANDIDATES = 128
SEED = 0
# Queries that measure recall.
_ASKED = 256
_BLOCK = 32


@dataclass(frozen=True, slots=True)
class IndexPlan:
    """How an index is made and asked.

    Attributes:
        links: Links a row has on each level above the ground (M).
        weighed: Candidates weighed when a row is added (ef_construction).
        ef: Candidates weighed in a search, at least `CANDIDATES`.
        recall: Share of nearest rows that it proposed when it was chosen; NaN when never measured.
        usable: Whether that was enough; if not every row is compared.
    """

    links: int = 16
    weighed: int = 200
    ef: int = 2 * CANDIDATES
    recall: float = float("nan")
    usable: bool = True

    def array(self) -> Matrix:
        """The settings as a bundle keeps them, `(5,)`."""
        numbers = (self.links, self.weighed, self.ef, self.recall, self.usable)
        return np.array(numbers, dtype=np.float32)

    @classmethod
    def of(cls, array: Matrix) -> IndexPlan:
        """The plan that `array` wrote."""
        links, weighed, ef, recall, usable = (float(value) for value in array)
        return cls(int(links), int(weighed), int(ef), recall, bool(usable))


# From the cheapest to the most thorough. Candidates are compared exactly, so the nearest row need
# only be among them: 40 weighed are mostly enough, at a tenth of the building time of 200.
PLANS = (
    IndexPlan(16, 40, 128),
    IndexPlan(16, 40, 256),
    IndexPlan(16, 200, 256),
    IndexPlan(32, 400, 256),
    IndexPlan(48, 600, 512),
)


def space(metric: Metric) -> str:
    """The library's name of a metric."""
    return "cosine" if metric == "cosine" else "l2"


def build_index(vectors: Matrix, metric: Metric, plan: IndexPlan | None = None) -> Any:
    """Index a bank; one thread and a fixed seed, so that equal banks give equal bytes.

    Args:
        vectors: float32, shape `(rows, dim)`; labels are the row numbers.
        metric: Distance of the scorer.
        plan: How; the usual way when None.
    """
    import hnswlib  # noqa: PLC0415 - only large banks and export pay for it

    plan = plan or IndexPlan()
    index = hnswlib.Index(space=space(metric), dim=vectors.shape[1])
    index.init_index(
        max_elements=len(vectors),
        M=plan.links,
        ef_construction=plan.weighed,
        random_seed=SEED,
    )
    index.add_items(vectors, num_threads=1)
    return index


def choose_plan(vectors: Matrix, metric: Metric, recall: float, *, seed: int = 0) -> IndexPlan:
    """The cheapest way of indexing a bank that proposes enough of the nearest rows.

    As `plan_index`, short of the index.
    """
    return plan_index(vectors, metric, recall, seed=seed)[0]


def plan_index(
    vectors: Matrix, metric: Metric, recall: float, *, seed: int = 0
) -> tuple[IndexPlan, Any]:
    """The cheapest way of indexing a bank that proposes enough of the nearest rows, and the index.

    Asked for are points between a row and its neighbourhood: a tenth of the way from a row to
    another one at random, where no row lies.

    Args:
        vectors: float32, shape `(rows, dim)`.
        metric: Distance of the scorer.
        recall: Share of the nearest rows that must be among the `CANDIDATES` proposed.
        seed: Of the queries.

    Returns:
        The plan, with the recall it reached (not `usable` when no plan reaches it), and the index
        made by it.
    """
    ready = prepare(vectors, metric)
    random = np.random.default_rng(seed)
    first, second = random.integers(0, len(ready), (2, min(_ASKED, len(ready))))
    asked = prepare(ready[first] + 0.1 * (ready[second] - ready[first]), metric)
    nearest = np.concatenate(
        [
            distances(asked[at : at + _BLOCK], ready, metric).min(axis=1)
            for at in range(0, len(asked), _BLOCK)
        ]
    )
    index: Any = None
    made: IndexPlan | None = None
    for plan in PLANS:
        if made is None or (made.links, made.weighed) != (plan.links, plan.weighed):
            index, made = build_index(ready, metric, plan), plan
        index.set_ef(plan.ef)
        labels, _ = index.knn_query(asked, k=min(CANDIDATES, len(ready)), num_threads=1)
        # By distance, not by number: of equal rows either will do.
        found = np.array(
            [
                distances(asked[i : i + 1], ready[label], metric).min()
                for i, label in enumerate(labels.astype(np.int64))
            ]
        )
        reached = float(np.mean(found <= nearest * (1 + 1e-4) + 1e-6))
        if reached >= recall:
            return IndexPlan(plan.links, plan.weighed, plan.ef, reached), index
    last = PLANS[-1]
    return IndexPlan(last.links, last.weighed, last.ef, reached, usable=False), index


def write_index(
    path: Path,
    vectors: Matrix,
    metric: Metric,
    plan: IndexPlan | None = None,
    *,
    grown_from: Path | None = None,
) -> None:
    """Build and write an index.

    Args:
        path: The file.
        vectors: float32, shape `(rows, dim)`.
        metric: Distance of the scorer.
        plan: How.
        grown_from: Index of this bank's first rows, which is read and added to (never changed
            itself); one that is not that is left alone, and all is indexed anew.

    Raises:
        BundleError: The file is not as long as it should be; the library is silent about a full
            disk.
    """
    index = None if grown_from is None else _grown(grown_from, vectors, metric)
    if index is None:
        index = build_index(vectors, metric, plan)
    index.save_index(str(path))
    if path.stat().st_size != index.index_file_size():
        raise BundleError(
            "was not written in full", where=path, remedy="Is the disk full? Make room and repeat."
        )


def _grown(path: Path, vectors: Matrix, metric: Metric) -> Any:
    """An index with the rows added that it lacks; None when its rows are not this bank's first."""
    import hnswlib  # noqa: PLC0415

    try:
        count = check_index(path, vectors, metric)
    except BundleError:
        return None
    index = hnswlib.Index(space=space(metric), dim=vectors.shape[1])
    index.load_index(str(path), max_elements=len(vectors))
    if count < len(vectors):
        index.add_items(vectors[count:], np.arange(count, len(vectors)), num_threads=1)
    return index
