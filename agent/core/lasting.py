"""Sound that several keep: one array for all of them, which nobody changes."""

from __future__ import annotations

import numpy as np

from agent.core.records import Samples


def lasting(samples: Samples) -> Samples:
    """Samples in an array that nobody changes, float32 `(n,)`, read-only.

    The very array where it is one already: several may keep the same sound.
    """
    flags = samples.flags
    if samples.dtype == np.float32 and flags.owndata and not flags.writeable:
        return samples
    kept: Samples = np.array(samples, np.float32)
    kept.flags.writeable = False
    return kept
