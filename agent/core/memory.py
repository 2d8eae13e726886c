"""Freed memory goes back to the system."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable


def give_back() -> None:
    """Have the C library return what it keeps for later; worth it after rare, large work.

    Between windows it is better kept. Other C libraries than glibc have nothing to call, and then
    nothing is done.
    """
    trim = malloc_trim()
    if trim is not None:
        trim(0)


@functools.cache
def malloc_trim() -> Callable[[int], int] | None:
    """The C library's `malloc_trim`; None where it has none."""
    try:
        found = ctypes.CDLL(None).malloc_trim
    except (OSError, TypeError, AttributeError):
        return None
    found.argtypes, found.restype = [ctypes.c_size_t], ctypes.c_int
    return found
