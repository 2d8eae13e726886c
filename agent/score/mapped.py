"""Banks that stay in their file: mapped, rows read from it, pages handed back to the system."""

from __future__ import annotations

import mmap
import os
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from agent.core.errors import BundleError
from agent.core.records import Matrix

# Linux: neither the neighbours of a page are read with it (random), nor are pages counted as this
# process's once it has done with them (don't need); they stay in the system's cache.
_ADVICE = tuple(
    getattr(mmap, name) for name in ("MADV_RANDOM", "MADV_DONTNEED") if hasattr(mmap, name)
)
_OPEN = Path("/proc/self/fd")
# The file behind each mapping, open as long as that is.
_FILES: weakref.WeakKeyDictionary[mmap.mmap, int] = weakref.WeakKeyDictionary()


def map_array(path: Path) -> Any:
    """An array of a file, mapped, whose file stays open for `read_rows`.

    Args:
        path: Written by `numpy.save`.

    Raises:
        OSError: It cannot be read.
        ValueError: It is no array, or one of Python objects.
    """
    if not _OPEN.is_dir():  # no Linux: rows are read through the mapping
        return np.load(path, mmap_mode="r", allow_pickle=False)
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        # The very file, even if another one takes its name now.
        array = np.load(_OPEN / str(file), mmap_mode="r", allow_pickle=False)
        held = getattr(array, "_mmap", None)
        if isinstance(held, mmap.mmap):
            _FILES[held] = file
            weakref.finalize(held, os.close, file)
            file = -1
        return array
    finally:
        if file >= 0:
            os.close(file)


def read_rows(vectors: Matrix, rows: npt.NDArray[np.int64]) -> tuple[Matrix, bool]:
    """Some rows of a bank.

    A mapping costs a fault for each row that was not looked at lately, and its pages must be handed
    back: twice the time of reading the rows from the file.

    Args:
        vectors: The bank, float32 `(n, dim)`; in memory, mapped, or a part of one that is.
        rows: Which, int64 `(m,)`.

    Returns:
        float32 `(m, dim)`, and whether they came through a mapping.

    Raises:
        BundleError: The file is shorter than it was.
    """
    held = getattr(vectors, "_mmap", None)
    file = _FILES.get(held) if isinstance(held, mmap.mmap) else None
    if file is None or vectors.base is not held or not vectors.flags.c_contiguous:
        return vectors[rows], held is not None
    start = vectors.offset  # type: ignore[attr-defined]  # of numpy.memmap
    size = vectors.shape[1] * vectors.itemsize
    data = b"".join([os.pread(file, size, start + row * size) for row in rows.tolist()])
    if len(data) != size * len(rows):
        raise BundleError(
            "bank.npy is shorter than it was when the bundle was opened",
            remedy="A bundle in use is replaced by a new folder, never written over.",
        )
    return np.frombuffer(data, vectors.dtype).reshape(len(rows), vectors.shape[1]), False


def hand_back(vectors: Matrix) -> None:
    """Give up the pages of a bank that lies in a file; what lies in memory is left as it is.

    Args:
        vectors: The bank, or columns of it.
    """
    held = getattr(vectors, "_mmap", None)  # of numpy.memmap and its views
    if isinstance(held, mmap.mmap):
        for advice in _ADVICE:
            held.madvise(advice)
