"""The index of a large memory bank: cells of reduced rows, made the same way every time.

The raw vectors are the source of truth: the index only proposes candidates, which are compared
exactly, and it can be made anew from them at any time. How much of it a search looks at is chosen
at export, by rows whose own recordings are left out (agent/score/recall.py). Of long embeddings it
holds a reduced form (agent/score/reduction.py).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from agent.config.scorer_knn import Metric
from agent.core.errors import BundleError
from agent.core.records import Matrix
from agent.score.bank import prepare
from agent.score.cells import (
    Cells,
    CellSearch,
    add_rows,
    cell_places,
    fit_cells,
    usual_count,
)
from agent.score.recall import Question, ask_left_out
from agent.score.reduction import COLUMNS, REDUCED_FROM_DIM, Reduction, fit_reduction

# Candidates the index proposes for exact comparison: the nearest row after normalising need not be
# the nearest before.
CANDIDATES = 128
# Of the candidates so many are compared at most, the fewest that do.
_COMPARED = (32, 64, CANDIDATES)
# Cells that are looked at, and numbers for a row, where nothing was measured.
_SEARCHED, _UNMEASURED = 64, 128
# Cells are made anew once a bank of so many rows is usually cut into so many times as many.
_OUTGROWN = 2.0
_BLOCK = 8192
# A reduction is found from so many rows.
_SAMPLE = 20_000
# Rows of an index that are held to the bank when it is opened.
_HELD = 256
_TOLERANCE = 1e-4

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class IndexPlan:
    """How an index is asked.

    Attributes:
        searched: Cells that are looked at, the nearest.
        compared: Candidates compared exactly at most, the most promising.
        recall: Share of nearest rows that were among those compared when it was chosen; NaN when
            never measured.
        usable: Whether that was enough; if not every row is compared.
    """

    searched: int = _SEARCHED
    compared: int = CANDIDATES
    recall: float = float("nan")
    usable: bool = True

    def array(self) -> Matrix:
        """The settings as a bundle keeps them, `(4,)`."""
        return np.array([self.searched, self.compared, self.recall, self.usable], np.float32)

    @classmethod
    def of(cls, array: npt.NDArray[np.floating]) -> IndexPlan:
        """The plan that `array` wrote.

        Raises:
            ValueError: It is none.
        """
        searched, compared, recall, usable = (float(value) for value in array)
        if searched < 1 or compared < 1:
            raise ValueError("has a search look at nothing")
        return cls(int(searched), int(compared), recall, bool(usable))


@dataclass(frozen=True, slots=True)
class Index:
    """How a large bank is searched.

    Attributes:
        plan: How it is asked.
        cells: Which rows lie near each other.
        reduction: What it holds in the place of the vectors; they themselves when None.
    """

    plan: IndexPlan
    cells: Cells
    reduction: Reduction | None

    def numbers(self, vectors: Matrix, metric: Metric) -> Matrix:
        """Rows as it holds them."""
        return _numbers(vectors, metric, self.reduction)


def choose_index(
    vectors: Matrix,
    metric: Metric,
    recall: float,
    groups: Sequence[str],
    *,
    grown_from: tuple[Path, Index] | None = None,
    seed: int = 0,
) -> Index:
    """The cheapest index of a bank that proposes enough of the nearest rows.

    Args:
        vectors: float32, shape `(rows, dim)`.
        metric: Distance of the scorer.
        recall: Share of the nearest rows that must be among those compared.
        groups: The recording of each row: what is asked about is left out with it.
        grown_from: File and index of this bank's first rows, neither of which is changed: its
            cells take up the others, as long as they reach the recall and the bank is not four
            times as large. One of other rows is left alone.
        seed: Of what is asked.

    Returns:
        The index; its plan is not `usable` when nothing reaches the recall.
    """
    question = ask_left_out(vectors, metric, groups, seed=seed)
    if grown_from is not None:
        grown = _grown(*grown_from, question, recall)
        if grown is not None:
            return grown
    reduction = None
    places: npt.NDArray[Any] = np.zeros(len(question.asked), np.int64)
    for columns in COLUMNS if vectors.shape[1] >= REDUCED_FROM_DIM else ():
        some = vectors[:: max(1, -(-len(vectors) // _SAMPLE))]
        fitted = fit_reduction(prepare(some, metric), columns)
        by_columns = question.places(fitted.apply)
        # Half of what may be missed is left for the cells.
        if np.mean(by_columns < CANDIDATES) >= (1 + recall) / 2:
            reduction, places = fitted, by_columns
            break
    cells = fit_cells(_all_numbers(vectors, metric, reduction))
    return _planned(question, cells, reduction, places, recall)


def _grown(path: Path, index: Index, question: Question, recall: float) -> Index | None:
    """The index with the rows that it lacks; None where it has to be made anew."""
    before, vectors = len(index.cells.rows), question.vectors
    outgrown = usual_count(len(vectors)) > _OUTGROWN * len(index.cells.centres)
    if outgrown or len(vectors) < before or not index.plan.usable:
        return None
    numbers = _all_numbers(vectors, question.metric, index.reduction)
    try:
        stored = _read(path, index)
    except BundleError:
        return None
    for at, part in _apart(numbers[:before], index.cells):
        slack = _TOLERANCE * (1 + np.linalg.norm(part, axis=1).max())
        if not np.allclose(stored[at : at + len(part)], part, rtol=0, atol=slack):
            return None
    cells = add_rows(index.cells, numbers[before:])
    places: npt.NDArray[Any] = np.zeros(len(question.asked), np.int64)
    if index.reduction is not None:
        places = question.places(index.reduction.apply)
    found = _planned(question, cells, index.reduction, places, recall)
    return found if found.plan.usable else None


def _planned(
    question: Question,
    cells: Cells,
    reduction: Reduction | None,
    places: npt.NDArray[np.int64],
    recall: float,
) -> Index:
    """The index with the fewest candidates and cells that reach the recall."""
    asked = question.asked if reduction is None else reduction.apply(question.asked)
    looked = cell_places(asked, cells.own()[question.rows], cells.centres)
    compared = next(
        (n for n in _COMPARED if np.mean(places < n) >= (1 + recall) / 2), _COMPARED[-1]
    )
    among = np.sort(np.where(places < compared, looked, len(cells.centres)))
    # So many of them must be found; their cells are looked at up to the farthest.
    wanted = int(np.ceil(recall * len(among) - 1e-9))
    searched = int(among[max(0, wanted - 1)]) + 1
    usable = searched <= len(cells.centres)
    searched = min(searched, len(cells.centres))
    reached = float(np.mean(among < searched))
    return Index(IndexPlan(searched, compared, reached, usable), cells, reduction)


def write_index(path: Path, vectors: Matrix, metric: Metric, index: Index) -> None:
    """Write the rows as an index holds them, cell by cell, less their cell's centre.

    Args:
        path: The file, of NumPy's format.
        vectors: The bank, float32 `(rows, dim)`.
        metric: Distance of the scorer.
        index: How the bank is searched.

    Raises:
        OSError: The disk is full.
    """
    numbers = _all_numbers(vectors, metric, index.reduction)
    kind: Any = np.lib.format
    with path.open("wb") as file:
        kind.write_array_header_1_0(
            file, {"descr": "<f4", "fortran_order": False, "shape": numbers.shape}
        )
        for _, part in _apart(numbers, index.cells):
            file.write(np.ascontiguousarray(part, "<f4").tobytes())


def open_index(
    path: Path, vectors: Matrix, metric: Metric, index: Index | None
) -> tuple[CellSearch, Index]:
    """Read an index, or make it anew where there is none of this bank.

    Args:
        path: Written by `write_index`.
        vectors: The bank, float32 `(rows, dim)`.
        metric: Distance of the scorer.
        index: How the bank is searched; None of a bundle of before, whose index is of another kind.

    Returns:
        What searches, and by which index.

    Raises:
        BundleError: It is no index, or one of another bank.
    """
    if index is None or len(index.cells.rows) != len(vectors):
        return _made_anew(path, vectors, metric, None if index is None else index.reduction)
    stored = _read(path, index)
    _hold(path, stored, vectors, metric, index)
    return CellSearch(index.cells, _blocks(stored)), index


def _read(path: Path, index: Index) -> Matrix:
    """The file of an index, mapped."""
    try:
        stored: Any = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as fault:
        # NumPy reads a header with Python's own parser, whose errors are of many kinds.
        raise _bad(path, f"it cannot be read ({fault})") from fault
    shape = (len(index.cells.rows), index.cells.centres.shape[1])
    found = (getattr(stored, "dtype", None), getattr(stored, "shape", None))
    if found != (np.dtype(np.float32), shape) or not stored.flags.c_contiguous:
        raise _bad(path, f"it should be float32 {shape}, but is {found[0]} {found[1]}")
    return stored  # type: ignore[no-any-return]  # checked above


def _hold(path: Path, apart: Matrix, vectors: Matrix, metric: Metric, index: Index) -> None:
    """Some rows are the bank's: a search by others would miss what is near.

    That is all it could do: whatever it proposes is compared exactly, and nothing it holds is
    followed, so that an altered index raises scores and never lowers one.
    """
    cells = index.cells
    if not all(np.isfinite(block).all() for block in _blocks(apart)):
        raise _bad(path, "it holds numbers that are not finite")
    some = np.unique(np.linspace(0, len(apart) - 1, _HELD).astype(np.int64))
    rows = vectors[cells.rows[some]]
    wanted = index.numbers(rows, metric)
    off = np.abs(apart[some] + cells.centres[cells.cell[some]] - wanted).max(axis=1)
    size = np.linalg.norm(prepare(rows, metric), axis=1)
    if (off > _TOLERANCE * (1 + size)).any():
        row = int(cells.rows[some][int(np.argmax(off - _TOLERANCE * (1 + size)))])
        raise _bad(path, f"it holds another vector than the bank for row {row}")


def _made_anew(
    path: Path, vectors: Matrix, metric: Metric, reduction: Reduction | None
) -> tuple[CellSearch, Index]:
    start = time.monotonic()
    if reduction is None and vectors.shape[1] >= REDUCED_FROM_DIM:
        some = vectors[:: max(1, -(-len(vectors) // _SAMPLE))]
        reduction = fit_reduction(prepare(some, metric), _UNMEASURED)
    numbers = _all_numbers(vectors, metric, reduction)
    cells = fit_cells(numbers)
    search = CellSearch(cells, (part for _, part in _apart(numbers, cells)))
    _log.warning(
        "%s is of another version of auscult or of another bank: an index of %d rows was made "
        "anew (%.0f s; so it is at every start). Export the bundle again with `auscult export`.",
        path, len(vectors), time.monotonic() - start,
    )  # fmt: skip
    return search, Index(IndexPlan(), cells, reduction)


def _blocks(array: Matrix) -> Iterator[Matrix]:
    for at in range(0, len(array), _BLOCK):
        yield array[at : at + _BLOCK]


def _apart(numbers: Matrix, cells: Cells) -> Iterator[tuple[int, Matrix]]:
    """Rows less their cell's centre, cell by cell: where they begin, and a block of them."""
    cell = cells.cell
    for at in range(0, len(numbers), _BLOCK):
        part = slice(at, at + _BLOCK)
        yield at, numbers[cells.rows[part]] - cells.centres[cell[part]]


def _all_numbers(vectors: Matrix, metric: Metric, reduction: Reduction | None) -> Matrix:
    """A bank as an index holds it, a block at a time: a mapped bank is not copied as a whole."""
    columns = vectors.shape[1] if reduction is None else reduction.columns
    found = np.empty((len(vectors), columns), np.float32)
    for at in range(0, len(vectors), _BLOCK):
        found[at : at + _BLOCK] = _numbers(vectors[at : at + _BLOCK], metric, reduction)
    return found


def _numbers(vectors: Matrix, metric: Metric, reduction: Reduction | None) -> Matrix:
    ready = prepare(vectors, metric)
    return ready if reduction is None else reduction.apply(ready)


def _bad(path: Path, what: str) -> BundleError:
    return BundleError(
        f"is no index of this bank: {what}",
        where=path,
        remedy="Do not use this bundle: export it again with `auscult export`.",
    )
