"""What a bundle says its own machine sounds like, as a whole: to hold what is heard against.

A threshold says whether a window is strange; it says nothing of a bundle that finds no window
strange, such as another machine's whose threshold is far up. So the mean embedding of what is
heard is laid over the healthy ones, column by column:

    distance = sqrt(mean over columns of ((mean heard - mean healthy) / healthy deviation)^2)

with the level taken off first where the bundle names its columns in dB: how loud a microphone
hears is no matter of whose sound it is. docs/notes/recognition.md has the measurements.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from agent.deploy.load import Bundle
from agent.level.columns import LevelColumns, level_columns

Floats = npt.NDArray[np.float64]

# With fewer healthy windows their spread is guesswork.
_FEWEST_ROWS = 6
# Of a large bank so many rows, evenly: their mean and deviation need no more.
_MOST_ROWS = 1024
# A column that hardly varies is measured in this share of what columns usually are.
_LEAST_SHARE = 1e-3


@dataclass(frozen=True, slots=True, eq=False)
class Reference:
    """The healthy sound of one bundle.

    Attributes:
        centre: Mean healthy embedding, `(dim,)`.
        deviation: Standard deviation of each of its columns, > 0, `(dim,)`.
        columns: Which columns bear level; None where that is not known.
        lowest: Lowest of the healthy scores, raw...
        highest: ...and the highest.
    """

    centre: Floats
    deviation: Floats
    columns: LevelColumns | None
    lowest: float
    highest: float

    @classmethod
    def of(cls, bundle: Bundle) -> Reference | None:
        """The reference of a bundle; None of one with too little healthy sound to tell."""
        rows = bundle.bank.vectors
        known = np.empty(0) if bundle.healthy is None else bundle.healthy.known()[0]
        if min(len(rows), len(known)) < _FEWEST_ROWS:
            return None
        some = np.asarray(rows[:: -(-len(rows) // _MOST_ROWS)], np.float64)
        least = _LEAST_SHARE * float(np.abs(some).mean()) or 1.0
        return cls(
            some.mean(axis=0),
            np.sqrt(some.var(axis=0) + least**2),
            level_columns(bundle.manifest),
            float(known.min()),
            float(known.max()),
        )

    def distance(self, mean: Floats) -> float:
        """How far a mean embedding lies from the healthy one, in healthy deviations.

        Args:
            mean: Of what was heard, `(dim,)`.
        """
        moved = mean - self.centre
        if self.columns is not None:
            moved[self.columns.bearing] -= moved[self.columns.loudness]
        return float(np.sqrt(np.mean(np.square(moved / self.deviation))))
