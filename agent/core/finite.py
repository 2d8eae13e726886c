"""Sound in which what is not finite counts as silence."""

from __future__ import annotations

import numpy as np

from agent.core.records import Samples


def silenced(samples: Samples) -> Samples:
    """The sound itself where all of it is finite, else a copy with zeros for what is not.

    Args:
        samples: float32, shape `(n,)`.
    """
    # float32 cannot overflow a float64 sum: it is finite exactly when every sample is.
    with np.errstate(invalid="ignore"):  # +inf and -inf
        finite = np.isfinite(samples.sum(dtype=np.float64))
    return samples if finite else np.nan_to_num(samples, nan=0.0, posinf=0.0, neginf=0.0)
