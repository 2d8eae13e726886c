"""Chooses a few windows that represent many."""

from __future__ import annotations

import numpy as np


def spread(count: int, wanted: int) -> list[int]:
    """Up to `wanted` of `count` places, evenly spread."""
    places = np.linspace(0, count - 1, min(count, wanted))
    return [round(place) for place in places]
