"""The HNSW index of a large memory bank (Malkov and Yashunin 2018), made the same way every time.

The raw vectors are the source of truth: the index only proposes candidates, which are compared
exactly, and it can be made anew from them at any time. How it is made is chosen at export, by the
share of nearest rows that it proposes. Of long embeddings it holds a reduced form
(agent/score/reduction.py).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from agent.config.scorer_knn import Metric
from agent.core.errors import BundleError
from agent.core.records import Matrix
from agent.score.bank import prepare
from agent.score.index_check import check_index
from agent.score.recall import Question, ask_between
from agent.score.reduction import COLUMNS, REDUCED_FROM_DIM, Reduction, fit_reduction

# Candidates the index proposes for exact comparison: the nearest row after normalising need not be
# the nearest before.
CANDIDATES = 128
SEED = 0
# How a larger bank is indexed is chosen on so many of its rows, and then measured on all.
_CHOSEN_ON = 100_000
# Of the candidates so many are compared at most, the fewest that do.
_COMPARED = (32, 64, CANDIDATES)
# A search weighs so many candidates at most to reach the recall with an index that there is.
_MOST_EF = 512
_BLOCK = 20_000


@dataclass(frozen=True, slots=True)
class IndexPlan:
    """How an index is made and asked.

    Attributes:
        links: Links a row has on each level above the ground (M).
        weighed: Candidates weighed when a row is added (ef_construction).
        ef: Candidates weighed in a search, at least `CANDIDATES`.
        recall: Share of nearest rows that were among those compared when it was chosen; NaN when
            never measured.
        usable: Whether that was enough; if not every row is compared.
        compared: Candidates compared exactly at most, the most promising; of reduced rows alone.
    """

    links: int = 16
    weighed: int = 200
    ef: int = 2 * CANDIDATES
    recall: float = float("nan")
    usable: bool = True
    compared: int = CANDIDATES

    def array(self) -> Matrix:
        """The settings as a bundle keeps them, `(6,)`."""
        numbers = (self.links, self.weighed, self.ef, self.recall, self.usable, self.compared)
        return np.array(numbers, dtype=np.float32)

    @classmethod
    def of(cls, array: Matrix) -> IndexPlan:
        """The plan that `array` wrote; of bundles of before all candidates are compared.

        Raises:
            ValueError: It has not as many numbers.
        """
        if len(array) not in {5, 6}:
            raise ValueError(f"should be 6 numbers, but is {len(array)}")
        links, weighed, ef, recall, usable, *more = (float(value) for value in array)
        compared = int(more[0]) if more else CANDIDATES
        return cls(int(links), int(weighed), int(ef), recall, bool(usable), compared)


# From the cheapest to the most thorough. Candidates are compared exactly, so the nearest row need
# only be among them: 40 weighed are mostly enough, at a tenth of the building time of 200.
PLANS = (
    IndexPlan(16, 40, 128),
    IndexPlan(16, 40, 256),
    IndexPlan(16, 100, 256),
    IndexPlan(16, 200, 256),
    IndexPlan(32, 400, 256),
    IndexPlan(48, 600, 512),
)


def space(metric: Metric) -> str:
    """The library's name of a metric."""
    return "cosine" if metric == "cosine" else "l2"


def build_index(
    vectors: Matrix,
    metric: Metric,
    plan: IndexPlan | None = None,
    reduction: Reduction | None = None,
) -> Any:
    """Index a bank; one thread and a fixed seed, so that equal banks give equal bytes.

    Args:
        vectors: float32, shape `(rows, dim)`; labels are the row numbers.
        metric: Distance of the scorer.
        plan: How; the usual way when None.
        reduction: What the index holds in the place of the vectors; they themselves when None.
    """
    plan = plan or IndexPlan()
    index = _empty(metric, vectors.shape[1], reduction)
    index.init_index(
        max_elements=len(vectors),
        M=plan.links,
        ef_construction=plan.weighed,
        random_seed=SEED,
    )
    _add(index, vectors, 0, metric, reduction)
    return index


def read_index(path: Path, rows: int, dim: int, metric: Metric, reduction: Reduction | None) -> Any:
    """Read an index that was checked.

    Args:
        path: The file.
        rows: Rows that it must have room for.
        dim: Length of an embedding.
        metric: Distance of the scorer.
        reduction: What it was made with.
    """
    index = _empty(metric, dim, reduction)
    index.load_index(str(path), max_elements=rows)
    return index


