"""How long a WAV or AIFF file says it is: libsndfile silently shortens one that was cut off."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import BinaryIO

# A writer that could not go back to its header (a pipe) leaves one of these for the length.
_UNKNOWN = frozenset({0, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF})
# ffmpeg leaves this where it wrote to a pipe: all ones, less what stands before the sound.
_NEARLY = 0xFFFFF000
_CHUNKS = 1000  # more than any file has; a damaged one may seem to have no end of them


def missing_share(path: Path) -> float:
    """Which share of the sound that a file's header promises is not in the file.

    Args:
        path: A file. Others than WAV, RF64 and AIFF, and those that state no length, lack nothing.

    Returns:
        0 to 1.

    Raises:
        OSError: It cannot be read.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(12)
        if len(head) < 12:
            return 0.0
        kind, form = head[:4], head[8:]
        if kind in {b"RIFF", b"RF64", b"RIFX"} and form == b"WAVE":
            order, wanted = (">" if kind == b"RIFX" else "<"), b"data"
        elif kind == b"FORM" and form in {b"AIFF", b"AIFC"}:
            order, wanted = ">", b"SSND"
        else:
            return 0.0
        promised, begin = _sound_chunk(file, order, wanted)
    if promised in _UNKNOWN or promised >= _NEARLY > size:
        return 0.0
    return max(0.0, promised - (size - begin)) / promised


def _sound_chunk(file: BinaryIO, order: str, wanted: bytes) -> tuple[int, int]:
    """Bytes that the chunk of sound promises, and where they begin; (0, 0) when there is none."""
    large = 0  # RF64 states the length apart, in 64 bits
    for _ in range(_CHUNKS):
        head = file.read(8)
        if len(head) < 8:
            break
        (length,) = struct.unpack(order + "I", head[4:])
        if head[:4] == wanted:
            return (large if length == 0xFFFFFFFF and large else length), file.tell()
        if head[:4] == b"ds64" and length >= 16:
            body = file.read(16)
            if len(body) == 16:
                (large,) = struct.unpack("<Q", body[8:])
            length -= len(body)
        file.seek(length + length % 2, 1)
    return 0, 0
