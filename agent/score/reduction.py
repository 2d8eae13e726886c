"""Fewer numbers for each row of a large bank, which its index holds in the place of the vectors.

The directions in which the rows spread most (PCA), and one number more: how far the row lies from
all of them. Distances between reduced vectors never exceed those between the vectors themselves
(the first part is a projection, the second the reverse triangle inequality of what it leaves
out). So a search compares exactly, row by row from the nearest reduced one, until no other can win.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from agent.core.records import Matrix

# Numbers for a row, the fewest that do: multiples of 16.
COLUMNS = (64, 96, 128, 192)
# Shorter embeddings are indexed as they are.
REDUCED_FROM_DIM = 256
# Rows that the directions are found from.
_SAMPLE = 20_000
_ORTHONORMAL = 1e-3


@dataclass(frozen=True, slots=True)
class Reduction:
    """A map to fewer numbers.

    Attributes:
        centre: What is taken from each vector, float32 `(dim,)`.
        directions: Orthonormal columns, float32 `(dim, columns - 1)`.
    """

    centre: npt.NDArray[np.float32]
    directions: Matrix

    @property
    def columns(self) -> int:
        """Numbers of a reduced vector."""
        return self.directions.shape[1] + 1

    def array(self) -> Matrix:
        """The map as a bundle keeps it, float32 `(dim, columns)`: the centre, then directions."""
        return np.concatenate([self.centre[:, None], self.directions], axis=1)

    @classmethod
    def of(cls, array: npt.NDArray[np.floating]) -> Reduction:
        """The map that `array` wrote.

        Raises:
            ValueError: The directions are not at right angles, or not of length 1.
        """
        whole = np.asarray(array, np.float32)
        directions = np.ascontiguousarray(whole[:, 1:])
        products = directions.T.astype(np.float64) @ directions
        if np.abs(products - np.eye(len(products))).max(initial=0.0) > _ORTHONORMAL:
            raise ValueError("holds directions that are not orthonormal")
        return cls(np.ascontiguousarray(whole[:, 0]), directions)

    def apply(self, ready: Matrix) -> Matrix:
        """Reduce prepared vectors, float32 `(n, dim)` to `(n, columns)`."""
        moved = ready - self.centre
        along = moved @ self.directions
        rest = np.linalg.norm(moved - along @ self.directions.T, axis=1, keepdims=True)
        return np.concatenate([along, rest], axis=1)


def fit_reduction(ready: Matrix, columns: int = COLUMNS[0]) -> Reduction:
    """Find the directions in which a bank's rows spread most.

    Args:
        ready: Prepared vectors, float32 `(n, dim)`; up to 20,000 of them, evenly, are looked at.
        columns: Numbers of a reduced vector, at most `dim`.
    """
    some = np.asarray(ready[:: max(1, -(-len(ready) // _SAMPLE))], np.float64)
    centre = some.mean(axis=0)
    some -= centre
    _, vectors = np.linalg.eigh(some.T @ some)
    directions = vectors[:, ::-1][:, : columns - 1]
    return Reduction(centre.astype(np.float32), np.ascontiguousarray(directions, np.float32))
