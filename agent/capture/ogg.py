"""Is an Ogg file whole? It has no length in its header: only its last page says that it is."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import BinaryIO

# A page has at most this many bytes: header, table of segments, segments.
_PAGE = 27 + 255 + 255 * 255
_END_OF_STREAM = 0x04


@dataclass(frozen=True, slots=True)
class LastPage:
    """What the last page of a file says.

    Attributes:
        ends: It is whole, and says that it is the stream's last.
        samples: Of the whole stream, where it began at none; of Opus at 48 kHz.
    """

    ends: bool
    samples: int


def last_page(file: BinaryIO, size: int) -> LastPage:
    """Look at the end of a file.

    Args:
        file: Open.
        size: Its bytes.
    """
    file.seek(max(0, size - 2 * _PAGE))
    tail = file.read(2 * _PAGE)
    at = tail.rfind(b"OggS")
    page = tail[at:]
    if at < 0 or len(page) < 27:
        return LastPage(False, 0)
    (samples,) = struct.unpack("<q", page[6:14])
    segments = page[27 : 27 + page[26]]
    whole = len(segments) == page[26] and len(page) >= 27 + len(segments) + sum(segments)
    return LastPage(whole and bool(page[5] & _END_OF_STREAM), max(0, samples))
