"""Pages of a mapped bank, handed back to the system when they were looked at."""

from __future__ import annotations

import mmap

from agent.core.records import Matrix

# Linux: neither the neighbours of a page are read with it (random), nor are pages counted as this
# process's once it has done with them (don't need); they stay in the system's cache.
_ADVICE = tuple(
    getattr(mmap, name) for name in ("MADV_RANDOM", "MADV_DONTNEED") if hasattr(mmap, name)
)


def hand_back(vectors: Matrix) -> None:
    """Give up the pages of a bank that lies in a file; what lies in memory is left as it is.

    Args:
        vectors: The bank, or columns of it.
    """
    held = getattr(vectors, "_mmap", None)  # of numpy.memmap and its views
    if isinstance(held, mmap.mmap):
        for advice in _ADVICE:
            held.madvise(advice)