def choose_plan(
    vectors: Matrix, metric: Metric, recall: float, *, seed: int = 0
) -> tuple[IndexPlan, Reduction | None]:
    """The cheapest way of indexing a bank that proposes enough of the nearest rows.

    A bank of more than 100,000 rows is judged by so many of them, evenly; `write_index` measures
    again what it has made of them all. Whether a reduction can do at all is asked of every row: the
    more there are, the more of them seem near by few numbers.

    Args:
        vectors: float32, shape `(rows, dim)`.
        metric: Distance of the scorer.
        recall: Share of the nearest rows that must be among the `CANDIDATES` proposed.
        seed: Of the queries.

    Returns:
        The plan, with the recall it reached (not `usable` when no plan reaches it), and what is
        indexed in the place of long vectors.
    """
    some = np.ascontiguousarray(vectors[:: -(-len(vectors) // _CHOSEN_ON)])
    whole = ask_between(vectors, metric, seed=seed)
    question = whole if len(some) == len(vectors) else ask_between(some, metric, seed=seed)
    for columns in COLUMNS if vectors.shape[1] >= REDUCED_FROM_DIM else ():
        reduction = fit_reduction(prepare(some, metric), columns)
        # Half of what may be missed is left for the index.
        if _ceiling(whole, reduction) < (1 + recall) / 2:
            continue
        plan = _cheapest(question, recall, reduction)
        if plan.usable:
            return plan, reduction
    return _cheapest(question, recall, None), None


def _cheapest(question: Question, recall: float, reduction: Reduction | None) -> IndexPlan:
    """The first of the plans that reaches a recall; else the last, not usable."""
    index: Any = None
    made: IndexPlan | None = None
    measured = PLANS[-1]
    for plan in PLANS:
        if made is None or (made.links, made.weighed) != (plan.links, plan.weighed):
            index = build_index(question.vectors, question.metric, plan, reduction)
            made = plan
        measured = _measured(index, question, plan, recall, reduction)
        if measured.usable:
            break
    return measured


def write_index(
    path: Path,
    vectors: Matrix,
    metric: Metric,
    plan: IndexPlan | None = None,
    *,
    reduction: Reduction | None = None,
    recall: float | None = None,
    grown_from: Path | None = None,
) -> IndexPlan:
    """Build and write an index.

    Args:
        path: The file.
        vectors: float32, shape `(rows, dim)`.
        metric: Distance of the scorer.
        plan: How.
        reduction: What the index holds in the place of the vectors; of `grown_from` as well.
        recall: Share of the nearest rows that it must propose: measured, and reached by weighing
            more candidates, or building more thoroughly, where `plan` does not; not measured when
            None.
        grown_from: Index of this bank's first rows, which is read and added to (never changed
            itself); one that is not that is left alone, and all is indexed anew.

    Returns:
        The plan, with the recall that was measured.

    Raises:
        BundleError: The file is not as long as it should be; the library is silent about a full
            disk.
    """
    plan = plan or IndexPlan()
    index = None if grown_from is None else _grown(grown_from, vectors, metric, reduction)
    if index is None:
        index = build_index(vectors, metric, plan, reduction)
    if recall is not None and plan.usable:
        question = ask_between(vectors, metric)
        plan = _asked_more(index, question, plan, recall, reduction)
        if not plan.usable and (reduction is None or _ceiling(question, reduction) >= recall):
            index, plan = _thorough(question, plan, recall, reduction)
    index.save_index(str(path))
    if path.stat().st_size != index.index_file_size():
        raise BundleError(
            "was not written in full", where=path, remedy="Is the disk full? Make room and repeat."
        )
    return plan


def _ceiling(question: Question, reduction: Reduction) -> float:
    """The share of nearest rows that an index of reduced rows proposes if it misses nothing."""
    places = question.places_without_index(lambda ready: _reduced(ready, reduction))
    return float(np.mean(places < CANDIDATES))


def _asked_more(
    index: Any, question: Question, plan: IndexPlan, recall: float, reduction: Reduction | None
) -> IndexPlan:
    """The plan with the fewest candidates weighed in a search that reaches the recall."""
    while True:
        plan = _measured(index, question, plan, recall, reduction)
        if plan.usable or plan.ef >= _MOST_EF:
            return plan
        plan = replace(plan, ef=min(2 * plan.ef, _MOST_EF))


def _thorough(
    question: Question, plan: IndexPlan, recall: float, reduction: Reduction | None
) -> tuple[Any, IndexPlan]:
    """The index of the next more thorough plan that reaches the recall; of the last, if none."""
    better = [
        other for other in PLANS if (other.links, other.weighed) > (plan.links, plan.weighed)
    ] or [PLANS[-1]]
    index: Any = None
    for other in better:
        index = build_index(question.vectors, question.metric, other, reduction)
        plan = _asked_more(index, question, other, recall, reduction)
        if plan.usable:
            break
    return index, plan


def _measured(
    index: Any, question: Question, plan: IndexPlan, recall: float, reduction: Reduction | None
) -> IndexPlan:
    """The plan with the fewest candidates compared that reach the recall, and what they reach."""
    index.set_ef(plan.ef)
    count = min(CANDIDATES, len(question.vectors))
    places = question.places(index, count, lambda ready: _reduced(ready, reduction))
    reached, compared = 0.0, CANDIDATES
    for compared in _COMPARED if reduction is not None else (CANDIDATES,):
        reached = float(np.mean(places < compared))
        if reached >= recall:
            break
    return replace(plan, recall=reached, usable=reached >= recall, compared=compared)


def _grown(path: Path, vectors: Matrix, metric: Metric, reduction: Reduction | None) -> Any:
    """An index with the rows added that it lacks; None when its rows are not this bank's first."""
    try:
        count = check_index(path, vectors, metric, reduction)
    except BundleError:
        return None
    index = read_index(path, len(vectors), vectors.shape[1], metric, reduction)
    _add(index, vectors, count, metric, reduction)
    return index


def _empty(metric: Metric, dim: int, reduction: Reduction | None) -> Any:
    import hnswlib  # noqa: PLC0415 - only large banks and export pay for it

    if reduction is None:
        return hnswlib.Index(space=space(metric), dim=dim)
    # Prepared vectors are compared: for unit vectors (1 - cos) / 2 is a quarter of the square.
    return hnswlib.Index(space="l2", dim=reduction.columns)


def _add(
    index: Any, vectors: Matrix, first: int, metric: Metric, reduction: Reduction | None
) -> None:
    """Add the rows from `first` on, a block at a time: a mapped bank is not copied as a whole."""
    for at in range(first, len(vectors), _BLOCK):
        part = vectors[at : at + _BLOCK]
        if reduction is not None:
            part = reduction.apply(prepare(part, metric))
        index.add_items(part, np.arange(at, at + len(part)), num_threads=1)


def _reduced(ready: Matrix, reduction: Reduction | None) -> Matrix:
    return ready if reduction is None else reduction.apply(ready)
