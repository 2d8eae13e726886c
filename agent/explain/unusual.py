"""What is unusual in a sound: which bands, by how many dB, and when."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from agent.core.reasons import UnusualBand, band_words
from agent.core.records import Samples
from agent.explain.spectrum import Floats, HealthySpectrum, cell_levels, summary

# A band is named from so many healthy deviations on, a cell marked.
NAMED_FROM = 3.0
MARKED_FROM = 4.0
# Of a run of unusual bands those are named that are this share as unusual as its strangest, or
# that this share of the most power was added to (a tone between two bands adds it to both).
_CORE, _ADDED = 0.5, 0.25
# Loud moments tell more than the mean when they are so much more unusual.
_MOMENTS = 1.5
_TOLD = 3
# A mean of many windows is steadier than one: fewer deviations count, and so many dB.
_LASTING_FROM, _LASTING_DB = 2.0, 1.5


@dataclass(frozen=True, slots=True)
class Finding:
    """A band that is named.

    Attributes:
        band: In Hz and dB.
        deviations: By how many healthy standard deviations; below 0 when quieter.
        moments: It is so in the loud moments alone, not in the mean.
    """

    band: UnusualBand
    deviations: float
    moments: bool

    def words(self) -> str:
        """For a person: `2.1-2.6 kHz +14 dB`."""
        text = band_words(self.band)
        return f"{text} at moments" if self.moments else text


@dataclass(frozen=True, slots=True, eq=False)
class UnusualMap:
    """Time and frequency of what is unusual.

    Attributes:
        deviations: Of each cell from its healthy mean, in healthy standard deviations, `(cells,
            bands)`; below 0 when quieter.
        hertz: Edges of the bands, `(bands + 1,)`.
        cell_seconds: Length of a cell.
        limit: Deviations from which on a cell is marked.
        alone: Whether a cell without a neighbour that is marked can be.
    """

    deviations: Floats
    hertz: Floats
    cell_seconds: float
    limit: float = MARKED_FROM
    alone: bool = False

    @property
    def marked(self) -> npt.NDArray[np.bool_]:
        """Cells to point at, `(cells, bands)`: beyond the limit, with a neighbour that is."""
        strange: npt.NDArray[np.bool_] = np.abs(self.deviations) >= self.limit
        if self.alone:
            return strange
        padded = np.pad(strange, 1)
        beside = padded[:-2, 1:-1] | padded[2:, 1:-1] | padded[1:-1, :-2] | padded[1:-1, 2:]
        found: npt.NDArray[np.bool_] = strange & beside
        return found


def unusual_map(samples: Samples, healthy: HealthySpectrum) -> UnusualMap:
    """Compare every cell of a sound with healthy ones.

    Args:
        samples: float32, shape `(n,)`, at the spectrum's rate.
        healthy: What to compare with.
    """
    grid = healthy.grid
    deviations = (cell_levels(samples, grid) - healthy.cell) / healthy.cell_spread
    return UnusualMap(deviations, grid.hertz, grid.cell_seconds)


def unusual_bands(
    samples: Samples, healthy: HealthySpectrum, leave_out: npt.NDArray[np.bool_] | None = None
) -> tuple[Finding, ...]:
    """The bands of a window that deviate most, the strangest first, at most three.

    A band is compared by its mean level, and by the level of its loud moments where those tell
    more. When no band is beyond `NAMED_FROM` deviations, the one nearest to it is given.

    Args:
        samples: A window, float32 `(n,)`, at the spectrum's rate.
        healthy: What to compare with.
        leave_out: Cells that say nothing of the machine, `(cells,)`; all count when all would go.
    """
    cells = cell_levels(samples, healthy.grid)
    if leave_out is not None and not leave_out.all():
        cells = cells[~leave_out]
    level, peak = summary(cells)
    mean = (level - healthy.level) / healthy.level_spread
    loud = (peak - healthy.peak) / healthy.peak_spread
    moments = np.abs(loud) > _MOMENTS * np.maximum(np.abs(mean), 1.0)
    strange = np.where(moments, loud, mean)
    decibels = np.where(moments, peak - healthy.peak, level - healthy.level)
    added = np.abs(10.0 ** (level / 10.0) - 10.0 ** (healthy.level / 10.0))
    edges = healthy.grid.hertz
    found = []
    for first, last in _runs(strange):
        top = first + int(np.argmax(np.abs(strange[first:last])))
        run = slice(first, last)
        kept = np.abs(strange[run]) >= _CORE * abs(strange[top])
        kept |= added[run] >= _ADDED * added[run].max()
        core = np.flatnonzero(kept) + first
        band = UnusualBand(
            float(edges[core[0]]), float(edges[core[-1] + 1]), round(float(decibels[top]), 1)
        )
        found.append(Finding(band, float(strange[top]), bool(moments[top])))
    found.sort(key=lambda finding: -abs(finding.deviations))
    return tuple(found[:_TOLD])


def bands_between(
    levels: Floats, base: Floats, spread: Floats, edges: Floats
) -> tuple[UnusualBand, ...]:
    """The bands whose lasting level has changed, the most changed first, at most three.

    Args:
        levels: Mean level of each band over many windows, dB, `(bands,)`.
        base: What it was, dB, `(bands,)`.
        spread: Healthy standard deviation from window to window, dB, `(bands,)`.
        edges: Of the bands, Hz, `(bands + 1,)`.
    """
    change = levels - base
    strange = np.where(np.abs(change) >= _LASTING_DB, change / spread, 0.0)
    sign = np.where(np.abs(strange) >= _LASTING_FROM, np.sign(strange), 0.0)
    places = [0, *(np.flatnonzero(np.diff(sign)) + 1).tolist(), len(sign)]
    found = []
    for first, last in pairwise(places):
        if sign[first]:
            run = np.arange(first, last)
            top = run[np.argmax(np.abs(change[run]))]
            core = run[np.abs(change[run]) >= _CORE * abs(change[top])]
            low, high = float(edges[core[0]]), float(edges[core[-1] + 1])
            found.append(UnusualBand(low, high, round(float(change[top]), 1)))
    return tuple(sorted(found, key=lambda band: -abs(band.decibels))[:_TOLD])


def _runs(strange: Floats) -> list[tuple[int, int]]:
    """Neighbouring bands that are unusual the same way: (first, after the last) of each run."""
    if np.abs(strange).max() < NAMED_FROM:
        top = int(np.argmax(np.abs(strange)))
        return [(top, top + 1)]
    sign = np.where(np.abs(strange) >= NAMED_FROM, np.sign(strange), 0.0)
    edges = np.flatnonzero(np.diff(sign)) + 1
    places = [0, *edges.tolist(), len(sign)]
    return [(a, b) for a, b in pairwise(places) if sign[a]]


def standing_out(samples: Samples, healthy: HealthySpectrum) -> tuple[UnusualBand, ...]:
    """The bands of a window that stand out, the strangest first: those of `NAMED_FROM` on.

    Args:
        samples: A window, float32 `(n,)`, at the spectrum's rate.
        healthy: What to compare with.
    """
    found = unusual_bands(samples, healthy)
    return tuple(one.band for one in found if abs(one.deviations) >= NAMED_FROM)
