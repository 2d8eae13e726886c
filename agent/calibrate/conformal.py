"""Conformal p-values: how many healthy scores are as strange as this one?

    p(s) = (1 + sum over recordings r of the share of r's windows that score s or more) / (R + 1)

Each of the R recordings counts as one, however many windows it has, because a new window comes with
a recording of its own: p is at most alpha with probability at most alpha if the new recording is
exchangeable with the R (two-layer data, Dunn, Wasserman and Ramdas 2023; with one window each it is
Vovk's). It is never below 1 / (R + 1), so no rate below that can be promised by counting.

The healthy scores leave their recording out while a new one is judged by all: nearly, not exactly
exchangeable (Barber et al. 2021 bound the worst case at twice alpha). Measured in
docs/notes/thresholds.md.

The domain of a new window isn't known. A p-value valid in each domain is the largest of theirs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from agent.score.scorer import Floats, IntVector


@dataclass(frozen=True, slots=True, eq=False)
class PValues:
    """Gives p-values by the healthy scores of one or more domains.

    Attributes:
        tables: Of each domain: its scores sorted, `(n,)`; the weight of all scores from there on
            and, last, 0, `(n + 1,)`; and how many recordings they are of.
    """

    tables: tuple[tuple[Floats, Floats, int], ...]

    @classmethod
    def of(cls, values: Floats, groups: IntVector, domains: IntVector) -> PValues:
        """Prepare healthy scores.

        Args:
            values: Finite, shape `(n,)`, n >= 1.
            groups: Recording of each.
            domains: Domain of each; all the same to pool them.
        """
        tables = []
        for domain in np.unique(domains):
            inside = domains == domain
            scores, ids = values[inside], groups[inside]
            order = np.argsort(scores, kind="stable")
            _, places, counts = np.unique(ids, return_inverse=True, return_counts=True)
            weights = (1.0 / counts[places])[order]
            above = np.concatenate([np.cumsum(weights[::-1])[::-1], [0.0]])
            tables.append((scores[order], above, len(counts)))
        return cls(tuple(tables))

    @property
    def floor(self) -> float:
        """The smallest p-value there can be: 1 / (recordings + 1) of the least recorded domain."""
        return 1.0 / (min(count for _, _, count in self.tables) + 1)

    def __call__(self, scores: npt.ArrayLike) -> Floats:
        """P-values of scores, float64, same shape."""
        asked = np.asarray(scores, dtype=np.float64)
        found = np.zeros(asked.shape)
        for values, above, count in self.tables:
            share = (1.0 + above[np.searchsorted(values, asked, side="left")]) / (count + 1)
            found = np.maximum(found, share)
        return np.minimum(found, 1.0)

    def limit(self, rate: float) -> float:
        """The smallest healthy score above which every p-value is at most `rate`.

        With a rate below the floor there is none: the largest healthy score then, above which
        p-values are at the floor.
        """
        found = []
        for values, above, count in self.tables:
            room = rate * (count + 1) - 1.0
            # What lies above values[j], for ties with it lie at it.
            beyond = above[np.searchsorted(values, values, side="right")]
            fits = np.flatnonzero(beyond <= room + 1e-9)
            found.append(float(values[fits[0] if len(fits) else -1]))
        return max(found)
