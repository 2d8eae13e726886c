"""Windows of several machines end one after the other."""

from __future__ import annotations

# Sound comes in blocks of so much, seconds: a window that ends within one waits for the rest of it.
_BLOCK_SECONDS = 0.25


def first_seconds(number: int, hop_seconds: float) -> float:
    """How much later than its sound a machine's first window begins, seconds.

    Channels of one device come in the same blocks, and machines of one agent begin together: their
    windows, all due at once, would wait for each other each hop anew.

    Args:
        number: Of the machine on its device.
        hop_seconds: Step between its windows.
    """
    places = max(1, int(hop_seconds / _BLOCK_SECONDS + 1e-6))
    return _BLOCK_SECONDS * (number % places)
