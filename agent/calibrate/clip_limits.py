"""What a whole recording is held against: a limit for its number of windows.

The mean of forty windows scatters far less than one window's score, and the maximum of forty lies
higher. A limit found on recordings of one length is none for those of another, so it is found for
several numbers of windows, from runs of neighbouring windows of the healthy recordings.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from agent.bundle.manifest import Threshold
from agent.calibrate.rules import find_limit
from agent.config.threshold import ThresholdRule
from agent.score.normalize import group_ids
from agent.score.scorer import Floats


def clip_limits(
    values: Floats, groups: Sequence[str], domains: Sequence[str], rule: ThresholdRule, clip: str
) -> tuple[tuple[int, float], ...]:
    """Limits for recordings of so many windows, ascending.

    Args:
        values: Leave-one-out healthy scores, shape `(n,)`, finite, of each recording in order.
        groups: Recording of each.
        domains: Domain of each.
        rule: How a limit is found.
        clip: `mean` or `max`: how windows make a recording's score.
    """
    reduce = np.mean if clip == "mean" else np.max
    ids = group_ids(groups)
    members = [np.flatnonzero(ids == i) for i in np.unique(ids)]
    longest = max(len(own) for own in members)
    sizes = sorted({*(2**n for n in range(longest.bit_length()) if 2**n <= longest), longest})
    found: list[tuple[int, float]] = []
    for size in sizes:
        scores: list[float] = []
        names: list[str] = []
        places: list[str] = []
        for own in members:
            for start in range(0, len(own) - size + 1, size):
                run = own[start : start + size]
                scores.append(float(reduce(values[run])))
                names.append(str(groups[run[0]]))
                places.append(str(domains[run[0]]))
        # Of fewer than half of the recordings a limit would be that of the long ones alone.
        if 2 * len(set(names)) >= len(members) and len(set(names)) >= 2:
            limit = find_limit(np.array(scores), names, places, rule)
            found.append((size, float(limit.value)))
    if not found:
        return ()
    limits = np.array([value for _, value in found])
    # What scatters is no order: more windows make a mean's limit lower, a maximum's higher.
    if clip == "mean":
        limits = np.maximum.accumulate(limits[::-1])[::-1]
    else:
        limits = np.maximum.accumulate(limits)
    return tuple((size, float(value)) for (size, _), value in zip(found, limits, strict=True))


def limit_for(threshold: Threshold, windows: int) -> float:
    """The limit of a recording of so many windows; of more than were heard at once, that of most.

    Bundles without limits have one for all recordings.
    """
    if not threshold.clip_limits:
        return threshold.clip_value
    sizes = np.log([size for size, _ in threshold.clip_limits])
    values = [value for _, value in threshold.clip_limits]
    return float(np.interp(np.log(max(1, windows)), sizes, values))
