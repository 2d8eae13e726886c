"""The memory bank: embeddings of healthy windows, and how far apart things are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from agent.bundle.manifest import Row
from agent.config.scorer import Span
from agent.config.scorer_knn import Metric
from agent.core.records import Matrix

# Columns of the row constants.
WEIGHT, OFFSET = 0, 1
# Distances held at once, when many embeddings are compared: a recording may be hours long.
_AT_ONCE, _FEWEST_QUERIES = 1_000_000, 16


@dataclass(frozen=True, slots=True)
class MemoryBank:
    """Healthy embeddings with what normalises each one's distances.

    Attributes:
        vectors: float32, shape `(rows, dim)`, as the encoder gave them.
        constants: float32, shape `(rows, 2)`: a distance d to row i counts as
            `d * constants[i, WEIGHT] - constants[i, OFFSET]`.
        rows: Where each row came from.
    """

    vectors: Matrix
    constants: Matrix
    rows: Sequence[Row]

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.vectors)


def prepare(vectors: Matrix, metric: Metric, spans: Sequence[Span] = ()) -> Matrix:
    """Vectors in the form distances are computed from: unit length for cosine, else unchanged.

    A zero vector stays zero: its cosine with everything is 0, so its distance to everything 0.5.

    Args:
        vectors: float32, shape `(n, dim)`.
        metric: Distance.
        spans: Columns that are made unit vectors of their own for cosine, so that each counts as
            much as another in the cosine of them all; the whole vector as one when empty.
    """
    vectors = np.ascontiguousarray(vectors, dtype=np.float32)
    if metric == "euclidean":
        return vectors
    if spans:
        parts = [prepare(vectors[:, start:stop], metric) for start, stop in spans]
        return prepare(np.concatenate(parts, axis=1), metric)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit: Matrix = vectors / np.maximum(lengths, np.finfo(np.float32).tiny)
    return unit


def distances(queries: Matrix, bank: Matrix, metric: Metric) -> npt.NDArray[np.float32]:
    """Distances between prepared vectors.

    Args:
        queries: float32, shape `(m, dim)`, from `prepare`.
        bank: float32, shape `(n, dim)`, from `prepare`.
        metric: `cosine` gives (1 - cos) / 2, in [0, 1]; `euclidean` the L2 distance.

    Returns:
        float32, shape `(m, n)`, never negative.
    """
    if metric == "cosine":
        halved: Matrix = np.clip((1.0 - queries @ bank.T) / 2.0, 0.0, 1.0)
        return halved.astype(np.float32, copy=False)
    # |a|^2 + |b|^2 - 2ab cancels where vectors are close together and far from the origin.
    queries, bank = queries.astype(np.float64), bank.astype(np.float64)
    products = queries @ bank.T
    squares = (
        np.einsum("ij,ij->i", queries, queries)[:, None]
        + np.einsum("ij,ij->i", bank, bank)[None, :]
        - 2.0 * products
    )
    lengths: Matrix = np.sqrt(np.maximum(squares, 0.0)).astype(np.float32, copy=False)
    return lengths


def distances_to_raw(queries: Matrix, rows: Matrix, metric: Metric) -> npt.NDArray[np.float32]:
    """Distances of prepared vectors to others as the encoder gave them: of few, cheaper.

    Args:
        queries: float32, shape `(m, dim)`, from `prepare`.
        rows: float32, shape `(n, dim)`.
        metric: As in `distances`.

    Returns:
        float32, shape `(m, n)`: those of `distances` but for rounding.
    """
    if metric != "cosine":
        return distances(queries, prepare(rows, metric), metric)
    lengths = np.sqrt(np.einsum("ij,ij->i", rows, rows))
    cosines = (queries @ rows.T) / np.maximum(lengths, np.finfo(np.float32).tiny)
    halved: Matrix = np.clip((1.0 - cosines) / 2.0, 0.0, 1.0)
    return halved.astype(np.float32, copy=False)


def blocks(queries: int, rows: int) -> Iterator[slice]:
    """Queries in pieces, whose distances to so many rows fit into little memory."""
    step = max(_FEWEST_QUERIES, _AT_ONCE // max(1, rows))
    for start in range(0, queries, step):
        yield slice(start, min(start + step, queries))
