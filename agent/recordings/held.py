"""Windows held until they are used: the first few in memory, more of them in a file without a name.

Healthy sound lasts for hours, and windows overlap, so that they are larger than the recordings.
They are written to a file that is gone with the process, and mapped: a part comes into memory when
it is touched, and `forget_mapped` lets it go again.
"""

from __future__ import annotations

import mmap
import os
import tempfile
import weakref
from pathlib import Path
from typing import IO

import numpy as np

from agent.core.errors import ConfigError
from agent.core.records import Matrix, Samples

# Up to here they stay in memory, bytes.
_IN_MEMORY = 64 << 20
# What is kept over restarts lies on a disk; `/tmp` may itself be memory.
_ON_DISK = "/var/tmp"  # noqa: S108 - the file has no name there
_MAPPED: weakref.WeakSet[mmap.mmap] = weakref.WeakSet()


class HeldWindows:
    """Takes windows one by one, and gives them as one array.

    Args:
        window_samples: Length of each.
        in_memory: Bytes that stay in memory.
    """

    def __init__(self, window_samples: int, *, in_memory: int = _IN_MEMORY) -> None:
        self._samples = window_samples
        self._most = in_memory
        self._parts: list[Samples] = []
        self._file: IO[bytes] | None = None
        self._count = 0

    def __len__(self) -> int:
        """Windows taken."""
        return self._count

    def add(self, window: Samples) -> None:
        """Take a window, float32 `(window_samples,)`; it is copied.

        Raises:
            ConfigError: The disk is full.
        """
        self._count += 1
        if self._file is None:
            self._parts.append(np.array(window, dtype=np.float32))
            if 4 * self._samples * self._count > self._most:
                self._to_file()
            return
        self._write([window])

    def matrix(self) -> Matrix:
        """All of them, float32 `(n, window_samples)`. The last call.

        Raises:
            ConfigError: The disk is full.
        """
        if self._file is None:
            empty = np.empty((0, self._samples), np.float32)
            return np.stack(self._parts) if self._parts else empty
        try:
            self._file.flush()
        except OSError as fault:
            raise _full(fault) from fault
        mapped = mmap.mmap(self._file.fileno(), 4 * self._samples * self._count)
        self._file.close()
        _MAPPED.add(mapped)
        matrix: Matrix = np.frombuffer(mapped, np.float32).reshape(self._count, self._samples)
        return matrix

    def _to_file(self) -> None:
        try:
            # Closed once it is mapped.
            self._file = tempfile.TemporaryFile(dir=holding_place(), prefix="auscult-")  # noqa: SIM115
        except OSError as fault:
            raise _full(fault) from fault
        self._write(self._parts)
        self._parts = []

    def _write(self, windows: list[Samples]) -> None:
        assert self._file is not None
        try:
            for window in windows:
                self._file.write(np.ascontiguousarray(window, np.float32).data)
        except OSError as fault:
            raise _full(fault) from fault


def forget_mapped() -> None:
    """Let go what was touched of windows that lie in files; they are read anew when touched.

    To be called now and then by whoever walks over all windows.
    """
    for mapped in list(_MAPPED):
        if hasattr(mmap, "MADV_DONTNEED"):
            mapped.madvise(mmap.MADV_DONTNEED)


def holding_place() -> str:
    """Where large temporary files lie: as the user says by TMPDIR, else on a disk."""
    named = os.environ.get("TMPDIR")
    if named:
        return named
    return _ON_DISK if os.access(_ON_DISK, os.W_OK) else tempfile.gettempdir()


def _full(fault: OSError) -> ConfigError:
    return ConfigError(
        f"the windows of the recordings cannot be kept there: {fault.strerror or fault}",
        where=Path(holding_place()),
        remedy="Make room, or name another folder in the environment's TMPDIR.",
    )
