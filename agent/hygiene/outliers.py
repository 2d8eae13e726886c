"""Which healthy recordings are unlike all others? The one rule about contamination.

Each recording's distance is to the nearest of the others, which never includes itself. A few that
lie apart from the rest, with a gap in between, are untypical: a fault, another machine, another
microphone, or an operating condition that was recorded once. The rule is asked twice: here of
spectra before anything is learnt, and at export of the detector's own healthy scores. Untypical
recordings are named, never set the threshold, and are refused by default
(`docs/guide/recordings.md`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from agent.core.records import Matrix
from agent.hygiene.shape import BINS, PIECE_SECONDS, RATE

Values = npt.NDArray[np.float64]

# A gap: so many times as far above the middle as the farthest of the rest. Measured on eight real
# machines, see docs/guide/recordings.md.
GAP = 4.0
# No more than this share of the recordings is called untypical, and one always may be.
_SHARE = 0.1
# From fewer recordings nothing is known of what is typical.
FEWEST = 5
# Pieces of all recordings together that are compared.
_PIECES = 3000
_LEAST_SPREAD_DB = 0.3


@dataclass(frozen=True, slots=True)
class Apart:
    """A recording that lies apart from the others.

    Attributes:
        place: Which, in the list given.
        value: Its distance.
        times: How many times as far above the middle it lies as the farthest that is not apart.
    """

    place: int
    value: float
    times: float


def find_apart(values: Sequence[float] | Values, gap: float = GAP) -> list[Apart]:
    """The recordings beyond the widest gap among the farthest, the farthest first.

    Args:
        values: A distance (or score) of each recording, finite; larger is stranger.
        gap: How many times as far above the median as the next one is apart.
    """
    known = np.asarray(values, dtype=np.float64)
    if len(known) < FEWEST:
        return []
    middle = float(np.median(known))
    order = np.argsort(-known)
    height = known[order] - middle
    most = max(1, int(_SHARE * len(known)))
    # What scatters around the middle is no height to be a multiple of.
    least = 1.4826 * float(np.median(np.abs(known - middle)))
    count = 0
    for n in range(1, most + 1):
        if height[n - 1] >= gap * max(float(height[n]), least, 1e-12):
            count = n
    rest = max(float(height[count]) if count < len(height) else 0.0, least, 1e-12)
    return [
        Apart(int(order[n]), float(known[order[n]]), float(height[n] / rest)) for n in range(count)
    ]


@dataclass(frozen=True, slots=True, eq=False)
class Distances:
    """How far each recording is from the others.

    Attributes:
        values: One a recording, float64 `(n,)`; NaN where there is nothing to compare.
        starts: Where its strangest piece begins, seconds.
    """

    values: Values
    starts: Values


def spectral_distances(shapes: Sequence[Matrix], highest_hz: float) -> Distances:
    """Distance of each recording's strangest piece to the nearest piece of another recording.

    Args:
        shapes: Spectra of the pieces of each recording, see `agent.hygiene.shape`.
        highest_hz: Frequencies above it are left out: not all recordings have them.
    """
    count = len(shapes)
    values, starts = np.full(count, np.nan), np.zeros(count)
    take = max(1, int(np.ceil(sum(map(len, shapes)) / _PIECES)))
    owner = np.repeat(np.arange(count), [len(shape[::take]) for shape in shapes])
    if len(np.unique(owner)) < 2:
        return Distances(values, starts)
    rows = np.concatenate([shape[::take] for shape in shapes]).astype(np.float64)
    places = np.concatenate([np.arange(len(shape))[::take] for shape in shapes])
    top = max(8, min(BINS, int(highest_hz / (RATE / 2) * (BINS - 1))))
    halves = []
    for half in (rows[:, :top], rows[:, BINS : BINS + top]):
        centred = half - half.mean(axis=1, keepdims=True)
        spread = 1.4826 * np.median(np.abs(centred - np.median(centred, axis=0)), axis=0)
        halves.append(centred / np.maximum(spread, _LEAST_SPREAD_DB))
    whole = np.concatenate(halves, axis=1)
    square = np.square(whole).sum(axis=1)
    for n in range(count):
        mine = owner == n
        if not mine.any():
            continue
        table = square[mine, None] + square[None, ~mine] - 2.0 * whole[mine] @ whole[~mine].T
        nearest = np.sqrt(np.maximum(table.min(axis=1), 0.0) / whole.shape[1])
        worst = int(np.argmax(nearest))
        values[n] = float(nearest[worst])
        starts[n] = float(places[mine][worst]) * PIECE_SECONDS
    return Distances(values, starts)
