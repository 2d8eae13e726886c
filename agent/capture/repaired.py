"""A file whose header is replaced by a true one, for decoders that believe headers."""

from __future__ import annotations

import io
import os
from pathlib import Path


class Repaired(io.RawIOBase):
    """The bytes of a file, its beginning replaced; read-only.

    Args:
        path: The file.
        begin: How many of its bytes are replaced.
        head: By what; it may have another length.
    """

    def __init__(self, path: Path, begin: int, head: bytes) -> None:
        self._file = path.open("rb")
        self._begin = begin
        self._head = head
        self._size = os.fstat(self._file.fileno()).st_size - begin + len(head)
        self._at = 0

    def readable(self) -> bool:
        """True."""
        return True

    def seekable(self) -> bool:
        """True."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move; the end is that of the repaired file."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = max(0, base + offset)
        return self._at

    def tell(self) -> int:
        """Where it is."""
        return self._at

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Read what fits."""
        view = memoryview(buffer).cast("B")
        if self._at < len(self._head):
            part = self._head[self._at : self._at + len(view)]
        else:
            self._file.seek(self._at - len(self._head) + self._begin)
            part = self._file.read(len(view))
        view[: len(part)] = part
        self._at += len(part)
        return len(part)

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        super().close()
