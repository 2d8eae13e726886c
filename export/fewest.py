"""How many of an ordered list are enough, in few questions."""

from __future__ import annotations

from collections.abc import Callable


def fewest(most: int, enough: Callable[[int], bool]) -> int:
    """How many are enough, where none is not, by doubling and halving.

    Args:
        most: The last that there are, which is not asked about: at least 1.
        enough: Whether so many are. Where more are not always better, one less is not enough
            for what is found either.
    """
    low, high = 0, 1
    while high < most and not enough(high):
        low, high = high, min(2 * high, most)
    while high - low > 1:
        middle = (low + high) // 2
        if enough(middle):
            high = middle
        else:
            low = middle
    return high
