"""The Hann window, which every spectrum here is taken through."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt


# The lengths in use are few; a window of sound is 2.5 MB at most.
@lru_cache(maxsize=8)
def hann(size: int) -> npt.NDArray[np.float64]:
    """The Hann window of `size` points, shape `(size,)`, read-only.

    Kept from one call to the next: making one costs several times the transform it is for.
    """
    taper = np.hanning(size).astype(np.float64)
    taper.flags.writeable = False
    return taper
