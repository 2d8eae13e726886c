"""Sets the rolling-median chart's limit from the baseline."""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from agent.drift.baseline import Reducer
from agent.drift.chart import ChartRecord
from agent.drift.mixture import Array
from agent.drift_fit.settings import DriftSettings

# The limit over what 99 % of the baseline's own medians stay below, running-in included: by so much
# more than it wandered in its beginning may a machine wander in a life ten times as long.
LIMIT_FACTOR = 2.0
_QUANTILE = 0.99
_AT_ONCE = 64


def rolling(features: Array, windows: int) -> Array:
    """Medians of the last windows, one a row from the first full one on, `(n - windows + 1, D)`."""
    spread = sliding_window_view(features, windows, axis=0)
    result = np.empty(spread.shape[:2], features.dtype)
    # A median copies what it sorts: of all at once, every row as often as a block has windows.
    for start in range(0, len(spread), _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        result[part] = np.median(spread[part], axis=-1)
    return result


def distances(medians: Array, reducer: Reducer) -> Array:
    """Root mean square over features of medians `(n, D)` in healthy scales, shape `(n,)`."""
    standard = (medians - reducer.centre) / reducer.scale
    return np.asarray(np.sqrt((standard**2).mean(axis=1)))


def own_limit(whole: Array, reducer: Reducer, windows: int) -> float:
    """Limit by the baseline's own medians, in feature scales.

    Args:
        whole: The baseline's features in time order, running-in included, `(n, D)`.
        reducer: Its centre and scales.
        windows: Of the median.
    """
    found = distances(rolling(whole, windows), reducer)
    return max(LIMIT_FACTOR * float(np.quantile(found, _QUANTILE)), 1e-9)


def fit_chart(
    whole: Array, normal: Array, reducer: Reducer, windows: int, settings: DriftSettings
) -> ChartRecord:
    """The chart as it warns beside the mixture.

    Where it has the mixture's allowance for healthy change as well, the limit is also no lower than
    mean + k sigma of the medians of the normal-state blocks.

    Args:
        whole: The baseline's features in time order, `(n, D)`.
        normal: Normal-state blocks, `(m, block, D)`.
        reducer: Centre and scales.
        windows: Of the median.
        settings: k, and whether it has the allowance.
    """
    own = own_limit(whole, reducer, windows)
    if not settings.chart_allowance:
        return ChartRecord(windows=windows, limit=own)
    found = distances(np.median(normal, axis=1), reducer)
    tolerant = float(found.mean() + settings.sigmas * found.std(ddof=1))
    return ChartRecord(windows=windows, limit=max(own, tolerant))
