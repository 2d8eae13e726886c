"""Rows of a large bank in cells, of which a search looks at the few nearest (an inverted file).

Sivic and Zisserman 2003 have the idea, Jegou, Douze and Schmid 2011 this form of it: k-means
centres, each with the rows that no other is nearer to. A row is kept as what lies between its
centre and it, so that rounding goes by how far things are apart and not by where they are.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from agent.core.records import Matrix

# Four times the root of the rows: comparing with all centres then costs about as much as looking at
# the cells does.
_CELLS_PER_ROOT = 4
# Centres are found from so many rows for each, in so many rounds.
_SAMPLED, _ROUNDS = 24, 6
_BLOCK = 2048
_SEED = 0


@dataclass(frozen=True, slots=True)
class Cells:
    """The cells of a bank: centres, and the rows nearest to each.

    Attributes:
        centres: float32, `(cells, columns)`.
        starts: Where the rows of each cell begin, and where the last ends, int64 `(cells + 1,)`.
        rows: The bank's rows, cell by cell, int64 `(n,)`.
    """

    centres: Matrix
    starts: npt.NDArray[np.int64]
    rows: npt.NDArray[np.int64]

    def __post_init__(self) -> None:
        """Hold the parts to each other.

        Raises:
            ValueError: They are no cells of any bank; says which part.
        """
        count = len(self.rows)
        ends = len(self.starts) and (int(self.starts[0]), int(self.starts[-1]))
        if len(self.starts) != len(self.centres) + 1 or ends != (0, count):
            raise ValueError(f"{len(self.centres)} cells do not hold {count} rows")
        if (np.diff(self.starts) < 0).any():
            raise ValueError("a cell ends before it begins")
        if count and (self.rows.min() < 0 or self.rows.max() >= count):
            raise ValueError("a cell holds a row that the bank has not")
        if (np.bincount(self.rows, minlength=count) != 1).any():
            raise ValueError("a row lies in two cells")

    @property
    def cell(self) -> npt.NDArray[np.int64]:
        """The cell of each of `rows`, int64 `(n,)`."""
        return np.repeat(np.arange(len(self.centres)), np.diff(self.starts))

    def own(self) -> npt.NDArray[np.int64]:
        """The cell of each row of the bank, int64 `(n,)`."""
        found = np.empty(len(self.rows), np.int64)
        found[self.rows] = self.cell
        return found


def usual_count(rows: int) -> int:
    """The usual number of cells for a bank of so many rows."""
    return max(1, min(rows, 16 * round(_CELLS_PER_ROOT * math.sqrt(rows) / 16)))


def fit_cells(numbers: Matrix, count: int | None = None) -> Cells:
    """Cut a bank into cells; equal banks give equal cells.

    Args:
        numbers: Rows as the index holds them, float32 `(n, columns)`.
        count: How many cells; as is usual for so many rows when None.
    """
    count = usual_count(len(numbers)) if count is None else count
    random = np.random.default_rng(_SEED)
    some = np.sort(random.permutation(len(numbers))[: _SAMPLED * count])
    sample = np.ascontiguousarray(numbers[some])
    # Far from the origin squares would cancel.
    middle = sample.mean(axis=0)
    sample -= middle
    centres = sample[random.permutation(len(sample))[:count]]
    for _ in range(_ROUNDS):
        own = _nearest(sample, centres)
        order = np.argsort(own, kind="stable")
        held, first = np.unique(own[order], return_index=True)
        sums = np.add.reduceat(sample[order], first, axis=0)
        centres[held] = sums / np.diff(np.append(first, len(order)))[:, None]
    centres += middle
    return _in_cells(centres, nearest_cells(numbers, centres))


def add_rows(cells: Cells, numbers: Matrix) -> Cells:
    """The cells with the rows of a bank that they lack: those from the first of them on.

    Args:
        cells: Of a bank's first rows.
        numbers: The rows that they lack, float32 `(n, columns)`.
    """
    own = np.concatenate([cells.own(), nearest_cells(numbers, cells.centres)])
    return _in_cells(cells.centres, own)


def nearest_cells(numbers: Matrix, centres: Matrix) -> npt.NDArray[np.int64]:
    """The cell whose centre is nearest to each row, int64 `(n,)`."""
    middle = centres.mean(axis=0)
    near = centres - middle
    parts = [
        _nearest(numbers[at : at + _BLOCK] - middle, near) for at in range(0, len(numbers), _BLOCK)
    ]
    return np.concatenate(parts) if parts else np.zeros(0, np.int64)


def cell_places(
    asked: Matrix, own: npt.NDArray[np.int64], centres: Matrix
) -> npt.NDArray[np.int64]:
    """At which place a cell is of all, the nearest first, from 0.

    Args:
        asked: Points, float32 `(n, columns)`.
        own: A cell for each, int64 `(n,)`.
        centres: float32 `(cells, columns)`.
    """
    middle = centres.mean(axis=0)
    far = _distances(asked - middle, centres - middle)
    found: npt.NDArray[np.int64] = (far < far[np.arange(len(asked)), own][:, None]).sum(axis=1)
    return found


class CellSearch:
    """Looks for rows near a point; of any number of threads at once.

    Args:
        cells: Which rows lie near each other.
        blocks: What lies between its centre and each of `cells.rows`, in order, float32
            `(m, columns)` at a time.
    """

    def __init__(self, cells: Cells, blocks: Iterable[Matrix]) -> None:
        self._starts, self._rows, self._centres = cells.starts, cells.rows, cells.centres
        self._middle = cells.centres.mean(axis=0)
        self._around = np.ascontiguousarray(cells.centres - self._middle)
        self._half = 0.5 * np.einsum("ij,ij->i", self._around, self._around)
        # Each row with half its own square behind it: one product gives what ranks it.
        self._apart = np.empty((len(cells.rows), cells.centres.shape[1] + 1), np.float32)
        at = 0
        for block in blocks:
            part = self._apart[at : at + len(block)]
            part[:, :-1] = block
            part[:, -1] = 0.5 * np.einsum("ij,ij->i", block, block)
            at += len(block)

    def near(
        self, point: Matrix, searched: int, count: int
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        """The nearest rows of the cells that are looked at.

        Args:
            point: float32 `(columns,)`.
            searched: How many cells are looked at; more where they hold fewer rows than wanted.
            count: Rows wanted.

        Returns:
            Rows of the bank, int64 `(m,)`, in no order, and how far off they are, float32 `(m,)`.
        """
        cells = self._cells(point, searched, min(count, len(self._rows)))
        begin, end = self._starts[cells], self._starts[cells + 1]
        ends = np.cumsum(end - begin)
        off = np.empty((len(cells), len(point) + 1), np.float32)
        np.subtract(point, self._centres[cells], out=off[:, :-1])  # of the point, from each centre
        off[:, -1] = -1
        score = np.empty(int(ends[-1]), np.float32)
        at = 0
        for i, (first, last, stop) in enumerate(
            zip(begin.tolist(), end.tolist(), ends.tolist(), strict=True)
        ):
            np.dot(self._apart[first:last], off[i], out=score[at:stop])
            at = stop
        # |x - y|^2 / 2 from x - c and y - c, c the cell's centre: both are short.
        own = 0.5 * np.einsum("ij,ij->i", off[:, :-1], off[:, :-1])
        np.subtract(np.repeat(own, end - begin), score, out=score)
        best = _least(score, count)
        which = np.searchsorted(ends, best, side="right")
        place = end[which] - (ends[which] - best)
        between = off[which, :-1] - self._apart[place, :-1]
        return self._rows[place], np.sqrt(np.einsum("ij,ij->i", between, between))

    def _cells(self, point: Matrix, searched: int, count: int) -> npt.NDArray[np.int64]:
        far = self._half - self._around @ (point - self._middle)
        while searched < len(far):
            cells = np.argpartition(far, searched - 1)[:searched]
            if (self._starts[cells + 1] - self._starts[cells]).sum() >= count:
                return cells
            searched *= 2
        return np.arange(len(far))


def _least(score: npt.NDArray[np.float32], count: int) -> npt.NDArray[np.int64]:
    """Places of the `count` least, in no order.

    As many are found among an eighth first: what is above all of those need not be sorted out from
    the rest.
    """
    able: npt.NDArray[np.int64] = np.arange(len(score))
    if len(score) <= count:
        return able
    few = score[::8]
    if len(few) > count:
        most = np.partition(few, count - 1)[count - 1]
        able = np.flatnonzero(~(score > most))  # what is no number stays, and is last
    return able[np.argpartition(score[able], count - 1)[:count]]


def _nearest(points: Matrix, centres: Matrix) -> npt.NDArray[np.int64]:
    half = 0.5 * np.einsum("ij,ij->i", centres, centres)
    found = np.empty(len(points), np.int64)
    for at in range(0, len(points), _BLOCK):
        table = points[at : at + _BLOCK] @ centres.T
        np.subtract(half, table, out=table)
        found[at : at + _BLOCK] = table.argmin(axis=1)
    return found


def _distances(points: Matrix, centres: Matrix) -> Matrix:
    far: Matrix = 0.5 * np.einsum("ij,ij->i", centres, centres) - points @ centres.T
    return far


def _in_cells(centres: Matrix, own: npt.NDArray[np.int64]) -> Cells:
    rows = np.argsort(own, kind="stable")
    starts = np.concatenate([[0], np.cumsum(np.bincount(own, minlength=len(centres)))])
    return Cells(np.ascontiguousarray(centres, np.float32), starts.astype(np.int64), rows)
