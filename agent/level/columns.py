"""Columns of an embedding that bear level, and how they move with the microphone's gain.

Columns of a view with level are in dB: at g dB more gain each rises by g. All others stay as they
are. One view is the loudness of the window itself, a single column.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from agent.bundle.manifest import Manifest
from agent.core.records import Matrix

LOUDNESS = "loudness"


@dataclass(frozen=True, slots=True, eq=False)
class LevelColumns:
    """The columns of an embedding by what level does to them.

    Attributes:
        bearing: Which bear level, bool `(dim,)`; the loudness among them.
        loudness: Column of the window's own loudness, dB.
    """

    bearing: npt.NDArray[np.bool_]
    loudness: int

    def moved(self, vectors: Matrix, decibels: float) -> Matrix:
        """Embeddings as they would be at another gain.

        Args:
            vectors: float32, shape `(n, dim)`.
            decibels: By how much louder, dB.
        """
        result = vectors.astype(np.float32, copy=True)
        result[:, self.bearing] += np.float32(decibels)
        return result

    def without(self, vectors: Matrix) -> Matrix:
        """Embeddings without level: columns in dB against the window's own loudness, which is 0.

        Args:
            vectors: float32, shape `(n, dim)`.
        """
        result = vectors.astype(np.float32, copy=True)
        result[:, self.bearing] -= vectors[:, self.loudness, None]
        return result


def level_columns(manifest: Manifest) -> LevelColumns | None:
    """The columns of a bundle's embedding; None when it names no views, or no loudness.

    Args:
        manifest: The bundle's.
    """
    bearing = np.zeros(manifest.encoder.dim, bool)
    loudness = None
    for view in manifest.views:
        if view.level:
            bearing[view.start : view.stop] = True
            if view.name == LOUDNESS and view.stop - view.start == 1:
                loudness = view.start
    return None if loudness is None else LevelColumns(bearing, loudness)
