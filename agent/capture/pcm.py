"""Raw samples from a byte stream, and the one header that ffmpeg puts before them."""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np

from agent.core.errors import AudioError
from agent.core.records import Matrix

# Bytes a sample; the last letters give their order.
_BYTES = {"s16le": 2, "s24le": 3, "s32le": 4, "f32le": 4, "f32be": 4}
# Sun/NeXT `.snd`: magic, offset of the data, its length, encoding, rate, channels; big endian.
_AU = struct.Struct(">4s5I")
_AU_FLOAT = 6
_AU_LONGEST = 4096


@dataclass(frozen=True, slots=True)
class PcmFormat:
    """How samples are written.

    Attributes:
        kind: `s16le`, `s24le`, `s32le`, `f32le` or `f32be`.
        rate: Samples a second.
        channels: Interleaved channels.
    """

    kind: str
    rate: int
    channels: int

    @property
    def frame_bytes(self) -> int:
        """Bytes of one sample of every channel."""
        return _BYTES[self.kind] * self.channels


def decode(data: bytes, form: PcmFormat) -> Matrix:
    """Whole frames of bytes to samples.

    Args:
        data: A multiple of `form.frame_bytes` long.
        form: How they are written.

    Returns:
        float32, shape `(n, channels)`, full scale 1.0.
    """
    if form.kind.startswith("f32"):
        samples = np.frombuffer(data, "<f4" if form.kind == "f32le" else ">f4").astype(np.float32)
    elif form.kind == "s24le":
        # As the high bytes of 32 bits, which keeps the sign.
        wide = np.zeros((len(data) // 3, 4), np.uint8)
        wide[:, 1:] = np.frombuffer(data, np.uint8).reshape(-1, 3)
        samples = wide.view("<i4")[:, 0].astype(np.float32) * np.float32(2**-31)
    else:
        bits = 8 * _BYTES[form.kind]
        samples = np.frombuffer(data, f"<i{bits // 8}").astype(np.float32)
        samples *= np.float32(2.0 ** (1 - bits))
    frames: Matrix = samples.reshape(-1, form.channels)
    return frames


def read_au_header(head: bytes) -> tuple[PcmFormat, int] | None:
    """Read the header of a float `.au` stream.

    Args:
        head: The stream's first bytes, as many as have come.

    Returns:
        The format and where the samples begin; None when more bytes are needed.

    Raises:
        AudioError: It is no such header.
    """
    if len(head) < _AU.size:
        return None
    magic, start, _, encoding, rate, channels = _AU.unpack_from(head)
    if magic != b".snd" or encoding != _AU_FLOAT or not rate or not channels or start > _AU_LONGEST:
        raise AudioError(
            "does not give sound in the form asked for", remedy="Check which ffmpeg is run."
        )
    return (PcmFormat("f32be", rate, channels), start) if len(head) >= start else None
