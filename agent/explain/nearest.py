"""The healthy windows that an anomalous one is most like."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from agent.config.scorer import ScorerConfig
from agent.core.reasons import NearHealthy
from agent.score.bank import distances
from agent.score.space import space_of

if TYPE_CHECKING:
    from agent.score.scorer import HealthySet

TOLD = 3
_ROWS_AT_ONCE = 4096


def nearest_healthy(
    vector: npt.NDArray[np.float32],
    bank: HealthySet,
    config: ScorerConfig,
    *,
    window_seconds: float,
) -> tuple[NearHealthy, ...]:
    """The nearest healthy windows of different recordings, the nearest first.

    Several that lie in one recording say little more than one. Where there are fewer recordings
    than are asked for, others of them follow that overlap none.

    Found exactly, in the measure that the scorer compares windows by, whether or not the scorer
    itself looks at neighbours.

    Args:
        vector: Embedding of the window, float32 `(dim,)`.
        bank: The bundle's healthy windows.
        config: Its scorer.
        window_seconds: Length of a window.
    """
    space = space_of(config, bank.vectors)
    query = space.prepare(vector[None])
    # In pieces: a large bank is not copied as a whole.
    apart = np.concatenate(
        [
            distances(query, space.prepare(bank.vectors[i : i + _ROWS_AT_ONCE]), space.metric)[0]
            for i in range(0, len(bank), _ROWS_AT_ONCE)
        ]
    )
    order = [int(place) for place in np.argsort(apart, kind="stable")]
    found: list[int] = []
    for spread in (True, False):
        for place in order:
            if len(found) == TOLD:
                break
            row = bank.rows[place]
            taken = any(
                bank.rows[other].source == row.source
                and (spread or abs(bank.rows[other].start - row.start) < window_seconds)
                for other in found
            )
            if not taken:
                found.append(place)
    found.sort(key=lambda place: float(apart[place]))
    return tuple(
        NearHealthy(
            source=bank.rows[place].source,
            start=bank.rows[place].start,
            distance=float(apart[place]),
            domain=bank.rows[place].domain,
            attributes=dict(bank.rows[place].attributes),
        )
        for place in found
    )
