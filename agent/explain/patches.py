"""Where a window is unusual to the encoder itself: distance of its patches from healthy ones.

A patch is what an encoder makes of one place in time and frequency on its way to the embedding (a
transformer's token, a cell of a convolution's map). Each is compared with healthy patches of the
same frequencies, whenever those were, as PatchCore (Roth et al. 2022) compares places of an image.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from agent.core.records import Matrix
from agent.explain.unusual import UnusualMap

Halves = npt.NDArray[np.float16]

# Columns of `patch_rows.npy`, one row a range of frequencies.
COLUMNS = ("low_hz", "high_hz", "distance", "spread", "limit", "seconds")


@dataclass(frozen=True, slots=True, eq=False)
class HealthyPatches:
    """Patches of healthy sound, and how far apart those of different recordings are.

    Attributes:
        bank: float16 `(rows, count, reduced)`: for each range of frequencies patches that leave no
            other healthy one far from all of them.
        basis: float32 `(1 + width, reduced)`: how a patch becomes what is compared (its channels
            by their spread, then a random projection), behind the mean of that, which is taken off.
        table: float32 `(rows, 6)`, columns as in `COLUMNS`: frequencies, mean and standard
            deviation of the distances of healthy patches to those of other recordings, deviations
            from which on a patch is marked, and the length of a patch.
    """

    bank: Halves
    basis: Matrix
    table: Matrix

    @property
    def width(self) -> int:
        """Numbers of a patch as the encoder gives it."""
        return len(self.basis) - 1

    @classmethod
    def of(cls, bank: Halves, basis: Matrix, table: Matrix) -> HealthyPatches:
        """From a bundle's arrays.

        Raises:
            ValueError: They do not belong together, or hold what no patches could be.
        """
        fits = (
            bank.ndim == 3
            and basis.ndim == 2
            and bank.dtype == np.float16
            and basis.dtype == table.dtype == np.float32
            and min(bank.shape) > 0
            and len(basis) > 1
            and basis.shape[1] == bank.shape[2]
            and table.shape == (len(bank), len(COLUMNS))
        )
        if not fits:
            raise ValueError(
                f"patches of {bank.dtype} {bank.shape}, {basis.dtype} {basis.shape} and "
                f"{table.dtype} {table.shape} do not belong together"
            )
        if not all(np.isfinite(array).all() for array in (bank, basis, table)):
            raise ValueError("holds values that aren't finite")
        low, high = table[:, 0], table[:, 1]
        if (low >= high).any() or (low[1:] != high[:-1]).any() or (table[:, 3:] <= 0).any():
            raise ValueError("its frequencies do not ascend, or a spread is not positive")
        return cls(bank, basis, table)

    def distances(self, patches: Matrix) -> Matrix:
        """Of each patch to the nearest healthy one of its frequencies.

        Args:
            patches: float32 `(time, rows, width)`.

        Returns:
            float32 `(time, rows)`.
        """
        reduced = reduce(patches, self.basis)
        found = np.empty(patches.shape[:2], np.float32)
        for row, healthy in enumerate(self.bank.astype(np.float32)):
            found[:, row] = nearest(reduced[:, row], healthy)
        return found

    def map(self, patches: Matrix, window_seconds: float) -> UnusualMap:
        """When and where a window's patches are unusual, in healthy standard deviations.

        Args:
            patches: float32 `(time, rows, width)`.
            window_seconds: Length of the window; patches of padding behind it are left out.

        Raises:
            ValueError: Of another encoder.
        """
        if patches.ndim != 3 or patches.shape[1:] != (len(self.bank), self.width):
            raise ValueError(
                f"patches have shape {patches.shape}, the healthy ones are (time, "
                f"{len(self.bank)}, {self.width})"
            )
        seconds = float(self.table[0, 5])
        heard = patches[: whole(window_seconds, seconds)]
        deviations = (self.distances(heard) - self.table[:, 2]) / self.table[:, 3]
        hertz = np.append(self.table[:, 0], self.table[-1, 1])
        # Nearer than usual is not unusual.
        return UnusualMap(
            np.maximum(deviations, 0.0).astype(np.float64),
            hertz.astype(np.float64),
            seconds,
            limit=float(self.table[0, 4]),
            alone=True,
        )


def whole(window_seconds: float, patch_seconds: float) -> int:
    """Patches of a window that hold sound throughout, one at least."""
    return max(1, int(window_seconds / patch_seconds + 1e-3))


def reduce(patches: Matrix, basis: Matrix) -> Matrix:
    """What is compared: `(..., width)` to `(..., reduced)`."""
    found: Matrix = patches @ basis[1:] - basis[0]
    return found


def nearest(some: Matrix, healthy: Matrix) -> Matrix:
    """Euclidean distance of each of `(n, d)` to the nearest of `(m, d)`, `(n,)`."""
    squares = (
        np.square(some).sum(axis=1)[:, None]
        - 2.0 * (some @ healthy.T)
        + np.square(healthy).sum(axis=1)
    )
    found: Matrix = np.sqrt(np.maximum(squares.min(axis=1), 0.0)).astype(np.float32)
    return found
