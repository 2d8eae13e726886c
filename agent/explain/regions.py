"""The places of a map that are unusual, for a person: from when to when, from what to what Hz."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from agent.core.reasons import UnusualBand, UnusualRegion, hertz
from agent.explain.unusual import UnusualMap

_TOLD = 3
_CORE = 0.5


def unusual_regions(found: UnusualMap) -> tuple[UnusualRegion, ...]:
    """Cells that are marked and touch are one region; the three strangest, the strangest first.

    Told of a region are the bounds of its core, the cells half as unusual as its strangest: what a
    loud fault spills into its neighbourhood is marked too.
    """
    strange = np.abs(found.deviations)
    regions = []
    for cells in _touching(found.marked):
        here = strange[cells[:, 0], cells[:, 1]]
        times, bands = cells[here >= _CORE * here.max()].T
        regions.append(
            UnusualRegion(
                start=round(float(times.min() * found.cell_seconds), 2),
                end=round(float((times.max() + 1) * found.cell_seconds), 2),
                low_hz=round(float(found.hertz[bands.min()]), 1),
                high_hz=round(float(found.hertz[bands.max() + 1]), 1),
                deviations=round(float(here.max()), 1),
            )
        )
    regions.sort(key=lambda one: -one.deviations)
    return tuple(regions[:_TOLD])


def words(region: UnusualRegion) -> str:
    """For a person: `at 4.0-5.6 s in 2.0-3.1 kHz`."""
    where = hertz(UnusualBand(region.low_hz, region.high_hz, 0.0))
    return f"at {region.start:.1f}-{region.end:.1f} s in {where}"


def _touching(marked: npt.NDArray[np.bool_]) -> list[npt.NDArray[np.int64]]:
    """Places of each group of marked cells that share an edge, `(n, 2)` each."""
    left = {(int(time), int(band)) for time, band in np.argwhere(marked)}
    groups = []
    while left:
        waiting, group = [left.pop()], []
        while waiting:
            time, band = waiting.pop()
            group.append((time, band))
            for near in ((time - 1, band), (time + 1, band), (time, band - 1), (time, band + 1)):
                if near in left:
                    left.remove(near)
                    waiting.append(near)
        groups.append(np.array(sorted(group), np.int64))
    return groups
