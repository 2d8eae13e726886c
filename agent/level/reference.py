"""How loud healthy sound of one shape is, so that a window's level can be held against it.

A machine runs at several loads, each with a loudness of its own: a window is compared with the
healthy one whose shape is nearest once level is taken out, not with the mean of all. Of a bundle
without views there is only the range of levels that training heard.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from agent.level.columns import LevelColumns, level_columns
from agent.score.normalize import group_ids

if TYPE_CHECKING:
    from agent.deploy.load import Bundle

Vector = npt.NDArray[np.float32]

# A smaller change of level is not spoken of, dB.
LEAST_DB = 2.0
# A change is beyond what healthy sound does when so few healthy windows differ as much.
_SPREAD_QUANTILE = 0.99
# Columns are weighed by their healthy scatter, which is a microphone's own below this, dB.
_FLOOR_DB = 0.5
# A bank may have many rows: so many stand for them, and the spread is measured at so many.
_ROWS, _PROBES = 5000, 400
# Fewer columns with level than this tell no shape: all columns do.
_FEWEST_COLUMNS = 8


class LevelReference:
    """The level of healthy sound.

    Args:
        bundle: Its bank, views and levels.
    """

    def __init__(self, bundle: Bundle) -> None:
        self.columns = level_columns(bundle.manifest)
        low, high = bundle.manifest.trained_on.level_dbfs
        self._range = (low, high)
        told = bundle.manifest.level
        self._middle = (low + high) / 2 if told is None else told.median_dbfs
        #: A change up to this is what healthy sound does too, dB.
        self.limit = LEAST_DB
        if self.columns is not None:
            self._learn(bundle, self.columns)

    def offset(self, vector: Vector, level: float) -> float:
        """How much louder a window is than the healthy one most like it in shape, dB.

        Args:
            vector: Its embedding, float32 `(dim,)`.
            level: Of the window as it was embedded, dBFS RMS; asked of bundles without views.
        """
        if self.columns is None:
            return level - self._middle
        row = int(np.argmin(_squares(self._shape_of(vector[None], self.columns), self._shapes)[0]))
        return float(vector[self.columns.loudness] - self._loudness[row])

    def changes(self, vector: Vector, level: float) -> tuple[float, ...]:
        """By how many dB a window may be louder than healthy sound, the likeliest first.

        Args:
            vector: Its embedding, float32 `(dim,)`.
            level: As in `offset`.

        Returns:
            Changes beyond what healthy sound does; empty when it is as loud as that.
        """
        if self.columns is None:
            low, high = self._range
            beyond = level - min(max(level, low), high)
            # To the middle of what training heard; where that is too far, back to its edge.
            found = [level - self._middle, beyond] if abs(beyond) > self.limit else []
        else:
            loudness = float(vector[self.columns.loudness])
            # Also the healthy window nearest in loudness: of two shapes alike it asks for less.
            nearest = self._loudness[int(np.argmin(np.abs(self._loudness - loudness)))]
            found = [self.offset(vector, level), loudness - float(nearest)]
        return tuple(dict.fromkeys(change for change in found if abs(change) > self.limit))

    def _learn(self, bundle: Bundle, columns: LevelColumns) -> None:
        bank = bundle.bank
        # The vectors may lie in a file: neither all rows nor all columns are taken into memory.
        step = max(1, -(-len(bank) // _ROWS))
        vectors = bank.vectors[::step]
        self._loudness = np.asarray(vectors[:, columns.loudness], np.float64)
        used = columns.bearing.copy()
        used[columns.loudness] = False
        if int(used.sum()) < _FEWEST_COLUMNS:
            used = np.ones_like(used)
            used[columns.loudness] = False
        if not used.any():
            used[columns.loudness] = True  # loudness is all there is: every shape is alike
        self._used = used
        plain = self._plain(vectors, columns)
        self._center = np.median(plain, axis=0)
        scatter = 1.4826 * np.median(np.abs(plain - self._center), axis=0)
        self._unit = np.maximum(scatter, _FLOOR_DB)
        self._shapes = ((plain - self._center) / self._unit).astype(np.float32)
        groups = group_ids(bank.groups[::step])
        if len(np.unique(groups)) < 2:
            return
        probes = np.arange(0, len(vectors), max(1, len(vectors) // _PROBES))
        apart = _squares(self._shapes[probes], self._shapes)
        apart[groups[probes, None] == groups[None, :]] = math.inf
        found = np.abs(self._loudness[probes] - self._loudness[np.argmin(apart, axis=1)])
        self.limit = max(LEAST_DB, float(np.quantile(found, _SPREAD_QUANTILE)))

    def _shape_of(self, vectors: npt.NDArray[np.float32], columns: LevelColumns) -> Vector:
        plain = self._plain(vectors, columns)
        shape: Vector = ((plain - self._center) / self._unit).astype(np.float32)
        return shape

    def _plain(self, vectors: npt.NDArray[np.float32], columns: LevelColumns) -> Vector:
        """The columns that tell shape, those in dB against the window's own loudness."""
        plain: Vector = np.array(vectors[:, self._used], np.float32)
        bearing = columns.bearing[self._used]
        plain[:, bearing] -= np.asarray(vectors[:, columns.loudness, None], np.float32)
        return plain


def _squares(one: Vector, other: Vector) -> npt.NDArray[np.float64]:
    """Squared distances, shape `(m, n)`; good enough to find the nearest."""
    one64, other64 = one.astype(np.float64), other.astype(np.float64)
    found: npt.NDArray[np.float64] = (
        np.einsum("ij,ij->i", one64, one64)[:, None]
        + np.einsum("ij,ij->i", other64, other64)[None, :]
        - 2.0 * one64 @ other64.T
    )
    return found
