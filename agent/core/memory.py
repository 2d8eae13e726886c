"""What the C library keeps of freed memory: little, and less on demand."""

from __future__ import annotations

import ctypes
import functools
import os
from collections.abc import Callable

_M_ARENA_MAX = -8  # malloc.h of glibc
_ARENAS = 2


def few_arenas() -> bool:
    """Have all threads of this process share two of the C library's pools of memory.

    By itself glibc makes up to eight for each core, and each keeps what its threads have freed: an
    agent of 16 machines, which has 39 threads, takes 64 MB less so, at the same processor time
    (docs/notes/speed.md). To be called before there are threads. `MALLOC_ARENA_MAX` in the
    environment goes before it.

    Returns:
        Whether it was done; other C libraries than glibc have nothing to call.
    """
    if "MALLOC_ARENA_MAX" in os.environ:
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, TypeError, AttributeError):
        return False
    mallopt.argtypes, mallopt.restype = [ctypes.c_int, ctypes.c_int], ctypes.c_int
    return bool(mallopt(_M_ARENA_MAX, _ARENAS))


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
